"""The workers of one version, and the queue before them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from router.core.events import Recorder, WorkerEnded, WorkerReplaced
from router.core.ids import Alias
from router.core.request_events import Predicted
from router.core.work import Answer, LoadSpec, Query, VersionInfo
from router.errors import NotReady, RouterError, WorkerDied
from router.serving.ports import Loader, Servable
from router.serving.seat import Seat
from router.serving.tickets import Ticket, TicketQueue

REPLACEMENT_BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Wait before the n-th replacement in a row of workers that ended before their first answer."""

CRASHES = ("exit", "signal")
"""Reasons of a worker's end that are its version's doing."""


class Limits(Protocol):
    """The settings a pool obeys; read at each use, because they may change while it serves."""

    @property
    def workers(self) -> int:
        """Processes per version."""

    @property
    def predict_timeout_seconds(self) -> float:
        """How long one predict may run before its worker is ended."""


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
    ) -> None:
        """`on_crash` is called when a worker ended by itself, not when its predict ran too long."""
        self.spec = spec
        self.last_error = ""
        """Why the last replacement failed; empty when the pool is whole."""
        self._loader = loader
        self._limits = limits
        self._recorder = recorder
        self._load_deadline_seconds = load_deadline_seconds
        self._on_crash = on_crash
        self._loop = asyncio.get_running_loop()
        self._queue = TicketQueue(self._work_ended)
        self._seats: list[Seat] = []
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._barren_deaths = 0
        self._short_since: float | None = None
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def leases(self) -> int:
        """Requests queued or running, also those whose caller gave up."""
        return self._leases

    @property
    def queued(self) -> int:
        """Requests that wait for a free worker."""
        return len(self._queue)

    @property
    def workers(self) -> list[Servable]:
        """Workers alive now."""
        return [seat.worker for seat in self._seats]

    async def start(self) -> VersionInfo:
        """Load the first worker, then the others beside it. Raises LoadFailed, ChildLost or ChildTimeout."""
        first = await self._loader.load(self.spec, deadline_seconds=self._load_deadline_seconds())
        self._seat(first)
        self.fill()
        return first.info

    def submit(self, query: Query, alias: Alias, expires_at: float) -> Ticket:
        """Queue one request until `expires_at` (loop time); the ticket is the lease. Raises Overloaded."""
        if self._closed:
            raise NotReady("this version is being unloaded", reason="not_ready")
        ticket = Ticket(query, alias, self._loop, expires_at)
        try:
            self._queue.put(ticket)
        except RouterError:
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
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        seats, self._seats = self._seats, []
        for ticket in [*self._queue.clear(), *(ticket for seat in seats for ticket in seat.leave())]:
            ticket.fail(
                WorkerDied("the version was unloaded while this request was in it", reason="not_ready")
            )
            self._work_ended()
        await asyncio.gather(*(seat.worker.close(grace_seconds) for seat in seats))

    def fill(self) -> None:
        """Bring the number of workers to what the settings say; idempotent."""
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = self._loop.create_task(self._fill(), name=f"fill {self.spec.version}")

    async def renew(self, spec: LoadSpec) -> VersionInfo:
        """Replace every worker by one loaded from `spec`: the new one first, then the old ones go."""
        self.spec = spec
        fresh = await self._loader.load(spec, deadline_seconds=self._load_deadline_seconds())
        old, self._seats = self._seats, []
        self._seat(fresh)
        for seat in old:
            seat.retire()
        self.fill()
        return fresh.info

    async def _fill(self) -> None:
        while len(self._seats) != (wanted := self._limits().workers):
            if len(self._seats) > wanted:
                self._seats.pop().retire()
                continue
            step = min(self._barren_deaths, len(REPLACEMENT_BACKOFF_SECONDS) - 1)
            await asyncio.sleep(REPLACEMENT_BACKOFF_SECONDS[step])
            try:
                worker = await self._loader.load(self.spec, deadline_seconds=self._load_deadline_seconds())
            except RouterError as error:
                self._barren_deaths += 1
                self.last_error = str(error)
                continue
            self.last_error = ""
            self._seat(worker)
        if self._short_since is not None:
            seconds = self._loop.time() - self._short_since
            self._short_since = None
            self._recorder.record(WorkerReplaced(self.spec.version, seconds))

    def _seat(self, worker: Servable) -> None:
        seat = Seat(worker, self._loop, lambda: self._limits().predict_timeout_seconds, self._answered)
        self._seats.append(seat)
        worker.exited.add_done_callback(lambda _: self._ended(seat))
        self._dispatch()

    def _dispatch(self) -> None:
        free = [seat for seat in self._seats if not seat.busy]
        for position, seat in enumerate(free):
            if not self._queue:
                return
            # An even share per free worker: one worker must not take what another could start now.
            if frame := self._queue.take(-(-len(self._queue) // (len(free) - position))):
                seat.start(frame)

    def _answered(self, ticket: Ticket, answer: Answer, started_at: float) -> None:
        self._barren_deaths = 0
        self._recorder.record(
            Predicted(
                self.spec.version.model,
                ticket.alias,
                self.spec.version,
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
        if seat not in self._seats:  # retired, or the pool is closed: nobody replaces it
            self._queue.put_back(unstarted)
            self._dispatch()
            return
        self._seats.remove(seat)
        if not seat.answered:
            self._barren_deaths += 1
        if self._short_since is None:
            self._short_since = self._loop.time()
        self._recorder.record(
            WorkerEnded(self.spec.version, seat.end_reason, str(seat.worker.exited.result()))
        )
        if seat.end_reason in CRASHES:
            self._on_crash()
        self._queue.put_back(unstarted)
        self._dispatch()
        self.fill()

    def _work_ended(self) -> None:
        self._leases -= 1
        if self._leases == 0:
            self._idle.set()
