"""What keeps a version's workers fit: extra ones while predicts are stuck, fresh ones for those that grew.

And while nothing waits, shared predicts are repeated alone, to see that sharing changed no answer.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from router.core.backoff import Backoff
from router.core.events import Recorder, WorkerEnded
from router.core.memory import MIB
from router.serving.pool.admission import Admission
from router.serving.pool.request_queue import RequestQueue
from router.serving.pool.supply import WorkerSupply
from router.serving.pool.worker_slot import WorkerSlot
from router.serving.ports import PoolSettings, WorkerHandle

SURGE_LOOK_SECONDS = 0.25
"""Between two looks for stuck predicts."""
MOST_EXTRA = 2
STUCK_SECONDS = 1.0
TIMES_TYPICAL = 5.0
"""A predict that ran longer than a second, and than five typical ones, holds others up."""
KEPT_SECONDS = 30.0
"""How long the extra workers stay after the last such predict: it may come again."""

MEMORY_LOOK_SECONDS = 0.5
"""Between two readings of the workers' memory."""
RECYCLE_DELAYS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th replacement in a row that was in vain: its successor is over the limit as soon."""
RUNAWAY_TIMES = 2
RUNAWAY_SECONDS = 1.0

IDLE_SECONDS = 0.01
"""A version that had no request for as long, and for as long as a predict takes, repeats what it has to."""


class UpkeptPool(Protocol):
    """What a pool shows to its upkeep; all of it is read at each look."""

    @property
    def settings(self) -> PoolSettings:
        """In force now."""

    @property
    def is_kept(self) -> bool:
        """Whether no alias asks for the version, and nothing is to be loaded for it."""

    @property
    def slots(self) -> Sequence[WorkerSlot]:
        """Workers that serve."""

    @property
    def queue(self) -> RequestQueue:
        """What waits for them."""

    @property
    def leases(self) -> int:
        """Requests that wait or run."""

    @property
    def admission(self) -> Admission:
        """What is known of the cost of requests."""

    @property
    def supply(self) -> WorkerSupply:
        """Where workers come from."""

    def dispatch(self) -> None:
        """Hand over what waits."""

    def fill(self) -> None:
        """Bring the number of workers to what it should be."""

    def replace(self, old: Sequence[WorkerSlot], fresh: WorkerHandle) -> None:
        """`fresh` joins, then those of the `old` ones go that have not ended meanwhile."""

    async def end_workers(self, slots: Sequence[WorkerSlot]) -> None:
        """Let `slots` answer what they have, and wait until they and all that were let go have ended."""


def is_stuck(running_seconds: float, typical_seconds: float) -> bool:
    """Whether a predict that has run so long holds others up; a slow version's usual one does not."""
    return running_seconds > max(STUCK_SECONDS, TIMES_TYPICAL * typical_seconds)


class ExtraWorkers:
    """How many workers beside those of the settings keep callers from waiting for one endless predict.

    One more when every worker is stuck and requests wait; none when none has been stuck for long. Pure: time
    comes in as an argument.
    """

    def __init__(self) -> None:
        self.count = 0
        """Workers above the settings' number, 0 to 2."""
        self._stuck_at = 0.0

    def look(self, now: float, *, stuck: int, workers: int, wanted: int, waiting: int) -> None:
        """Decide anew. `wanted` is how many workers there should be; while there are fewer, one is coming."""
        if stuck:
            self._stuck_at = now
        if waiting and stuck == workers == wanted and self.count < MOST_EXTRA:
            self.count += 1
        elif not stuck and now - self._stuck_at > KEPT_SECONDS:
            self.count = 0


class SurgeScaler:
    """Adds workers while all of a version's are stuck, and has what shares their batches asked elsewhere.

    It looks from `watch` until there is nothing to see; `watch` again whenever requests wait.
    """

    def __init__(self, pool: UpkeptPool) -> None:
        self._pool = pool
        self._extra = ExtraWorkers()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        settings = self._pool.settings
        if settings.elsewhere:
            return 1
        return settings.workers + (0 if settings.in_turn else self._extra.count)

    def watch(self) -> None:
        """Look, from now on, until there is nothing to see; idempotent."""
        if self._timer is None:
            self._timer = self._loop.call_later(SURGE_LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        slots, queue = self._pool.slots, self._pool.queue
        typical, isolated = self._pool.admission.predict_seconds, queue.head_is_isolated
        stuck = [slot for slot in slots if is_stuck(slot.running_seconds(isolated=isolated), typical)]
        for slot in stuck:
            queue.put_back(slot.release_stuck())
        before, waiting = self._extra.count, len(queue)
        held_up = 0 if self._pool.settings.in_turn else waiting  # there, no worker comes beside the others
        self._extra.look(
            self._loop.time(), stuck=len(stuck), workers=len(slots), wanted=self.wanted, waiting=held_up
        )
        if waiting or self._extra.count or any(slot.load for slot in slots):
            self.watch()
        if self._extra.count != before:
            self._pool.fill()
        self._pool.dispatch()


def is_runaway(growth: int, limit: int, running_seconds: float) -> bool:
    """Whether one predict is to be ended, after another worker has joined. All sizes in bytes.

    At twice the limit, and only when that predict has run for a second: what short ones have left behind is
    gone as soon as the last of them is answered.
    """
    return growth > RUNAWAY_TIMES * limit and running_seconds > RUNAWAY_SECONDS


class MemoryRecycler:
    """Replaces workers that grew past `worker_memory_mib`: another one joins first, then the old one goes; in
    turn the other way round.

    It looks while there is a limit, and replaces one worker at a time.
    """

    def __init__(self, pool: UpkeptPool, recorder: Recorder) -> None:
        self._pool = pool
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(RECYCLE_DELAYS)
        self._looking: asyncio.TimerHandle | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._leaving: dict[WorkerSlot, str] = {}
        """Workers that were replaced and are not gone yet, and what is reported when they are."""
        self._closed = False

    def watch(self) -> None:
        """Look, from now on, while there is a limit; idempotent."""
        if self._looking is None and (self._limit() is not None or self._leaving):
            self._looking = self._loop.call_later(MEMORY_LOOK_SECONDS, self._look)

    def stop_replacing(self) -> None:
        """End the load of a worker that is to take another's place."""
        if self._replacing is not None:
            self._replacing.cancel()

    async def close(self) -> None:
        """Look no more, and report those that have not left yet: they are the pool's to end."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self.stop_replacing()
        if self._replacing is not None:
            await asyncio.gather(self._replacing, return_exceptions=True)
        for slot in list(self._leaving):  # not when they end: by then their version may be gone
            self._left(slot)

    def _limit(self) -> int | None:
        """Bytes that a worker may grow by; None: no limit."""
        limit = None if self._closed else self._pool.settings.worker_memory_mib
        return None if limit is None else limit * MIB

    def _look(self) -> None:
        self._looking = None
        if (limit := self._limit()) is not None:
            for slot in list(self._leaving):
                seconds = slot.running_seconds(isolated=True)
                if slot.end_reason != "memory" and is_runaway(slot.growth(), limit, seconds):
                    self._leaving[slot] += f", and this one was ended in a predict of {seconds:.1f} s"
                    slot.end("memory")
            over = [slot for slot in self._pool.slots if slot.growth() > limit]
            idle = self._replacing is None or self._replacing.done()
            may_load = idle and not self._pool.is_kept
            if over and may_load and self._backoff.allows(self._loop.time()):
                self._replacing = self._loop.create_task(
                    self._recycle(over, limit), name=f"recycle {self._pool.supply.spec.version}"
                )
        self.watch()

    async def _recycle(self, over: Sequence[WorkerSlot], limit: int) -> None:
        supply = self._pool.supply
        for slot in over:
            in_turn, fresh = self._pool.settings.in_turn, None
            try:
                fresh = None if in_turn else await supply.acquire()
            except Exception as error:  # noqa: BLE001 - the old one serves on, and the next try may do
                supply.last_error = str(error)
                self._backoff = self._backoff.failed(self._loop.time())
                return
            stayed = not slot.worker.exited.done()
            if stayed:  # else it ended by itself meanwhile, and the pool has reported it
                grown = f"it grew by {slot.growth() // MIB} MiB after it was READY"
                order = "another joins after it" if in_turn else "another joined first"
                self._leaving[slot] = f"{grown}, the limit is {limit // MIB}; {order}"
                slot.worker.exited.add_done_callback(partial(self._left, slot))
            old = [slot] if stayed else []
            if fresh is None:
                await self._pool.end_workers(old)
            else:
                self._pool.replace(old, fresh)
            baseline = slot.baseline_memory
            in_vain = baseline is None or baseline.total - slot.worker.ready.total > limit
            self._backoff = self._backoff.failed(self._loop.time()) if in_vain else self._backoff.reset()

    def _left(self, slot: WorkerSlot, _exited: object = None) -> None:
        if (report := self._leaving.pop(slot, None)) is not None:
            self._recorder.record(WorkerEnded(self._pool.supply.spec.version, "memory", report))


class IdleRepeats:
    """Has workers repeat requests of shared predicts, one at a time, while the version has no request.

    A request that comes meanwhile waits for one predict at most, and for none where another worker is free.
    `watch` whenever the last request has left.
    """

    def __init__(self, pool: UpkeptPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """The version has no request from now on."""
        if not any(slot.worker.to_repeat for slot in self._pool.slots):
            return
        self._idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause(), self._look)

    def close(self) -> None:
        """Repeat nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _pause(self) -> float:
        return max(IDLE_SECONDS, self._pool.admission.predict_seconds)

    def _look(self) -> None:
        self._timer = None
        if self._pool.leases:
            return  # whoever ends the last of them calls `watch`
        if (rest := self._idle_since + self._pause() - self._loop.time()) > 0:
            self._timer = self._loop.call_later(rest, self._look)
            return
        for slot in self._pool.slots:
            if slot.worker.to_repeat and slot.has_room(isolated=True):
                slot.repeat()
                return
