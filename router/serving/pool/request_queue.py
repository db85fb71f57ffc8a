"""Requests that wait for a worker of one version: who may join, who is next, and when a batch is made."""

import asyncio
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from router.core.ids import Alias
from router.errors import CallerGone, DeadlineExceeded, Overloaded, RouterError
from router.protocol.messages import Answer, Query

MAX_QUEUED_BYTES = 128 << 20
"""Of the bodies that wait for one version; the last one may stand over it."""
MAX_BATCH_REQUESTS = 64
MAX_BATCH_BYTES = 8 << 20
HUNG_UP_SHARE = 0.25
"""Of the requests that left a queue since it was last empty: where so many of their callers hung up, the
newest is next. The oldest is then the one whose caller hangs up next, and its predict would be for nobody."""
_FEW_TOMBSTONES = 64
_RECENT = 64
_NOTHING = Query(b"", None)

LEARNED_FROM = 64
"""Answers from which the cost of a request is learned."""
_LOOK_EVERY = 8
MANY = 1 << 20
CALM_SECONDS = 1.0
CALM_REQUESTS = 8
"""A queue that is over in this time, or that is no more than these requests per worker, is always good."""
BURST_SECONDS = 0.5
"""How long after it was empty a queue takes requests beyond that: a burst comes once, overload stays."""
SHARED_AS_ONE = 1.5
"""A predict that took no longer than so many times the fastest one cost as much as one request."""
BATCH_SECONDS = 0.05
"""Work that is handed to a worker at once. What is handed over can not be dropped or given to another."""

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


class Admission:
    """Learns what requests cost one version, and refuses what would only make everybody wait.

    Pure: time comes in as an argument, in seconds of any one clock.
    """

    def __init__(self) -> None:
        self.typical_seconds = 0.0
        """Median time that a request costs a worker, its part of a shared predict; 0.0 until known. One slow
        caller does not move it."""
        self.predict_seconds = 0.0
        """Median time of a predict, shared or not."""
        self.fastest_seconds = 0.0
        """Least time of a predict, among the last."""
        self.last_requests = 0
        """Of the last predict."""
        self._costs: deque[float] = deque(maxlen=LEARNED_FROM)
        self._predicts: deque[float] = deque(maxlen=LEARNED_FROM)
        self._rows: deque[tuple[int, int]] = deque(maxlen=LEARNED_FROM)
        self._rows_per_byte = 0.0
        self._learned = 0
        self._merges = False
        self._last_seconds = 0.0
        self._empty_at = 0.0

    def note_batching(self, *, merges: bool) -> None:
        """Requests share predicts or not; where that is new, what they cost is learned anew."""
        if merges is self._merges:
            return
        self._merges = merges
        self.typical_seconds = self.predict_seconds = self.fastest_seconds = 0.0
        self._costs.clear()
        self._predicts.clear()
        self._learned = self.last_requests = 0

    def learn(self, seconds: float, rows: Sequence[int], sizes: Sequence[int]) -> None:
        """A predict of some requests took a worker `seconds`.

        `rows` and `sizes` in bytes per request; 0 rows: it was refused.
        """
        self.last_requests, self._last_seconds = len(sizes), seconds
        self._predicts.append(seconds)
        self._costs.append(seconds / len(sizes))
        if 0 not in rows and (size := sum(sizes)):
            self._rows.append((sum(rows), size))
        self._learned += 1
        if self._learned <= _LOOK_EVERY or self._learned % _LOOK_EVERY == 0:
            ordered = sorted(self._predicts)
            self.fastest_seconds, self.predict_seconds = ordered[0], ordered[len(ordered) // 2]
            self.typical_seconds = sorted(self._costs)[len(self._costs) // 2]
            rows_known, bytes_known = map(sum, zip(*self._rows, strict=True)) if self._rows else (0, 1)
            self._rows_per_byte = rows_known / bytes_known

    def rows_in(self, size: int) -> int:
        """Rows of a request of `size` bytes, by those answered so far; at least 1."""
        return max(1, round(size * self._rows_per_byte))

    def admits(self, now: float, *, waiting: int, workers: int, seconds_left: float) -> bool:
        """Whether a request with `seconds_left` may join `waiting` others before `workers` at `now`.

        No, when it could not be answered in time. No, when the queue is longer than calm and has not been
        empty for longer than a burst lasts: then it takes up no peak, it only makes every caller wait.
        """
        if waiting == 0:
            self._empty_at = now
            return True
        wait = waiting * self.typical_seconds / max(workers, 1)
        calm = max(CALM_SECONDS, CALM_REQUESTS * self.typical_seconds)
        return wait <= seconds_left and (wait <= calm or now - self._empty_at <= BURST_SECONDS)

    def requests_at_once(self) -> int:
        """How many requests a worker is handed at once; at least 1.

        Twice as many as last time where those took hardly longer than one: what they cost together is only
        known once it was tried.
        """
        if not self.typical_seconds:
            return MANY
        most = max(1, int(BATCH_SECONDS / self.typical_seconds))
        as_one = self._last_seconds <= max(BATCH_SECONDS, SHARED_AS_ONE * self.fastest_seconds)
        return max(most, 2 * self.last_requests) if as_one else most


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
