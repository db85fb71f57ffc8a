"""Orphans that were left to us are waited for; children of our own keep their exit status."""

import os
import subprocess
import sys
import time

import pytest

from router.processes.process import LOOKS, Reaper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

SUBREAPER = """
import asyncio, os, subprocess, sys, time
from router.processes.process import LOOKS, Reaper
from router.processes.process import become_subreaper
become_subreaper()
# A shell that leaves two children behind, which end at once.
subprocess.run(["sh", "-c", "true & true & exit 0"], check=True)
ours = subprocess.Popen(["sh", "-c", "exit 7"])
os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
orphans = Reaper()

def zombies():
    files = [f"/proc/self/task/{task}/children" for task in os.listdir("/proc/self/task")]
    pids = [pid for file in files for pid in open(file).read().split()]
    return sorted(int(p) for p in pids if open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[0] == "Z")

while len(zombies()) < 3:
    time.sleep(0.01)

async def main():
    for _ in range(LOOKS - 1):
        await orphans.tick()
    before = zombies()
    assert ours.pid in before and len(before) == 3, before
    assert ours.wait() == 7  # read by its owner, as it was
    await orphans.tick()
    assert zombies() == [], zombies()
    await orphans.tick()  # and without any child
asyncio.run(main())
"""


def test_orphans_are_waited_for_and_our_own_children_keep_their_exit_status() -> None:
    done = subprocess.run([sys.executable, "-c", SUBREAPER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_a_child_whose_owner_reads_its_status_in_time_is_left_alone() -> None:
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    orphans, started = Reaper(), time.monotonic()
    for _ in range(LOOKS - 1):
        await orphans.tick()

    assert child.wait() == 3
    assert time.monotonic() - started < 1, "a look takes no time"
