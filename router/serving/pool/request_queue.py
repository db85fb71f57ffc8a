"""A request waiting for, or running in, one version: the lease that keeps the version loaded."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from router.core.ids import Alias
from router.errors import CallerGone, DeadlineExceeded, Overloaded, RouterError
from router.protocol.messages import Answer, Query
from router.serving.pool.stall_tracker import StallTracker

MAX_QUEUED_BYTES = 128 << 20
"""Of the bodies that wait for one version; the last one may stand over it."""
MAX_FRAME_REQUESTS = 64
MAX_FRAME_BYTES = 8 << 20
_FEW_HUSKS = 64
HUNG_UP_SHARE = 0.25
"""Of the requests that left a queue since it was last empty: where so many of their callers hung up, the
newest is next. The oldest is then the one whose caller hangs up next, and its predict would be for nobody."""
_RECENT = 64
_NOTHING = Query(b"", None)


class PendingRequest:
    """One request at one version. `answer` is what the caller waits for; the lease may outlive it."""

    __slots__ = (
        "_timer",
        "alias",
        "alone",
        "answer",
        "behind",
        "call",
        "expires_at",
        "query",
        "queue",
        "queued_at",
        "rows",
        "silence",
        "size",
        "started_at",
        "waits",
    )

    def __init__(
        self,
        query: Query,
        alias: Alias,
        loop: asyncio.AbstractEventLoop,
        expires_at: float,
        *,
        rows: int = 1,
        waits: bool = True,
    ) -> None:
        """`rows` as estimated; `waits` False: another version can answer, so it awaits no new worker."""
        self.query = query
        self.alias = alias
        self.queued_at = perf_counter()
        self.expires_at = expires_at
        self.rows = rows
        self.size = len(query.body)
        self.waits = waits
        self.alone = False
        """True when it may be what ended a worker: then it runs in one that does nothing else."""
        self.queue: RequestQueue | None = None
        """Where it waits; None once it was handed to a worker, or nobody waits for it any more."""
        self.behind: int | None = None
        """Number of the predict that kept the workers busy while it waited."""
        self.started_at = self.queued_at
        """When it was handed to a worker."""
        self.call: int | None = None
        """Number of the predict it is in, where others share that; else None."""
        self.silence: StallTracker | None = None
        """Of the worker it runs in, when others ran beside it there; else None."""
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self._timer = loop.call_at(expires_at, self._expire)

    @property
    def abandoned(self) -> bool:
        """True when nobody waits any more: answered, expired, or the caller went away."""
        return self.answer.done()

    def resolve(self, answer: Answer) -> None:
        """Give the caller its answer, if it still waits."""
        self._timer.cancel()
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: RouterError) -> None:
        """Give the caller an error instead, if it still waits."""
        self._timer.cancel()
        if not self.answer.done():
            self.answer.set_exception(error)

    def hang_up(self) -> None:
        """The caller hung up: it raises CallerGone for whoever awaits `answer`, and leaves the queue."""
        self.fail(CallerGone("its caller hung up"))
        if self.queue is not None:
            self.queue.hung_up(self)

    def forget(self) -> None:
        """Nobody awaits `answer` any more."""
        self._timer.cancel()
        self.answer.cancel()
        self._leave()

    def held_up_by(self) -> int | None:
        """Number of the predict that took its time so far, if others had to do with that predict.

        What hits many keys at once says as much about a version as what hits one, and no more. So whoever
        counts faults has to know which of them are one.
        """
        if self.queue is not None:
            return self.queue.ahead
        now = perf_counter()
        if self.started_at - self.queued_at > now - self.started_at:
            return self.behind
        if self.call is None and self.silence is not None:
            return self.silence.since(self.started_at, now)
        return self.call

    def _expire(self) -> None:
        error = DeadlineExceeded("no answer within the time this request had")
        error.call = self.held_up_by()
        self.fail(error)
        self._leave()

    def _leave(self) -> None:
        if self.queue is not None:
            self.queue.abandoned(self)


class RequestQueue:
    """Tickets that wait for a free worker, bounded in rows and in bytes. Who gave up takes no room."""

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        """`on_dropped` is called for each ticket that leaves without having been taken."""
        self.ahead: int | None = None
        """Number of the predict that keeps the workers busy, or did when it last had to wait."""
        self._tickets: deque[PendingRequest] = deque()
        self._husks = 0
        """Abandoned tickets that still are in the deque; they hold no body and no lease."""
        self._rows = 0
        self._bytes = 0
        self._on_dropped = on_dropped
        self._taken = self._hung_up = 0
        """Requests that left since it was last empty, by how; of late ones, if there were many."""

    def __len__(self) -> int:
        return len(self._tickets) - self._husks

    def is_full(self, most_rows: int) -> bool:
        """Whether `put` would refuse."""
        return self._rows >= most_rows or self._bytes >= MAX_QUEUED_BYTES

    def put(self, ticket: PendingRequest, most_rows: int) -> None:
        """Append. Raises Overloaded at the bound, which the last ticket may pass: a large one must fit."""
        if self.is_full(most_rows):
            raise Overloaded("the queue of this version is full")
        if not len(self):
            self._taken = self._hung_up = 0
        self._tickets.append(self._entered(ticket))

    def put_back(self, tickets: list[PendingRequest]) -> None:
        """Return tickets to the front, in their order: they were sent to a worker that ended before them."""
        for ticket in reversed(tickets):
            if ticket.abandoned:
                self._on_dropped()
            else:
                self._tickets.appendleft(self._entered(ticket))

    @property
    def head_is_alone(self) -> bool:
        """Whether the next ticket is to run in a worker that does nothing else."""
        ticket = self._next()
        return ticket is not None and ticket.alone

    @property
    def newest_first(self) -> bool:
        """Whether the next ticket is the one that came last: callers hang up on what waits longest."""
        return self._hung_up > 0 and self._hung_up >= HUNG_UP_SHARE * (self._hung_up + self._taken)

    def take(self, share: int, most_rows: int, expires_after: float) -> list[PendingRequest]:
        """Up to `share` waiting tickets of one alias and `most_rows` rows; the first may be larger.

        One that expires before the loop's time `expires_after` is dropped: its answer would be for nobody.
        One that is `alone` comes alone.
        """
        frame: list[PendingRequest] = []
        size = rows = 0
        alone = self.head_is_alone
        while len(frame) < min(share, MAX_FRAME_REQUESTS):
            ticket = self._next()
            # The worker was chosen for the first one, which may have been dropped since.
            if ticket is None or ticket.alone is not alone:
                break
            size, rows = size + ticket.size, rows + ticket.rows
            if frame and (size > MAX_FRAME_BYTES or rows > most_rows or ticket.alias != frame[0].alias):
                break
            if ticket is self._tickets[0]:
                self._tickets.popleft()
            else:
                self._tickets.pop()
            self._left(ticket)
            self._count(hung_up=False)
            if ticket.expires_at < expires_after:
                late = DeadlineExceeded("its time would be over before its answer")
                late.call = self.ahead
                ticket.fail(late)
                self._on_dropped()
                continue
            frame.append(ticket)
            if alone:
                break
        return frame

    def take_unserved(self, until: float | None) -> list[PendingRequest]:
        """Take out those that must not wait for a worker to come, and those that expire by `until`."""
        kept: list[PendingRequest] = []
        gone: list[PendingRequest] = []
        for ticket in self._tickets:
            if not ticket.abandoned:
                stays = ticket.waits and (until is None or ticket.expires_at > until)
                (kept if stays else gone).append(ticket)
        if gone:
            for ticket in gone:
                self._left(ticket)
            self._tickets, self._husks = deque(kept), 0
        return gone

    def clear(self) -> list[PendingRequest]:
        """Take everything out."""
        tickets = [ticket for ticket in self._tickets if not ticket.abandoned]
        for ticket in tickets:
            self._left(ticket)
        self._tickets, self._husks = deque(), 0
        return tickets

    def hung_up(self, ticket: PendingRequest) -> None:
        """The caller of a waiting ticket hung up."""
        self._count(hung_up=True)
        self.abandoned(ticket)

    def _count(self, *, hung_up: bool) -> None:
        if hung_up:
            self._hung_up += 1
        else:
            self._taken += 1
        if self._taken + self._hung_up > _RECENT:
            self._taken, self._hung_up = self._taken // 2, self._hung_up // 2

    def _next(self) -> PendingRequest | None:
        """The ticket to be taken next. Those to run alone come first: they were with a worker before."""
        while self._tickets and self._tickets[0].queue is None:
            self._tickets.popleft()
            self._husks -= 1
        if not self._tickets:
            return None
        if self._tickets[0].alone or not self.newest_first:
            return self._tickets[0]
        while self._tickets[-1].queue is None:
            self._tickets.pop()
            self._husks -= 1
        return self._tickets[-1]

    def _entered(self, ticket: PendingRequest) -> PendingRequest:
        ticket.queue = self
        self._rows += ticket.rows
        self._bytes += ticket.size
        return ticket

    def _left(self, ticket: PendingRequest) -> None:
        ticket.queue, ticket.behind = None, self.ahead
        self._rows -= ticket.rows
        self._bytes -= ticket.size

    def abandoned(self, ticket: PendingRequest) -> None:
        """Nobody waits for this one any more."""
        self._left(ticket)
        ticket.query = _NOTHING
        self._husks += 1
        if self._husks > max(_FEW_HUSKS, len(self._tickets) // 2):  # amortised: a constant time per ticket
            self._tickets = deque(t for t in self._tickets if t.queue is not None)
            self._husks = 0
        self._on_dropped()
