"""The workers of one version, and the queue before them."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from router.core.admission import Admission
from router.core.events import Recorder, WorkerEnded
from router.core.ids import Alias
from router.core.relief import Relief, is_stuck
from router.core.request_events import Predicted
from router.core.work import Answer, LoadSpec, Query, VersionInfo
from router.errors import NotReady, Overloaded, WorkerDied
from router.serving.crew import Crew
from router.serving.ports import Limits, Loader, Servable
from router.serving.recycling import Recycling
from router.serving.seat import CRASHES, Seat
from router.serving.tickets import Ticket, TicketQueue

LOOK_SECONDS = 0.25
"""Between two looks at predicts that run long, while requests wait."""


class Pool:
    """Holds a version in `limits().workers` processes and keeps that many alive."""

    def __init__(
        self,
        spec: LoadSpec,
        loader: Loader,
        limits: Callable[[], Limits],
        recorder: Recorder,
        *,
        load_deadline_seconds: Callable[[], float],
        on_crash: Callable[[], None] = lambda: None,
        is_production: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_crash` is called when a worker ended by itself, not when its predict ran too long.

        While `is_production()`, there may be a spare, and relief workers beside one that is stuck.
        """
        self._limits = limits
        self._recorder = recorder
        self._on_crash = on_crash
        self._is_production = is_production
        self._loop = asyncio.get_running_loop()
        self._queue = TicketQueue(self._work_ended)
        self._seats: list[Seat] = []
        self.crew = Crew(
            spec,
            loader,
            recorder,
            missing=lambda: 0 if self._closed else self._wanted() - len(self._seats),
            join=self._seat,
            may_spare=is_production,
            load_deadline_seconds=load_deadline_seconds,
        )
        self._recycling = Recycling(
            self.crew, recorder, lambda: self._seats, self._swap, lambda: self._limits().worker_memory_mib
        )
        self._admission = Admission()
        self._relief = Relief()
        self._looking: asyncio.TimerHandle | None = None
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
    def workers(self) -> list[Servable]:
        """Workers alive now, without the spare."""
        return [seat.worker for seat in self._seats]

    async def start(self) -> VersionInfo:
        """Load the first worker, then the others beside it. Raises LoadFailed, ChildLost or ChildTimeout."""
        info = await self.crew.first()
        self.fill()
        return info

    def submit(self, query: Query, alias: Alias, expires_at: float, *, waits: bool = True) -> Ticket:
        """Queue one request until `expires_at` (loop time); the ticket is the lease. Raises Overloaded.

        `waits` False: another version can answer; NotReady when no worker is alive, now or later.
        """
        if self._closed or not (waits or self._seats):
            raise NotReady("this version has no worker", reason="not_ready")
        now = self._loop.time()
        if not self._admission.admits(
            now, waiting=len(self._queue), workers=len(self._seats), seconds_left=expires_at - now
        ):
            raise Overloaded("requests come faster than this version answers", reason="overloaded")
        rows = self._admission.rows_in(len(query.body))
        ticket = Ticket(query, alias, self._loop, expires_at, rows=rows, waits=waits)
        try:
            self._queue.put(ticket, self._limits().queue_rows)
        except Overloaded:
            ticket.forget()
            raise
        self._leases += 1
        self._idle.clear()
        self._dispatch()
        return ticket

    async def drained(self) -> None:
        """Wait until no request is queued or running."""
        await self._idle.wait()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """End every worker; requests still here fail with WorkerDied."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        leaving = await self._recycling.close()
        await self.crew.close(grace_seconds)
        seats, self._seats = [*self._seats, *leaving], []
        running = [ticket for seat in seats for ticket in seat.leave() if ticket is not None]
        for ticket in [*self._queue.clear(), *running]:
            ticket.fail(
                WorkerDied("the version was unloaded while this request was in it", reason="not_ready")
            )
            self._work_ended()
        await asyncio.gather(*(seat.worker.close(grace_seconds) for seat in seats))

    def fill(self) -> None:
        """Bring the number of workers to what it should be; idempotent."""
        while len(self._seats) > self._wanted():
            surplus = next((seat for seat in reversed(self._seats) if not seat.busy), self._seats[-1])
            self._seats.remove(surplus)
            surplus.retire()
        self.crew.fill()
        self._recycling.watch()

    async def renew(self, spec: LoadSpec) -> VersionInfo:
        """Replace every worker by one loaded from `spec`: the new one first, then the old ones go."""
        fresh = await self.crew.renew(spec)
        self._swap(self._seats, fresh)
        return fresh.info

    def _swap(self, old: Sequence[Seat], fresh: Servable) -> None:
        """`fresh` joins, then the `old` ones go."""
        leaving = [seat for seat in old if seat in self._seats]
        self._seats = [seat for seat in self._seats if seat not in old]
        self._seat(fresh)
        for seat in leaving:
            seat.retire()
        self.fill()

    def _wanted(self) -> int:
        return self._limits().workers + self._relief.extra

    def _seat(self, worker: Servable) -> None:
        seat = Seat(
            worker, self._loop, lambda: self._limits().predict_timeout_seconds, self._answered, self._dispatch
        )
        self._seats.append(seat)
        worker.exited.add_done_callback(lambda _: self._ended(seat))
        self._dispatch()

    def _dispatch(self) -> None:
        free = [seat for seat in self._seats if not seat.busy]
        at_once = self._admission.requests_at_once()
        worthless_before = self._loop.time() + self._admission.fastest_seconds
        for position, seat in enumerate(free):
            if not self._queue:
                return
            # An even share per free worker: one worker must not take what another could start now.
            share = -(-len(self._queue) // (len(free) - position))
            if frame := self._queue.take(min(share, at_once), worthless_before):
                seat.start(frame)
        if self._looking is None and not self._closed and self._is_production():
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Relieve the version of predicts that hold others up."""
        self._looking = None
        typical = self._admission.typical_seconds
        stuck = [seat for seat in self._seats if is_stuck(seat.running_seconds(), typical)]
        for seat in stuck:
            self._queue.put_back(seat.give_back())
        before, waiting = self._relief.extra, len(self._queue)
        self._relief.look(
            self._loop.time(),
            stuck=len(stuck),
            workers=len(self._seats),
            wanted=self._wanted(),
            waiting=waiting,
        )
        if self._relief.extra != before:
            self.fill()
        if waiting or self._relief.extra or any(seat.busy for seat in self._seats):
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        self._dispatch()

    def _answered(self, ticket: Ticket, answer: Answer, started_at: float) -> None:
        self.crew.answered()
        self._admission.learn(perf_counter() - started_at, answer.rows, ticket.size)
        self._recorder.record(
            Predicted(
                self.crew.spec.version.model,
                ticket.alias,
                self.crew.spec.version,
                predict_seconds=answer.predict_seconds,
                queue_seconds=started_at - ticket.queued_at,
                rows=answer.rows,
                requests=1,
                scores=answer.scores,
            )
        )
        ticket.resolve(answer)
        self._work_ended()
        self._dispatch()

    def _ended(self, seat: Seat) -> None:
        fault = seat.obituary()
        running, unstarted = seat.last_frame()
        if running is not None:
            running.fail(fault)
            self._work_ended()
        self._queue.put_back(unstarted)
        if seat in self._seats:  # else it was retired, or the pool is closed: nobody replaces it
            self._seats.remove(seat)
            self.crew.lost(answered=seat.answered > 0)
            how = str(seat.worker.exited.result())
            self._recorder.record(WorkerEnded(self.crew.spec.version, seat.end_reason, how))
            if seat.end_reason in CRASHES:
                self._on_crash()
            self.fill()
            # Requests that another version can answer do not wait for a new worker.
            for ticket in self._queue.take_unwaiting() if not self._seats else ():
                ticket.fail(NotReady("this version has no worker", reason="not_ready"))
                self._work_ended()
        self._dispatch()

    def _work_ended(self) -> None:
        self._leases -= 1
        if self._leases == 0:
            self._idle.set()
