"""Work that waits for a disk, in threads that nobody waits for at the exit.

The threads of asyncio's own executor are joined when the process ends: one that hangs on a disk, or on a
network's file system, would keep it from ending for ever.
"""

import asyncio
import os
import queue
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Report = Callable[[], None]
_Job = Callable[[], _Report]

MOST_THREADS = 8
"""So many pieces of work wait for a disk at once; further ones wait for a thread."""
_CLOSE_SECONDS = 5.0


class DiskThreads:
    """Threads that are started when they are needed and then stay; they end with the process."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    async def run(self, work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """What `work` returns or raises. Cancelled, nobody waits for it any more; it goes on.

        Where the system gives no thread at all, it runs here, and the event loop waits for it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def job() -> _Report:
            try:
                outcome = _settled(done.set_result, work(*arguments, **options))
            except BaseException as error:  # noqa: BLE001 - it is for whoever waits
                outcome = _settled(done.set_exception, error)
            return lambda: _report(loop, done, outcome)

        self._submit(job)
        return await done

    def _submit(self, job: _Job) -> None:
        if not self._idle.acquire(blocking=False) and self._threads < self._most:
            try:
                threading.Thread(target=self._work, name="disk", daemon=True).start()
                self._threads += 1
            except RuntimeError:  # a limit of threads or processes: those that there are do it
                if not self._threads:
                    job()()
                    return
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            report = self._jobs.get()()
            self._idle.release()  # first, so that what follows on the report finds this thread
            report()
            del report  # and what it returned, while nothing comes


def _settled(settle: Callable[[_T], None], outcome: _T) -> _Report:
    return lambda: settle(outcome)


def _report(loop: asyncio.AbstractEventLoop, done: asyncio.Future[_T], outcome: _Report) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(lambda: None if done.done() else outcome())


in_disk_thread = DiskThreads().run
"""As `asyncio.to_thread`, for work on a disk; see `DiskThreads.run`."""


class Removals:
    """Removes what workers had for themselves, while everything else goes on."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    def remove(self, directory: Path) -> None:
        """Remove `directory`, soon, with all that is in it."""
        self.run(remove_tree, directory)

    def run(self, work: Callable[..., None], *arguments: Path) -> None:
        """Begin `work`, which removes something."""
        removal = asyncio.ensure_future(in_disk_thread(work, *arguments))
        self._running.add(removal)
        removal.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Return when all is removed, as far as the disk does so in time."""
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSE_SECONDS)


def remove_tree(directory: Path) -> None:
    """Remove `directory` as far as that is possible, also where a version took its own rights away."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        for folder, names, _ in os.walk(_opened(str(directory))):
            for name in names:
                _opened(os.path.join(folder, name))  # before os.walk reads what is in it
        shutil.rmtree(directory, ignore_errors=True)


def _opened(folder: str) -> str:
    if not os.path.islink(folder):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    return folder
