"""Copies that this gateway uses, locked so that nobody removes them; the kernel lets go when it dies."""

import fcntl
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from router.core.ids import VersionId


class HeldCopies:
    """A shared lock on the cache's directory of each version in use. Reads nothing in it."""

    def __init__(self) -> None:
        self._held: dict[VersionId, tuple[str, int]] = {}

    def hold(self, version: VersionId, files: str) -> bool:
        """Keep the directory above `files` in place; False when it has just been removed or replaced."""
        place = Path(files).parent
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Whoever removed it did so before we had the lock: then the name leads elsewhere by now.
            still_there = os.path.samestat(os.fstat(descriptor), os.stat(place))
        except OSError:
            still_there = False
        if not still_there:
            os.close(descriptor)
            return False
        _touch(descriptor)
        self._release(version)
        self._held[version] = files, descriptor
        return True

    def files_of(self, version: VersionId) -> str | None:
        """The directory that is held for `version`."""
        held = self._held.get(version)
        return held[0] if held else None

    def retain(self, versions: Collection[VersionId]) -> None:
        """Let go of everything else."""
        for version in self._held.keys() - set(versions):
            self._release(version)

    def _release(self, version: VersionId) -> None:
        if (held := self._held.pop(version, None)) is not None:
            _touch(held[1])
            os.close(held[1])


def _touch(descriptor: int) -> None:
    """The time of the last use, by which the cache is emptied."""
    with suppress(OSError):
        os.utime(descriptor)
