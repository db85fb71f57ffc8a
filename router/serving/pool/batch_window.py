"""When waiting requests are handed to a worker: at once, or when no more of them are coming in."""

import asyncio
from collections.abc import Callable, Sized

QUIET_TURNS = 5
"""Measured: with one more, frames grow no longer."""


class BatchWindow:
    """Calls `dispatch` a little later, once for all who asked for it meanwhile."""

    def __init__(self, queue: Sized, dispatch: Callable[[], None]) -> None:
        self._queue = queue
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None

    @property
    def under_way(self) -> bool:
        """True while `dispatch` is to be called."""
        return self._handle is not None

    def soon(self, *, crowded: bool) -> None:
        """After the requests that arrived in this turn of the loop: they share a frame.

        Where they came together before, `crowded`, more are on their way: then after some turns in which none
        came. A turn in which nothing is read takes microseconds, and a lone client does not wait for any.
        """
        if self._handle is None:
            step = self._look if crowded else self._dispatch
            self._handle = self._loop.call_soon(step)

    def end(self) -> None:
        """Whoever calls has dispatched, or will not any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self, waiting: int = 0, quiet: int = 0) -> None:
        now = len(self._queue)
        quiet = quiet + 1 if now == waiting else 0
        if quiet == QUIET_TURNS:
            self._dispatch()
        else:
            self._handle = self._loop.call_soon(self._look, now, quiet)
