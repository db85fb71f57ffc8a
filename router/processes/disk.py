"""Work that waits for a disk, in threads that nobody waits for at the exit.

The threads of asyncio's own executor are joined when the process ends: one that hangs on a disk, or on a
network's file system, would keep it from ending for ever.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Report = Callable[[], None]
_Job = Callable[[], _Report]

MOST_THREADS = 8
"""So many pieces of work wait for a disk at once; further ones wait for a thread."""


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
