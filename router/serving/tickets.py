"""A request waiting for, or running in, one version: the lease that keeps the version loaded."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from router.core.ids import Alias
from router.core.work import Answer, Query
from router.errors import DeadlineExceeded, Overloaded, RouterError

MAX_QUEUED_REQUESTS = 4096
MAX_QUEUED_BYTES = 256 << 20
MAX_FRAME_REQUESTS = 64
MAX_FRAME_BYTES = 8 << 20


class Ticket:
    """One request at one version. `answer` is what the caller waits for; the lease may outlive it."""

    __slots__ = ("_timer", "alias", "answer", "query", "queued_at")

    def __init__(
        self, query: Query, alias: Alias, loop: asyncio.AbstractEventLoop, expires_at: float
    ) -> None:
        self.query = query
        self.alias = alias
        self.queued_at = perf_counter()
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

    def forget(self) -> None:
        """The caller went away."""
        self._timer.cancel()
        self.answer.cancel()

    def _expire(self) -> None:
        self.fail(DeadlineExceeded("no answer within the time this request had", reason="timeout"))


class TicketQueue:
    """Tickets that wait for a free worker, bounded in number and in bytes."""

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        self._tickets: deque[Ticket] = deque()
        self._bytes = 0
        self._on_dropped = on_dropped

    def __len__(self) -> int:
        return len(self._tickets)

    def put(self, ticket: Ticket) -> None:
        """Append. Raises Overloaded at the bound."""
        if len(self._tickets) >= MAX_QUEUED_REQUESTS or self._bytes >= MAX_QUEUED_BYTES:
            raise Overloaded("the queue of this version is full", reason="overloaded")
        self._tickets.append(ticket)
        self._bytes += len(ticket.query.body)

    def put_back(self, tickets: list[Ticket]) -> None:
        """Return tickets to the front, in their order: they were sent to a worker that ended before them."""
        self._tickets.extendleft(reversed(tickets))
        self._bytes += sum(len(ticket.query.body) for ticket in tickets)

    def take(self, share: int) -> list[Ticket]:
        """Up to `share` waiting tickets, one frame's worth at most; abandoned ones are dropped on the way."""
        frame: list[Ticket] = []
        size = 0
        while self._tickets and len(frame) < min(share, MAX_FRAME_REQUESTS):
            ticket = self._tickets[0]
            length = len(ticket.query.body)
            if frame and size + length > MAX_FRAME_BYTES:
                break
            self._tickets.popleft()
            self._bytes -= length
            if ticket.abandoned:
                self._on_dropped()
                continue
            frame.append(ticket)
            size += length
        return frame

    def clear(self) -> list[Ticket]:
        """Take everything out."""
        tickets, self._tickets, self._bytes = list(self._tickets), deque(), 0
        return tickets
