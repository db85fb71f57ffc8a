"""Replaces workers that grew past `worker_memory_mib`: another one joins first, then the old one goes."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from router.core.events import Recorder, WorkerEnded
from router.core.memory import MIB, Pace, is_runaway
from router.serving.pool.supply import WorkerSupply
from router.serving.pool.worker_slot import WorkerSlot
from router.serving.ports import WorkerHandle

LOOK_SECONDS = 0.5
"""Between two readings of the workers' memory."""


class MemoryRecycler:
    """Looks at the workers of one version while there is a limit; one is replaced at a time."""

    def __init__(
        self,
        crew: WorkerSupply,
        recorder: Recorder,
        seats: Callable[[], Sequence[WorkerSlot]],
        swap: Callable[[Sequence[WorkerSlot], WorkerHandle], None],
        limit_mib: Callable[[], int | None],
    ) -> None:
        """`swap(old, fresh)` lets a worker join and then those seats go that have not ended meanwhile."""
        self._crew = crew
        self._recorder = recorder
        self._seats = seats
        self._swap = swap
        self._limit_mib = limit_mib
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        self._looking: asyncio.TimerHandle | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._leaving: dict[WorkerSlot, str] = {}
        """Workers that were replaced and are not gone yet, and what is told when they are."""

    def watch(self) -> None:
        """Look, from now on, while there is a limit; idempotent."""
        if self._looking is None and (self._limit_mib() is not None or self._leaving):
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    async def close(self) -> None:
        """Look no more; those that have not left yet are the pool's to end."""
        self._limit_mib = lambda: None
        if self._looking is not None:
            self._looking.cancel()
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)

    def _look(self) -> None:
        self._looking = None
        if (limit_mib := self._limit_mib()) is not None:
            limit = limit_mib * MIB
            for seat in list(self._leaving):
                seconds = seat.running_seconds(alone=True)
                if seat.end_reason != "memory" and is_runaway(_growth(seat), limit, seconds):
                    self._leaving[seat] += f", and this one was ended in a predict of {seconds:.1f} s"
                    seat.end("memory")
            over = [seat for seat in self._seats() if _growth(seat) > limit]
            idle = self._replacing is None or self._replacing.done()
            if over and idle and self._pace.allows(self._loop.time()):
                self._replacing = self._loop.create_task(
                    self._recycle(over, limit), name=f"recycle {self._crew.spec.version}"
                )
        self.watch()

    async def _recycle(self, over: Sequence[WorkerSlot], limit: int) -> None:
        for seat in over:
            try:
                fresh = await self._crew.another()
            except Exception as error:  # noqa: BLE001 - the old one serves on, and the next try may do
                self._crew.last_error = str(error)
                self._pace.replaced(self._loop.time(), in_vain=True)
                return
            stayed = not seat.worker.exited.done()
            if stayed:  # else it ended by itself meanwhile, and is the pool's to mourn
                grown = f"it grew by {_growth(seat) // MIB} MiB after it was READY"
                self._leaving[seat] = f"{grown}, the limit is {limit // MIB}; another joined first"
                seat.worker.exited.add_done_callback(partial(self._left, seat))
            self._swap([seat] if stayed else [], fresh)
            in_vain = seat.early is None or seat.early.total - seat.worker.ready.total > limit
            self._pace.replaced(self._loop.time(), in_vain=in_vain)

    def _left(self, seat: WorkerSlot, _exited: object) -> None:
        self._recorder.record(WorkerEnded(self._crew.spec.version, "memory", self._leaving.pop(seat)))


def _growth(seat: WorkerSlot) -> int:
    return seat.worker.resident().total - seat.worker.ready.total
