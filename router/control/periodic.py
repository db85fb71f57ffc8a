"""Runs ticks: a tick that raises does not stop its loop, and a loop can be triggered to tick now."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from router.core.events import LoopRecovered, Recorder, TickFailed
from router.core.redaction import redact


class PeriodicTask:
    """One loop: `tick()`, then a wait of `period` seconds or a trigger, whichever comes first."""

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[object]],
        period: float | Callable[[], float],
        recorder: Recorder,
    ) -> None:
        """A `period` that settings may change is asked for after each tick."""
        self.name = name
        self.last_tick: float | None = None
        """Loop time when the last tick ended; None before the first."""
        self.error = ""
        """Why the last tick failed; empty when it did not."""
        self._tick = tick
        self._period = period if callable(period) else partial(float, period)
        self._recorder = recorder
        self._triggered = asyncio.Event()
        self._awaited: list[asyncio.Future[None]] = []
        """Done when a tick has ended that is to begin yet."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin ticking."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"ticking {self.name}")

    def trigger(self) -> None:
        """Tick as soon as possible."""
        self._triggered.set()

    async def tick_now(self) -> None:
        """Tick as soon as possible, and return when a tick has ended that began after this was called."""
        ended = asyncio.get_running_loop().create_future()
        self._awaited.append(ended)
        self.trigger()
        await ended

    def describe(self) -> dict[str, Any]:
        """JSON-ready: how long ago the last tick ended, and why it failed; None before the first."""
        ended = self.last_tick
        since = None if ended is None else round(asyncio.get_running_loop().time() - ended, 3)
        return {"seconds_since_tick": since, "error": redact(self.error)}

    async def stop(self) -> None:
        """End the loop; a tick under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._triggered.clear()
            awaited, self._awaited = self._awaited, []
            try:
                await self._tick()
                if self.error:
                    self.error = ""
                    self._recorder.record(LoopRecovered(self.name))
            except Exception as error:  # noqa: BLE001 - whatever a tick raises, the next one must come
                self.error = f"{type(error).__name__}: {error}"
                self._recorder.record(TickFailed(self.name, self.error))
            self.last_tick = loop.time()
            for ended in awaited:
                if not ended.done():  # else nobody waits any more
                    ended.set_result(None)
            # From start to start, so that a slow tick does not stretch the period it promises.
            rest = max(0.0, started + self._period() - self.last_tick)
            try:
                await asyncio.wait_for(self._triggered.wait(), rest)
            except TimeoutError:
                continue
