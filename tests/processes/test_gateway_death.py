"""A child never outlives the gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "busy", ["", "hanging", "at once", "helper"], ids=["idle", "busy in C", "importing", "with a helper"]
)
def test_no_child_is_left_after_the_gateway_was_killed(
    versions: Path, tmp_path: Path, slack: float, busy: str
) -> None:
    """Two seconds, also when a child imports, or is busy in C and holds the interpreter's lock."""
    if busy == "hanging":
        busy = str(tmp_path / busy)
    gateway = subprocess.Popen(
        [sys.executable, "-m", "tests.processes.gateway", versions, busy],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert gateway.stdout is not None
    with gateway, gateway.stdout:
        pids = json.loads(gateway.stdout.readline())
        assert len(pids) == {"at once": 1, "helper": 4}.get(busy, 3)
        assert not any(map(ended, pids))

        gateway.kill()
        gateway.wait()

    wait_until(lambda: all(map(ended, pids)), 2 * slack, lambda: str([pid for pid in pids if not ended(pid)]))


def ended(pid: int) -> bool:
    """True for a process that is gone, or that only waits to be waited for; then it is."""
    try:
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return False
        os.waitpid(pid, os.WNOHANG)  # ours, where other tests made us a subreaper
    except (psutil.NoSuchProcess, ChildProcessError):
        return True
    return True
