"""Memory: of one process, what is left of it, and whom the kernel ends first for want of it.

The gateway sets `oom_score_adj` of its children (Linux): a child knows neither the gateway's own value nor
when its version becomes production. Anybody may raise it, and lower it again as far as the value that a
privileged process set last, which a child inherits (proc(5); tried as an ordinary user). The gateway's own
value is never touched, and all others are above it: it goes last. The kernel adds it to a process's share of
the memory, in thousandths. The steps are wide, therefore: a small canary goes before a production that holds
most of the memory. With `memory.oom.group` nothing of this counts.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil

from router.core.memory import MIB, Resident, Room
from router.processes.cgroups import MOUNTED, OWN, chains, number

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> Resident:
    """Memory of process `pid` now, in 26 µs; nothing when it is gone, and on systems without /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
        return Resident(int(fields[1]) * _PAGE_BYTES, int(fields[2]) * _PAGE_BYTES)
    except (OSError, ValueError, IndexError):
        return Resident()


def proportional_bytes(pid: int) -> int:
    """Proportional set size of process `pid` now: its own pages, and its part of those it shares.

    Takes up to 20 ms. 0 when it is gone, belongs to somebody else, and on systems without /proc.
    """
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return 0


def files_bytes(directory: str) -> int:
    """What the files below `directory` have in all; 0 when there are none."""
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # it went away since
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


@dataclass(frozen=True, slots=True)
class _Layout:
    """The names of one cgroup version's files."""

    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]
    """Fields of `memory.stat`, the first that is there: page cache that the kernel gives up at will."""
    kills: str
    """The file with the field `oom_kill`."""


_V1 = _Layout(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "inactive_file"),  # only the first counts the cgroups below
    "memory.oom_control",
)
_V2 = _Layout(("memory.max", "memory.high"), "memory.current", ("inactive_file",), "memory.events")
_LAYOUTS = {1: _V1, 2: _V2}


class Memory:
    """The memory that this process and its children may use: the machine's, and that of its cgroups.

    Both versions are read, also side by side: on a hybrid machine the memory controller may be in either.
    """

    def __init__(self, cgroups: Path = MOUNTED, own: Path = OWN) -> None:
        """`cgroups` is where they are mounted, `own` names those of this process."""
        self._chains = [(_LAYOUTS[version], chain) for version, chain in chains("memory", cgroups, own)]
        """Per cgroup version: this process's own cgroup, then those above it."""
        self._ended = self._ends()

    def room(self) -> Room:
        """What can still be used before something is swapped out, slowed down or ended."""
        machine = psutil.virtual_memory()
        rooms = [Room(machine.available, f"the machine's {machine.total // MIB} MiB")]
        for layout, chain in self._chains:
            rooms += [room for cgroup in chain for room in _rooms(cgroup, layout)]
        return min(rooms, key=lambda room: room.available)

    @property
    def ends_all_together(self) -> bool:
        """Whether the kernel, out of memory, ends all of this process's cgroup (`memory.oom.group` of v2)."""
        return any(
            number(cgroup / "memory.oom.group") == 1
            for layout, chain in self._chains
            if layout is _V2
            for cgroup in chain
        )

    def ended_one(self) -> bool:
        """Whether the kernel ended a process of ours since it was last asked: true once for each one."""
        if self._ends() > self._ended:
            self._ended += 1
            return True
        return False

    def _ends(self) -> int:
        return sum(_field(chain[0] / layout.kills, "oom_kill") or 0 for layout, chain in self._chains)


def _rooms(cgroup: Path, layout: _Layout) -> Iterator[Room]:
    """One for each limit of `cgroup`. Page cache that the kernel gives up at will is room, too."""
    limits = [(name, limit) for name in layout.limits if (limit := number(cgroup / name)) is not None]
    if not limits or (used := number(cgroup / layout.used)) is None:
        return
    cache = _field(cgroup / "memory.stat", *layout.cache) or 0
    for name, limit in limits:
        yield Room(max(0, limit - used + cache), f"{name} of {limit // MIB} MiB")


def _field(path: Path, *names: str) -> int | None:
    """The first of these fields that the file has."""
    with suppress(OSError, ValueError):
        fields = dict(line.split(" ", 1) for line in path.read_text().splitlines() if " " in line)
        return next((int(fields[name]) for name in names if name in fields), None)
    return None


MEMORY = Memory()
"""One for the whole process, for the kernel counts the processes it ended and does not name them."""


_PROC = Path("/proc")
_HIGHEST = 1000


class Rank(Enum):
    """How early a child is ended; the value is the part of what can be added to this process's own score."""

    PRODUCTION = 0.1
    """Workers that production answers with."""
    HELPER = 0.8
    """What is started again without a caller's notice: fork server, agent, downloads."""
    FIRST = 1.0
    """Versions that are loading, canaries, spares and workers that were replaced."""


def score(own: int, rank: Rank) -> int:
    """`oom_score_adj` of a child of `rank`, where the gateway's own is `own`; both from -1000 to 1000."""
    span = min(_HIGHEST - own, _HIGHEST)
    return own + round(rank.value * span)


def set_rank(pid: int, rank: Rank) -> None:
    """Rank process `pid`, which must not have been waited for, and what it started; nothing where refused."""
    with suppress(OSError, ValueError):
        value = str(score(int((_PROC / "self" / "oom_score_adj").read_text()), rank))
        for process in with_descendants(pid):
            with suppress(OSError):  # it has ended, or runs as somebody else
                (_PROC / str(process) / "oom_score_adj").write_text(value)


def with_descendants(pid: int) -> Iterator[int]:
    """`pid`, and all that it started and that has not outlived its parent."""
    yield pid
    with suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from with_descendants(int(child))
