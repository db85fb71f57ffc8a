"""Work that several callers wait for, done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class TasksClosed(Exception):
    """The work was cancelled, because `SharedTasks` closed."""


@dataclass(slots=True)
class _Shared(Generic[_T]):
    task: asyncio.Task[_T]
    waiting: int = 0


class SharedTasks(Generic[_K, _T]):
    """Who asks for what is under way gets the same answer at the same time.

    When all who waited for it have been cancelled, it is cancelled too, and the last one waits for its end.
    """

    def __init__(self) -> None:
        self._shared: dict[_K, _Shared[_T]] = {}
        self._closed = False

    async def run(self, wanted: _K, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What the `work` for `wanted` returns or raises; begun unless it is under way. Or TasksClosed."""
        shared = self._shared.get(wanted)
        if shared is None:
            shared = self._start(wanted, work)
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        except asyncio.CancelledError:
            if shared.task.cancelled() and self._closed:
                raise TasksClosed from None
            raise
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                self._forget(wanted, shared)
                shared.task.cancel()
                await asyncio.wait({shared.task})

    async def close(self) -> None:
        """End all work; those who wait get TasksClosed."""
        self._closed = True
        tasks = {shared.task for shared in self._shared.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, wanted: _K, work: Callable[[], Coroutine[Any, Any, _T]]) -> _Shared[_T]:
        shared = _Shared(asyncio.create_task(work()))
        shared.task.add_done_callback(lambda _: self._forget(wanted, shared))
        self._shared[wanted] = shared
        return shared

    def _forget(self, wanted: _K, shared: _Shared[_T]) -> None:
        if self._shared.get(wanted) is shared:
            del self._shared[wanted]
        if shared.task.done() and not shared.task.cancelled():
            shared.task.exception()  # seen, also when the last one who waited has just been cancelled
