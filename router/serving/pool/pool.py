"""The workers of one version, and the queue before them."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from router.core.admission import Admission
from router.core.events import Recorder, WorkerEnded
from router.core.ids import Alias
from router.core.loads import Priority
from router.errors import NotReady, Overloaded, VersionUnloaded
from router.protocol.messages import LoadSpec, Query, VersionInfo
from router.serving.load_gate import LoadGate
from router.serving.pool.batch_window import BatchWindow
from router.serving.pool.memory_recycling import MemoryRecycler
from router.serving.pool.request_queue import PendingRequest, RequestQueue
from router.serving.pool.supply import WorkerSupply
from router.serving.pool.surge import SurgeScaler
from router.serving.pool.worker_slot import CRASHES, BatchResult, WorkerSlot
from router.serving.ports import Loader, PoolSettings, WorkerHandle


class Pool:
    """Holds a version in `limits().workers` processes and keeps that many alive."""

    def __init__(
        self,
        spec: LoadSpec,
        loader: Loader,
        limits: Callable[[], PoolSettings],
        recorder: Recorder,
        *,
        load_deadline_seconds: Callable[[], float],
        on_crash: Callable[[], None] = lambda: None,
        is_production: Callable[[], bool] = lambda: False,
        gate: LoadGate | None = None,
        priority: Callable[[], Priority] = lambda: Priority.CANARY,
    ) -> None:
        """`on_crash` is called when a worker ended by itself, not when its predict ran too long.

        While `is_production()`, there may be a spare, and relief workers beside one that is stuck. Loads go
        through `gate`, without one through a gate of their own; `priority` is that of a load for the first
        worker.
        """
        self._limits = limits
        self._recorder = recorder
        self._on_crash = on_crash
        self._is_production = is_production
        self._priority = priority
        self._loop = asyncio.get_running_loop()
        self._queue = RequestQueue(self._work_ended)
        self._seats: list[WorkerSlot] = []
        self._leaving: set[WorkerSlot] = set()  # were let go, and still answer what they have
        self.crew = WorkerSupply(
            spec,
            loader,
            recorder,
            missing=lambda: 0 if self._closed else self._relieving.wanted - len(self._seats),
            join=self._seat,
            may_spare=is_production,
            load_deadline_seconds=load_deadline_seconds,
            on_pause=self._paused,
            gate=gate or LoadGate(loader.room),
            priority=self._load_priority,
        )
        self._recycling = MemoryRecycler(
            self.crew, recorder, lambda: self._seats, self._swap, lambda: self._limits().worker_memory_mib
        )
        self._admission = Admission()
        self._relieving = SurgeScaler(
            self._queue, self._admission, lambda: self._seats, lambda: self._limits().workers, self._looked
        )
        self._gathering = BatchWindow(self._queue, self._dispatch)
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def leases(self) -> int:
        """Requests that wait, and requests that run, these also when their caller gave up."""
        return self._leases

    @property
    def queued(self) -> int:
        """Requests that wait for a free worker."""
        return len(self._queue)

    @property
    def workers(self) -> list[WorkerHandle]:
        """Workers alive now, without the spare."""
        return [seat.worker for seat in self._seats]

    async def start(self, *, warm_up_required: bool = False) -> VersionInfo:
        """Load the first worker, then the others beside it. Raises LoadFailed, ChildLost or ChildTimeout."""
        info = await self.crew.first(warm_up_required=warm_up_required)
        self.fill()
        return info

    def submit(self, query: Query, alias: Alias, expires_at: float, *, waits: bool = True) -> PendingRequest:
        """Queue one request until `expires_at` (loop time); the ticket is the lease. Raises Overloaded.

        `waits` False: another version can answer; NotReady when no worker is alive, now or later.
        """
        if self._closed or not (self._seats or (waits and self._has_worker_before(expires_at))):
            raise _no_worker()
        now = self._loop.time()
        if not self._admission.admits(
            now,
            waiting=len(self._queue),
            workers=sum(seat.worker.parallel for seat in self._seats),
            seconds_left=expires_at - now,
        ):
            raise Overloaded("requests come faster than this version answers")
        rows = self._admission.rows_in(len(query.body))
        ticket = PendingRequest(query, alias, self._loop, expires_at, rows=rows, waits=waits)
        try:
            if self._gathering.under_way and self._queue.is_full(self._limits().queue_rows):
                self._dispatch()  # what arrived in this turn of the loop does not wait for a worker yet
            self._queue.put(ticket, self._limits().queue_rows)
        except Overloaded:
            ticket.forget()
            raise
        self._leases += 1
        self._idle.clear()
        self._gathering.soon(crowded=self._admission.last_requests > 1)
        return ticket

    @property
    def can_answer(self) -> bool:
        """True while a worker is alive."""
        return bool(self._seats)

    async def drained(self) -> None:
        """Wait until no request is queued or running."""
        await self._idle.wait()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """End every worker; requests still here fail with WorkerDied."""
        self._closed = True
        self._relieving.close()
        self._gathering.end()
        await self._recycling.close()
        await self.crew.close(grace_seconds)
        seats, self._seats = [*self._seats, *self._leaving], []
        for ticket in [*self._queue.clear(), *(ticket for seat in seats for ticket in seat.leave())]:
            ticket.fail(VersionUnloaded("the version was unloaded while this request was in it"))
            self._work_ended()
        await asyncio.gather(*(seat.worker.close(grace_seconds) for seat in seats))

    def fill(self) -> None:
        """Bring the number of workers to what it should be; idempotent."""
        while len(self._seats) > self._relieving.wanted:
            surplus = min(reversed(self._seats), key=lambda seat: seat.load)
            self._seats.remove(surplus)
            self._retire(surplus)
        for seat in self._seats:
            seat.worker.rank(last=self._is_production())
        self.crew.fill()
        self._recycling.watch()

    async def renew(self, spec: LoadSpec) -> VersionInfo:
        """Replace every worker by one loaded from `spec`: the new one first, then the old ones go."""
        fresh = await self.crew.renew(spec)
        self._swap(self._seats, fresh)
        return fresh.info

    def _load_priority(self) -> Priority:
        if not self._seats:
            return self._priority()
        relief = self._relieving.wanted > max(self._limits().workers, len(self._seats))
        return Priority.PRODUCTION if relief and self._is_production() else Priority.FURTHER

    def _swap(self, old: Sequence[WorkerSlot], fresh: WorkerHandle) -> None:
        """`fresh` joins, then the `old` ones go."""
        leaving = [seat for seat in old if seat in self._seats]
        self._seats = [seat for seat in self._seats if seat not in old]
        self._seat(fresh)
        for seat in leaving:
            self._retire(seat)
        self.fill()

    def _retire(self, seat: WorkerSlot) -> None:
        self._leaving.add(seat)
        seat.worker.rank(last=False)
        seat.retire()

    def _seat(self, worker: WorkerHandle) -> None:
        seat = WorkerSlot(worker, self._loop, lambda: self._limits().predict_timeout_seconds, self._done)
        self._seats.append(seat)
        worker.rank(last=self._is_production())
        worker.exited.add_done_callback(lambda _: self._ended(seat))
        self._dispatch()

    def _dispatch(self) -> None:
        self._gathering.end()
        limits = self._limits()
        self._admission.heed(merges=any(seat.worker.batching.merges for seat in self._seats))
        worthless_before = self._loop.time() + self._admission.fastest_seconds
        while self._queue:
            alone = self._queue.head_is_alone
            free = [seat for seat in self._seats if seat.has_room(alone=alone)]
            if not free:
                self._queue.ahead = min((seat.oldest for seat in self._seats if seat.oldest), default=None)
                break
            seat = min(free, key=lambda seat: seat.load)
            # An even share per free worker: one worker must not take what another could start now.
            share = -(-len(self._queue) // len(free)) if seat.worker.batching.merges else 1
            most = min(share, self._admission.requests_at_once())
            if frame := self._queue.take(most, limits.max_batch_rows, worthless_before):
                seat.start(frame)
        if not self._closed and self._is_production():
            self._relieving.watch()

    def _looked(self, changed: bool) -> None:
        if changed:
            self.fill()
        self._dispatch()

    def _done(self, done: BatchResult) -> None:
        if done.tickets:
            self._record(done)
            for ticket, answer in zip(done.tickets, done.answers, strict=True):
                ticket.resolve(answer)
                self._work_ended()
        if self._queue:
            self._gathering.soon(crowded=True)

    def _record(self, done: BatchResult) -> None:
        self.crew.answered()
        rows, sizes = [answer.rows for answer in done.answers], [ticket.size for ticket in done.tickets]
        self._admission.learn(perf_counter() - done.started_at, rows, sizes)
        self._recorder.record(done.fact(self.crew.spec.version))

    def _ended(self, seat: WorkerSlot) -> None:
        self._leaving.discard(seat)
        fault, (lost, again) = seat.obituary(), seat.bequest()
        for ticket in lost:
            ticket.fail(fault)
            self._work_ended()
        self._queue.put_back(again)
        if seat in self._seats:  # else it was retired, or the pool is closed: nobody replaces it
            self._seats.remove(seat)
            self.crew.lost(answered=seat.answered > 0)
            how = str(seat.worker.exited.result())
            self._recorder.record(WorkerEnded(self.crew.spec.version, seat.end_reason, how))
            if seat.end_reason in CRASHES:
                self._on_crash()
            self.fill()
            # Requests that another version can answer do not wait for a new worker.
            self._refuse_unserved(until=None)
        self._dispatch()

    def _has_worker_before(self, expires_at: float) -> bool:
        """Whether, with no worker alive, the next load begins before a request's time is over."""
        next_load_at = self.crew.next_load_at
        return next_load_at is None or next_load_at < expires_at

    def _paused(self, until: float) -> None:
        self._refuse_unserved(until=until)

    def _refuse_unserved(self, until: float | None) -> None:
        """With no worker alive, refuse who does not wait for one, and whose time is over by `until`."""
        for ticket in self._queue.take_unserved(until) if not self._seats else ():
            ticket.fail(_no_worker())
            self._work_ended()

    def _work_ended(self) -> None:
        self._leases -= 1
        if self._leases == 0:
            self._idle.set()


def _no_worker() -> NotReady:
    return NotReady("this version has no worker")
