"""Processes that others left to us: as subreaper, or as PID 1, this process has to wait for them."""

import os
from contextlib import suppress
from pathlib import Path

LOOKS = 5
"""A child of ours is waited for through its pidfd within three seconds; what is dead longer is not ours."""


class Reaper:
    """Reads the exit statuses of processes that this one did not start, and of no other."""

    def __init__(self) -> None:
        self._dead: dict[int, int] = {}

    async def tick(self) -> None:
        """One look, a second after the former one."""
        if not _somebody_is_dead():
            self._dead.clear()
            return
        self._dead = {pid: self._dead.get(pid, 0) + 1 for pid in _dead_children()}
        for pid in [pid for pid, looks in self._dead.items() if looks >= LOOKS]:
            del self._dead[pid]
            with suppress(ChildProcessError):  # somebody waited for it after all
                _read_status(pid)


def _somebody_is_dead() -> bool:
    # WNOWAIT leaves the status where it is: it may be a child whose owner is about to read it.
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # there is no child at all
        return False


def _read_status(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _dead_children() -> list[int]:
    pids = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in _children(task)]
    return [pid for pid in pids if _is_dead(pid)]


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:  # the thread has ended
        return []


def _is_dead(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # The name in parentheses may hold anything, so the state is looked for behind the last one.
    return stat.rpartition(b")")[2].split()[:1] == [b"Z"]
