"""Requests that wait for a worker of one version: who may join, who is next, and when a batch is made."""

import asyncio
from collections import deque
from time import perf_counter
from typing import Protocol

from router.core.ids import Alias
from router.errors import CallerGone, DeadlineExceeded, Overloaded, RouterError
from router.protocol.messages import Answer, Query
from router.serving.pool.admission import MAX_BATCH_REQUESTS

MAX_QUEUED_BYTES = 128 << 20
"""Of the bodies that wait for one version; the last one may stand over it."""
MAX_BATCH_BYTES = 8 << 20
HUNG_UP_SHARE = 0.25
"""Of the requests that left a queue since it was last empty: where so many of their callers hung up, the
newest is next. The oldest is then the one whose caller hangs up next, and its predict would be for nobody."""
_FEW_TOMBSTONES = 64
_RECENT = 64
_NOTHING = Query(b"", None)

QUIET_TURNS = 5
"""Measured: with one more, batches grow no longer."""


class QueueOwner(Protocol):
    """The pool whose queue it is. It counts a lease for each request until the work on it ends."""

    def release(self) -> None:
        """One request's work is over."""

    def dispatch(self) -> None:
        """Hand over what waits, as far as there are free workers."""


class BatchInWorker(Protocol):
    """The batch in which a request was handed to a worker; it knows what else ran there."""

    def blamed_batch(self, queued_at: float, queued_behind: int | None, now: float) -> int | None:
        """Number of the batch that took most of the time since `queued_at`, where others shared it.

        Times are of `perf_counter`; `queued_behind` is the batch that kept the workers busy meanwhile.
        """

    def hung_up(self, request: "PendingRequest") -> None:
        """The caller of a request hung up while it was with the worker."""

    def is_retried(self, *, ended_worker: bool) -> bool:
        """Whether a request that fails in it, by ending its worker or else, is asked once more, or was."""


class PendingRequest:
    """One request at one version: what is asked, and until when. `answer` is what the caller waits for.

    `answer` has a result or a RouterError at `expires_at` at the latest. The request may be worked on for
    longer: the pool's lease ends with the work, and `batch` knows where the time went.
    """

    __slots__ = (
        "_timer",
        "alias",
        "answer",
        "batch",
        "expires_at",
        "isolated",
        "may_wait_for_worker",
        "query",
        "queue",
        "queued_at",
        "queued_behind",
        "rows",
        "size",
    )

    def __init__(
        self,
        query: Query,
        alias: Alias,
        loop: asyncio.AbstractEventLoop,
        expires_at: float,
        *,
        rows: int = 1,
        may_wait_for_worker: bool = True,
    ) -> None:
        """`expires_at` in the loop's time; `rows` as estimated.

        `may_wait_for_worker` False: another version can answer, so it does not wait for a new worker.
        """
        self.query = query
        self.alias = alias
        self.queued_at = perf_counter()
        self.expires_at = expires_at
        self.rows = rows
        self.size = len(query.body)
        self.may_wait_for_worker = may_wait_for_worker
        self.isolated = False
        """True when it may be what ended a worker: then it runs in one that does nothing else."""
        self.queue: RequestQueue | None = None
        """Where it waits; None once it was handed to a worker, or nobody waits for it any more."""
        self.queued_behind: int | None = None
        """Number of the batch that kept the workers busy while it waited."""
        self.batch: BatchInWorker | None = None
        """The last one it was handed to a worker in; None before."""
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
        elif self.batch is not None:
            self.batch.hung_up(self)

    def cancel(self) -> None:
        """Nobody awaits `answer` any more; idempotent."""
        self._timer.cancel()
        self.answer.cancel()
        self._leave()

    def blamed_batch(self) -> int | None:
        """Number of the batch that took its time so far, if others had to do with that batch.

        What hits many keys at once says as much about a version as what hits one, and no more. So whoever
        counts faults has to know which of them are one.
        """
        if self.queue is not None:
            return self.queue.blocking_batch
        if self.batch is None:
            return None
        return self.batch.blamed_batch(self.queued_at, self.queued_behind, perf_counter())

    def _expire(self) -> None:
        error = DeadlineExceeded("no answer within the time this request had")
        error.blamed_batch = self.blamed_batch()
        self.fail(error)
        self._leave()

    def _leave(self) -> None:
        if self.queue is not None:
            self.queue.abandon(self)


class RequestQueue:
    """Requests that wait for a free worker, bounded in rows and in bytes. Who gave up takes no room."""

    def __init__(self, owner: QueueOwner) -> None:
        """`owner` gets the lease back of each request that leaves without having been taken."""
        self.blocking_batch: int | None = None
        """Number of the batch that keeps the workers busy, or did when a request last had to wait."""
        self._requests: deque[PendingRequest] = deque()
        self._tombstones = 0
        """Abandoned requests that still are in the deque; they hold no body and no lease."""
        self._rows = 0
        self._bytes = 0
        self._owner = owner
        self._taken = self._hung_up = 0
        """Requests that left since it was last empty, by how; of late ones, if there were many."""

    def __len__(self) -> int:
        return len(self._requests) - self._tombstones

    @property
    def rows(self) -> int:
        """Rows that wait, as estimated."""
        return self._rows

    def is_full(self, most_rows: int) -> bool:
        """Whether `put` would refuse."""
        return self._rows >= most_rows or self._bytes >= MAX_QUEUED_BYTES

    def put(self, request: PendingRequest, most_rows: int) -> None:
        """Append. Raises Overloaded at the bound, which the last request may pass: a large one must fit."""
        if self.is_full(most_rows):
            raise Overloaded("the queue of this version is full")
        if not len(self):
            self._taken = self._hung_up = 0
        self._requests.append(self._entered(request))

    def put_back(self, requests: list[PendingRequest]) -> None:
        """Return requests to the front, in their order: their worker ended before it answered them."""
        for request in reversed(requests):
            if request.abandoned:
                self._owner.release()
            else:
                self._requests.appendleft(self._entered(request))

    @property
    def head_is_isolated(self) -> bool:
        """Whether the next request is to run in a worker that does nothing else."""
        request = self._next()
        return request is not None and request.isolated

    @property
    def newest_first(self) -> bool:
        """Whether the next request is the one that came last: callers hang up on what waits longest."""
        return self._hung_up > 0 and self._hung_up >= HUNG_UP_SHARE * (self._hung_up + self._taken)

    def take(self, share: int, most_rows: int, expires_after: float) -> list[PendingRequest]:
        """Up to `share` waiting requests of one alias and `most_rows` rows; the first may be larger.

        One that expires before the loop's time `expires_after` is dropped: its answer would be for nobody.
        One that is `isolated` comes alone.
        """
        batch: list[PendingRequest] = []
        size = rows = 0
        isolated = self.head_is_isolated
        while len(batch) < min(share, MAX_BATCH_REQUESTS):
            request = self._next()
            # The worker was chosen for the first one, which may have been dropped since.
            if request is None or request.isolated is not isolated:
                break
            size, rows = size + request.size, rows + request.rows
            if batch and (size > MAX_BATCH_BYTES or rows > most_rows or request.alias != batch[0].alias):
                break
            if request is self._requests[0]:
                self._requests.popleft()
            else:
                self._requests.pop()
            self._left(request)
            self._count(hung_up=False)
            if request.expires_at < expires_after:
                late = DeadlineExceeded("its time would be over before its answer")
                late.blamed_batch = self.blocking_batch
                request.fail(late)
                self._owner.release()
                continue
            batch.append(request)
            if isolated:
                break
        return batch

    def take_unserved(self, until: float | None) -> list[PendingRequest]:
        """Take out those that must not wait for a worker to come, and those that expire by `until`."""
        kept: list[PendingRequest] = []
        gone: list[PendingRequest] = []
        for request in self._requests:
            if not request.abandoned:
                stays = request.may_wait_for_worker and (until is None or request.expires_at > until)
                (kept if stays else gone).append(request)
        if gone:
            for request in gone:
                self._left(request)
            self._requests, self._tombstones = deque(kept), 0
        return gone

    def clear(self) -> list[PendingRequest]:
        """Take everything out."""
        requests = [request for request in self._requests if not request.abandoned]
        for request in requests:
            self._left(request)
        self._requests, self._tombstones = deque(), 0
        return requests

    def hung_up(self, request: PendingRequest) -> None:
        """The caller of a waiting request hung up."""
        self._count(hung_up=True)
        self.abandon(request)

    def abandon(self, request: PendingRequest) -> None:
        """Nobody waits any more for this request, which is in the queue."""
        self._left(request)
        request.query = _NOTHING
        self._tombstones += 1
        if self._tombstones > max(_FEW_TOMBSTONES, len(self._requests) // 2):
            # Amortised: a constant time per request.
            self._requests = deque(one for one in self._requests if one.queue is not None)
            self._tombstones = 0
        self._owner.release()

    def _count(self, *, hung_up: bool) -> None:
        if hung_up:
            self._hung_up += 1
        else:
            self._taken += 1
        if self._taken + self._hung_up > _RECENT:
            self._taken, self._hung_up = self._taken // 2, self._hung_up // 2

    def _next(self) -> PendingRequest | None:
        """The request to be taken next. Isolated ones come first: they were with a worker before."""
        while self._requests and self._requests[0].queue is None:
            self._requests.popleft()
            self._tombstones -= 1
        if not self._requests:
            return None
        if self._requests[0].isolated or not self.newest_first:
            return self._requests[0]
        while self._requests[-1].queue is None:
            self._requests.pop()
            self._tombstones -= 1
        return self._requests[-1]

    def _entered(self, request: PendingRequest) -> PendingRequest:
        request.queue = self
        self._rows += request.rows
        self._bytes += request.size
        return request

    def _left(self, request: PendingRequest) -> None:
        request.queue, request.queued_behind = None, self.blocking_batch
        self._rows -= request.rows
        self._bytes -= request.size


class BatchWindow:
    """Has waiting requests dispatched a little later, once for all that arrived meanwhile."""

    def __init__(self, queue: RequestQueue, owner: QueueOwner) -> None:
        self._queue = queue
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None

    @property
    def is_open(self) -> bool:
        """True while a dispatch is scheduled."""
        return self._handle is not None

    def schedule(self, *, more_expected: bool) -> None:
        """Dispatch after the requests that arrive in this turn of the loop: they share a batch. Idempotent.

        Where more are on their way, because they came together before, it is after some turns in which none
        came. A turn in which nothing is read takes microseconds, and a lone client does not wait for any.
        """
        if self._handle is None:
            step = self._look if more_expected else self._owner.dispatch
            self._handle = self._loop.call_soon(step)

    def cancel(self) -> None:
        """Whoever calls has dispatched, or will not any more; idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self, waiting: int = 0, quiet: int = 0) -> None:
        now = len(self._queue)
        quiet = quiet + 1 if now == waiting else 0
        if quiet == QUIET_TURNS:
            self._owner.dispatch()
        else:
            self._handle = self._loop.call_soon(self._look, now, quiet)
