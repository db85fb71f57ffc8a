"""What the kernel says about memory: of one process, of what is left, and of whom it ended for want of it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from router.core.memory import Resident

_CGROUPS = Path("/sys/fs/cgroup")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> Resident:
    """Memory of process `pid` now, in 26 µs; nothing when it is gone, and on systems without /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
        return Resident(int(fields[1]) * _PAGE_BYTES, int(fields[2]) * _PAGE_BYTES)
    except (OSError, ValueError, IndexError):
        return Resident()


class Memory:
    """The memory that this process and its children may use: the machine's, and that of its cgroups (v2)."""

    def __init__(self, cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> None:
        """`cgroups` is where they are mounted, `own` names the one of this process."""
        self._cgroups = tuple(_own_and_above(cgroups, own))
        self._ended = self._ends()

    def available_bytes(self) -> int:
        """What can still be used before something is swapped out or ended."""
        rooms = (_room(cgroup) for cgroup in self._cgroups)
        return min([psutil.virtual_memory().available, *(room for room in rooms if room is not None)])

    def ended_one(self) -> bool:
        """Whether the kernel ended a process of ours since it was last asked: true once for each one."""
        if self._ends() > self._ended:
            self._ended += 1
            return True
        return False

    def _ends(self) -> int:
        return _field(self._cgroups[0] / "memory.events", "oom_kill") if self._cgroups else 0


def _own_and_above(cgroups: Path, own: Path) -> Iterator[Path]:
    with suppress(OSError):
        paths = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::/")]
        for path in paths:
            here = cgroups / path.lstrip("/")
            # A container sees its own cgroup as the root of what is mounted, whatever its name outside is.
            here = here if here.is_dir() and ".." not in here.parts else cgroups
            while here != cgroups:
                yield here
                here = here.parent
            yield cgroups


def _room(cgroup: Path) -> int | None:
    """None without a limit. Page cache that the kernel gives up at will is room, too."""
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no such file in the root; `max` where there is no limit
        return None
    return max(0, limit - used + _field(cgroup / "memory.stat", "inactive_file"))


def _field(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
