"""Copies in use are locked on a thread of their own: what hangs is the disk, never the gateway."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from router.adapters import cache_locks
from router.adapters.cache_locks import CacheLocks
from router.core.ids import VersionId

V1 = VersionId("m", 1)
PATIENCE_SECONDS = 20.0


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Of a copy in the cache."""
    (tmp_path / "1-abc" / "files").mkdir(parents=True)
    return tmp_path / "1-abc" / "files"


def is_locked(files: Path) -> bool:
    descriptor = os.open(files.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class HangingDisk:
    """Locks that wait until the disk answers."""

    def __init__(self, lock: Callable[[Path], int | None]) -> None:
        self.asked, self.answers, self.answered = (threading.Event() for _ in range(3))
        self._lock = lock

    def __call__(self, place: Path) -> int | None:
        self.asked.set()
        assert self.answers.wait(PATIENCE_SECONDS)
        try:
            return self._lock(place)
        finally:
            self.answered.set()

    async def is_asked(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.asked.is_set():
                await asyncio.sleep(0.001)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> HangingDisk:
    disk = HangingDisk(cache_locks._lock)
    monkeypatch.setattr(cache_locks, "_lock", disk)
    return disk


async def test_a_copy_stays_locked_until_it_is_released(files: Path) -> None:
    locks = CacheLocks()

    assert await locks.acquire(V1, str(files))
    assert is_locked(files)
    locks.retain([V1])
    assert (is_locked(files), locks.files_of(V1)) == (True, str(files))
    locks.retain(())
    await locks.close()

    assert (is_locked(files), locks.files_of(V1)) == (False, None)


async def test_a_copy_that_was_removed_is_not_locked(files: Path) -> None:
    files.rmdir()
    files.parent.rmdir()
    locks = CacheLocks()

    assert not await locks.acquire(V1, str(files))

    await locks.close()


async def test_a_disk_that_hangs_holds_up_the_lock_and_nothing_else(files: Path, disk: HangingDisk) -> None:
    """On the event loop it would hold up every request, probe and signal."""
    locks = CacheLocks()
    locking = asyncio.ensure_future(locks.acquire(V1, str(files)))
    await disk.is_asked()

    assert not locking.done()

    disk.answers.set()
    assert await locking
    await locks.close()


async def test_who_gives_up_while_the_disk_hangs_leaves_no_lock(files: Path, disk: HangingDisk) -> None:
    locks = CacheLocks()
    locking = asyncio.ensure_future(locks.acquire(V1, str(files)))
    await disk.is_asked()
    locking.cancel()
    await asyncio.wait({locking})

    disk.answers.set()
    assert disk.answered.wait(PATIENCE_SECONDS)

    async with asyncio.timeout(PATIENCE_SECONDS):
        while is_locked(files):
            await asyncio.sleep(0.001)
    assert locks.files_of(V1) is None
    await locks.close()
