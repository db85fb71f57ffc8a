"""Runs ticks: a tick that raises does not stop its loop, and a loop can be poked to tick now."""

import asyncio
from collections.abc import Awaitable, Callable

from router.core.events import LoopRecovered, Recorder, TickFailed


class PeriodicTask:
    """One loop: `tick()`, then a wait of `period()` seconds or a poke, whichever comes first."""

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[object]],
        period: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self.name = name
        self.last_tick: float | None = None
        """Loop time when the last tick ended; None before the first."""
        self._tick = tick
        self._period = period
        self._recorder = recorder
        self._failed = False
        """True when the last tick raised."""
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin ticking."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"ticking {self.name}")

    def poke(self) -> None:
        """Tick as soon as possible."""
        self._poked.set()

    async def stop(self) -> None:
        """End the loop; a tick under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._poked.clear()
            try:
                await self._tick()
                if self._failed:
                    self._failed = False
                    self._recorder.record(LoopRecovered(self.name))
            except Exception as error:  # noqa: BLE001 - whatever a tick raises, the next one must come
                self._failed = True
                self._recorder.record(TickFailed(self.name, f"{type(error).__name__}: {error}"))
            self.last_tick = loop.time()
            # From start to start, so that a slow tick does not stretch the period it promises.
            rest = max(0.0, started + self._period() - self.last_tick)
            try:
                await asyncio.wait_for(self._poked.wait(), rest)
            except TimeoutError:
                continue
