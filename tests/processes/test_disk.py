"""Threads for work on a disk: nobody waits for one that hangs, and there is always somebody who does it."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from router.processes.disk import DiskThreads


async def test_results_and_errors_come_back_and_idle_threads_are_used_again() -> None:
    threads = DiskThreads()

    assert len({await threads.run(threading.get_ident) for _ in range(1000)}) == 1
    with pytest.raises(ValueError, match="disk"):
        await threads.run(int, "disk")


async def test_work_beyond_the_threads_waits_for_one() -> None:
    threads, go_on = DiskThreads(2), threading.Event()
    work = [asyncio.ensure_future(threads.run(go_on.wait, 30)) for _ in range(2)]
    further = asyncio.ensure_future(threads.run(str, "done"))
    await asyncio.wait({further}, timeout=0.1)
    assert not further.done()

    go_on.set()

    assert await asyncio.gather(*work, further) == [True, True, "done"]


async def test_without_any_thread_it_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    threads = DiskThreads()
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    assert await threads.run(threading.get_ident) == threading.get_ident()


def test_a_disk_that_hangs_keeps_no_process_from_its_end() -> None:
    program = """
import asyncio, threading
from router.processes.disk import in_disk_thread

async def main():
    work = asyncio.ensure_future(in_disk_thread(threading.Event().wait))
    await asyncio.wait({work}, timeout=0.1)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_copy_whose_removal_hangs_keeps_no_process_from_its_end() -> None:
    program = """
import asyncio, threading
from pathlib import Path
from router.processes import disk
from router.processes.own_copies import OwnCopies

disk._CLOSE_SECONDS = 0.1
disk.remove_tree = lambda _directory: threading.Event().wait()

async def main():
    copies = OwnCopies()
    copies.remove(Path("/nowhere"))
    await copies.close()

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
