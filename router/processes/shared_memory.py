"""Shared memory that a worker left behind: under /dev/shm a file outlives whoever made it, and takes memory.

A version's own libraries remove theirs at their end. One that is killed removes nothing, and what it started
for that is killed with it. A process that has ended has no maps any more, so living workers are looked at:
each second, and before the gateway ends one.
"""

import asyncio
import os
import stat
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from router.processes.disk import in_disk_thread
from router.processes.memory import with_descendants

_DIRECTORY = Path("/dev/shm")  # noqa: S108 - nothing is made there
_PROC = Path("/proc")
_MOST_LOOKS = 5
"""Looks at a segment of an ended worker that somebody else maps; then it is theirs, and stays."""
_CLOSE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Segment:
    """A file in /dev/shm; its inode says whether it is still the same one."""

    name: str
    file: tuple[int, int]
    """Device and inode."""


class Mapper(Protocol):
    """A worker."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def running(self) -> bool:
        """False once its exit status was read: after that, another process may have its number."""


@dataclass(slots=True)
class _Watched:
    before: Set[_Segment]
    """What was there when it was started: not its own."""
    mapped: set[_Segment] = field(default_factory=set)
    """What it, or a process that it started, was seen to map."""


class SharedMemory:
    """Removes shared memory that ended workers mapped, that appeared after their start, and nobody else maps.

    `watch` a worker at its start, `look` before it is ended, `ended` when it has. `tick` does the rest.
    """

    def __init__(self, directory: Path = _DIRECTORY) -> None:
        """`directory` is where shared memory has its files; systems without it have nothing to remove."""
        self._directory = directory
        self._watched: dict[Mapper, _Watched] = {}
        self._orphaned: dict[_Segment, int] = {}
        """What ended workers mapped, and in how many looks somebody else did since."""

    def watch(self, worker: Mapper) -> None:
        """`worker` was started, and has not been given a version yet."""
        self._watched[worker] = _Watched(self._present())

    def look(self) -> None:
        """See what workers map now. Costs microseconds while there is nothing new in `directory`."""
        present = self._present() if self._watched else frozenset()
        for worker, watched in self._watched.items():
            new = present - watched.before - watched.mapped
            if new and worker.running:
                mapped = _mapped_by(map(str, with_descendants(worker.pid)))
                watched.mapped |= {one for one in new if one.file in mapped}

    def ended(self, worker: Mapper) -> None:
        """`worker` has ended, and what it started has been ended."""
        self._orphaned.update(dict.fromkeys(self._watched.pop(worker).mapped, 0))

    async def tick(self) -> None:
        """One look, and the removal of what nobody maps any more."""
        self.look()
        if self._orphaned:
            orphaned = frozenset(self._orphaned)
            mapped = await in_disk_thread(_remove_unmapped, self._directory, orphaned)
            looks = {segment: self._orphaned[segment] + 1 for segment in mapped}
            for segment in orphaned:
                del self._orphaned[segment]
            # What a worker started ends a moment after it.
            self._orphaned |= {segment: n for segment, n in looks.items() if n < _MOST_LOOKS}

    async def close(self) -> None:
        """All workers have ended: remove what they left, waiting a moment for what they started to end."""
        for _ in range(_MOST_LOOKS):
            await self.tick()
            if not self._orphaned:
                return
            await asyncio.sleep(_CLOSE_PAUSE_SECONDS)

    def _present(self) -> frozenset[_Segment]:
        try:
            with os.scandir(self._directory) as entries:
                return frozenset(_segments(entries))
        except OSError:
            return frozenset()


def _segments(entries: Iterable["os.DirEntry[str]"]) -> Iterator[_Segment]:
    own = os.geteuid()
    for entry in entries:
        with suppress(OSError):  # it was removed since
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_uid == own:
                yield _Segment(entry.name, (status.st_dev, status.st_ino))


def _remove_unmapped(directory: Path, segments: Set[_Segment]) -> Set[_Segment]:
    """Remove those that no process maps; returns those that one does, or may. Reads every process's maps."""
    mapped, unreadable = set(), False
    for pid in filter(str.isdigit, os.listdir(_PROC)):
        try:
            mapped |= _files_mapped_by(pid)
        except PermissionError:  # another user's
            unreadable = True
        except OSError:  # it has ended
            continue
    kept = set()
    for segment in segments:
        path = directory / segment.name
        with suppress(OSError):
            status = os.lstat(path)
            if (status.st_dev, status.st_ino) != segment.file:
                continue  # it is gone, and another one has its name
            others = unreadable and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            if others or segment.file in mapped:
                kept.add(segment)
            else:
                path.unlink()
    return kept


def _mapped_by(pids: Iterable[str]) -> set[tuple[int, int]]:
    mapped = set()
    for pid in pids:
        with suppress(OSError):  # it has ended, or runs as somebody else
            mapped |= _files_mapped_by(pid)
    return mapped


def _files_mapped_by(pid: str) -> set[tuple[int, int]]:
    """Device and inode of each shared file that a process maps. Raises OSError."""
    files = set()
    for line in (_PROC / pid / "maps").read_bytes().splitlines():
        # 7f15-7f16 rw-s 00000000 00:1b 855    /dev/shm/psm_05821cca
        _, rights, _, device, inode, *_ = line.split(maxsplit=5)
        if rights.endswith(b"s"):
            major, _, minor = device.partition(b":")
            files.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return files
