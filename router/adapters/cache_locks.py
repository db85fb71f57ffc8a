"""Locks on what this gateway uses of the cache, taken and released on a thread of their own."""

import asyncio
import fcntl
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from router.core.ids import VersionId

_GRACE_SECONDS = 1.0


class CacheLocks:
    """A shared lock on one directory of the cache for each version in use, so that no gateway removes it: on
    that of its copy, or of its environment. Several versions may use one directory.

    The kernel releases it when this process ends. Nothing in the directory is read. What touches the disk
    runs on one thread, in the order in which it was asked for: a cache on a network may hang, requests go on.
    """

    def __init__(self) -> None:
        self._locks: dict[VersionId, tuple[str, int]] = {}
        # One thread: a release that was asked for first is done before the next lock is taken.
        self._thread = ThreadPoolExecutor(1, "cache-locks")

    async def acquire(self, version: VersionId, files: str) -> bool:
        """Keep the directory above `files` in place for `version`, and no other one any more; False when it
        has just been removed or replaced."""
        try:
            locking = asyncio.get_running_loop().run_in_executor(self._thread, _lock, Path(files).parent)
        except RuntimeError:  # closed: nobody uses it any more
            return False
        try:
            descriptor = await asyncio.shield(locking)
        except asyncio.CancelledError:
            # The thread goes on; what it locks belongs to nobody then.
            locking.add_done_callback(lambda done: self._close(done.result()))
            raise
        if descriptor is None:
            return False
        self._release(version)
        self._locks[version] = files, descriptor
        return True

    def files_of(self, version: VersionId) -> str | None:
        """The directory that is locked for `version`."""
        lock = self._locks.get(version)
        return lock[0] if lock else None

    def retain(self, versions: Collection[VersionId]) -> None:
        """Release everything else, soon: before any lock that is asked for later."""
        for version in self._locks.keys() - set(versions):
            self._release(version)

    async def close(self) -> None:
        """Release everything; waits a second at most for a disk that hangs."""
        self.retain(())
        with suppress(RuntimeError):  # closed before
            last = asyncio.get_running_loop().run_in_executor(self._thread, _nothing)
            await asyncio.wait({last}, timeout=_GRACE_SECONDS)
        self._thread.shutdown(wait=False)

    def _release(self, version: VersionId) -> None:
        if (lock := self._locks.pop(version, None)) is not None:
            self._close(lock[1])

    def _close(self, descriptor: int | None) -> None:
        if descriptor is not None:
            with suppress(RuntimeError):  # after `close`: the kernel releases it
                self._thread.submit(_unlock, descriptor)


def _lock(place: Path) -> int | None:
    """A descriptor of the locked directory; None when it has just been removed or replaced."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Whoever removed it did so before we had the lock: then the name leads elsewhere by now.
        still_there = os.path.samestat(os.fstat(descriptor), os.stat(place))
    except OSError:
        still_there = False
    if not still_there:
        os.close(descriptor)
        return None
    _touch(descriptor)
    return descriptor


def _unlock(descriptor: int) -> None:
    _touch(descriptor)
    os.close(descriptor)


def _touch(descriptor: int) -> None:
    """The time of the last use, by which the cache is emptied."""
    with suppress(OSError):
        os.utime(descriptor)


def _nothing() -> None:
    """Done when all that was asked for before it is done."""
