"""One worker at work: the batches it holds, the limit on the time of each, and when it answered nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Protocol

from router.core.events import Predicted
from router.core.ids import VersionId
from router.core.memory import Resident
from router.errors import DeadlineExceeded, RequestRefused, WorkerDied
from router.protocol.messages import Answer, Query
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.serving.pool.request_queue import PendingRequest
from router.serving.ports import WorkerHandle

CRASHES = ("exit", "signal", "out_of_memory", "invalid")
"""Reasons of a worker's end that are its version's doing."""
STALL_SECONDS = 0.5
"""A worker that answers none of its requests for as long is stalled."""
BASELINE_ANSWERS = 5
"""What a worker has grown by then is what the version needs, such as what it loads at its first predict."""
_numbers = count(1)


class SlotOwner(Protocol):
    """The pool that a worker works for."""

    @property
    def predict_timeout_seconds(self) -> float:
        """How long one predict may run; read when a limit starts, passes or changed."""

    def batch_answered(self, result: "BatchResult") -> None:
        """One predict of a worker is over."""

    def repeated(self, slot: "WorkerSlot") -> None:
        """A worker has predicted for nobody, and is free again."""

    def request_failed(self, request: PendingRequest | None, error: RequestRefused) -> None:
        """One request of a worker failed by itself; None: it was for nobody."""


class StallTracker:
    """Remembers when one worker last answered nothing though it had requests.

    What then fails in it fails together. Batches have numbers; times are of one monotonic clock, in seconds.
    """

    def __init__(self, number: int) -> None:
        """`number` stands for what was before the first batch; no batch has it."""
        self._answered, self._answered_at = number, 0.0
        self._last = (number, 0.0, 0.0)

    def begin(self, now: float) -> None:
        """The worker was idle, and gets a batch."""
        self._answered_at = now

    def end(self, number: int, now: float) -> None:
        """An answer of the batch `number` came."""
        if now - self._answered_at > STALL_SECONDS:
            self._last = (self._answered, self._answered_at, now)
        self._answered, self._answered_at = number, now

    def since(self, started_at: float, now: float) -> int | None:
        """The stall that fills most of the time since `started_at`, as one number; None: there was none.

        Of requests that run side by side, one can keep the whole process from answering.
        """
        lasts = now - self._answered_at > STALL_SECONDS
        number, began, ended = (self._answered, self._answered_at, now) if lasts else self._last
        return number if ended - max(began, started_at) > (now - started_at) / 2 else None


@dataclass(slots=True, eq=False)
class _Batch:
    number: int
    """In this gateway, unique."""
    requests: dict[int, PendingRequest | None]
    """Unanswered requests by their place; None for what was released since, and is predicted for nobody."""
    running_since: float
    """Loop time at which its predict that runs now began."""
    started_at: float
    """The same moment by a finer clock: uvloop's own counts in milliseconds."""
    handed_over_at: float
    """`perf_counter` when the worker got it."""
    isolated: bool
    """Nothing runs beside it: it may be what ended a worker."""
    shared: bool
    """Whether it was handed over with more than one request."""
    stalls: StallTracker | None
    """Of its worker, when others ran there beside it; else None."""
    worker: WorkerHandle
    worker_number: int = 0
    """Its number at its worker."""
    lone_answer: asyncio.Future[Answer] | None = None
    """Of a request that the gateway asks by itself; there is no other one then."""
    comparison: asyncio.Future[Compared] | None = None
    """Of a shadow; there is no request then."""

    def is_retried(self, *, ended_worker: bool) -> bool:
        return self.shared or self.isolated or (ended_worker and self.worker.parallel > 1)

    def live(self) -> list[PendingRequest]:
        return [request for request in self.requests.values() if request is not None]

    def hung_up(self, request: PendingRequest) -> None:
        for place, one in self.requests.items():
            if one is request:
                self.worker.hung_up(self.worker_number, place)
                return

    def blamed_batch(self, queued_at: float, queued_behind: int | None, now: float) -> int | None:
        if self.handed_over_at - queued_at > now - self.handed_over_at:
            return queued_behind
        if self.shared:
            return self.number
        return self.stalls.since(self.handed_over_at, now) if self.stalls is not None else None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came out of one predict, without what was for nobody."""

    requests: Sequence[PendingRequest]
    answers: Sequence[Answer]
    started_at: float
    """`perf_counter` when the predict began."""
    rows: int
    """Of the predict, those among them that were for nobody."""

    def fact(self, version: VersionId) -> Predicted:
        """What is recorded of it. The request that waited longest is the first."""
        oldest = self.requests[0]
        return Predicted(
            version.model,
            oldest.alias,
            version,
            predict_seconds=self.answers[0].predict_seconds,
            queue_seconds=self.started_at - oldest.queued_at,
            rows=self.rows,
            requests=len(self.requests),
            scores=next((answer.scores for answer in self.answers if answer.scores), ()),
            processor_seconds=self.answers[0].processor_seconds,
        )


@dataclass(frozen=True, slots=True)
class LoneRequest:
    """A request that the gateway asks by itself, of a worker that does nothing else meanwhile, unless its
    requests end apart."""

    answer: asyncio.Future[Answer]
    """Raises RequestRefused when the worker ended, for whatever reason."""
    slot: "WorkerSlot"
    batch: _Batch

    @property
    def apart(self) -> bool:
        """Whether `end` ends this request alone."""
        return self.slot.worker.apart

    def end(self) -> None:
        """It takes too long: end the worker, as for any predict that does, or where it is apart, it alone."""
        self.slot.end_overdue(self.batch)


@dataclass(frozen=True, slots=True)
class LoneShadow:
    """A shadow at a worker that does nothing else meanwhile."""

    comparison: asyncio.Future[Compared]
    """Raises WorkerDied when the worker ended, and DeadlineExceeded or VersionUnloaded when it was ended for
    that."""


class WorkerSlot:
    """Hands batches to one worker and ends the worker when one predict runs too long.

    `start` while `has_room`. After the worker ended, `exit_error` and then `split_unanswered`, once. After
    `detach` and after `retire` nothing more is started.
    """

    def __init__(self, worker: WorkerHandle, loop: asyncio.AbstractEventLoop, owner: SlotOwner) -> None:
        self.worker = worker
        self.answered = 0
        """Requests the worker has answered, without shadows."""
        self.baseline_memory: Resident | None = None
        """Its memory after the first few of them; None before."""
        self.end_reason = "exit"
        self._predicted = 0
        """Requests and shadows it has answered."""
        self._loop = loop
        self._owner = owner
        self._batches: list[_Batch] = []
        self._stalls = StallTracker(next(_numbers))
        self._overdue: _Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = False
        self._ending = False
        if worker.apart:
            worker.on_failed = self._failed

    @property
    def load(self) -> int:
        """Batches that are not fully answered."""
        return len(self._batches)

    @property
    def oldest_batch(self) -> int | None:
        """Number of the batch that is here longest."""
        return self._batches[0].number if self._batches else None

    @property
    def unanswered(self) -> int:
        """Requests that run here or are about to."""
        return sum(len(batch.live()) for batch in self._batches)

    def growth(self) -> int:
        """Bytes it has grown by since it was READY."""
        return self.worker.resident().total - self.worker.ready.total

    def has_room(self, *, isolated: bool) -> bool:
        """Whether it can take one more batch; one that is to be `isolated` needs a worker that is idle."""
        if self._ending or any(batch.isolated for batch in self._batches):
            return False
        return not self._batches if isolated else len(self._batches) < self.worker.parallel

    def running_seconds(self, *, isolated: bool) -> float:
        """How long the batch has run that began last; 0.0 while there is room for another."""
        if self.has_room(isolated=isolated) or not self._batches:
            return 0.0
        return self._loop.time() - max(batch.running_since for batch in self._batches)

    def start(self, requests: list[PendingRequest]) -> None:
        """Send one batch to the worker, which has room for it."""
        isolated = any(request.isolated for request in requests)
        batch = self._begin(dict(enumerate(requests)), isolated=isolated)
        for request in requests:
            request.batch = batch
        queries = [request.query for request in requests]
        batch.worker_number = self.worker.submit(queries, partial(self._take, batch))

    def repeat(self) -> None:
        """Have the worker, which is idle, repeat one request of a shared predict; nobody waits for that.

        It is a batch of its own while it lasts: there is no room beside it, and its time is limited.
        """
        batch = self._begin({0: None}, isolated=True)
        self.worker.repeat(partial(self._repeated, batch))

    def ask(self, query: Query) -> LoneRequest:
        """Have the worker, which is idle, answer `query` for nobody's request: it is counted nowhere.

        As a repeat, it is a batch of its own, and its time is limited. Where requests end apart the worker
        only needs room: others may run beside it.
        """
        batch = self._begin({0: None}, isolated=not self.worker.apart)
        batch.lone_answer = self._loop.create_future()
        batch.worker_number = self.worker.submit([query], partial(self._take_lone, batch))
        return LoneRequest(batch.lone_answer, self, batch)

    def shadow(self, asked: ShadowQuery) -> LoneShadow:
        """Have the worker, which is idle, answer a copy of a request for nobody: it is counted nowhere.

        As a repeat, it is a batch of its own, and its time is limited.
        """
        batch = self._begin({0: None}, isolated=True)
        batch.comparison = self._loop.create_future()
        self.worker.shadow(asked, partial(self._compared, batch))
        return LoneShadow(batch.comparison)

    def rearm(self) -> None:
        """`predict_timeout_seconds` may have changed: it holds for what runs already, too; idempotent."""
        self._stop_watching()
        self._watch()

    def release_stuck(self) -> list[PendingRequest]:
        """Hand out requests that share a batch which holds them up: another worker may be sooner.

        Which of them is the slow one can not be known, so each is to be asked in isolation. A request that
        has a batch of its own runs, and is never asked twice.
        """
        released = [request for batch in self._batches if len(batch.requests) > 1 for request in batch.live()]
        for batch in self._batches:
            if len(batch.requests) > 1:
                batch.requests = dict.fromkeys(batch.requests)
        return _isolated(released)

    def retire(self) -> None:
        """End the worker as soon as its batches are answered."""
        self._retiring = True
        if not self._batches:
            self._close()

    def end(self, reason: str) -> None:
        """End the worker now, for `reason`, which its running request gets in `exit_error`."""
        self.end_reason = reason
        self._ending = True  # it lives on for a moment, in which nothing more is for it
        self.worker.kill()

    def end_overdue(self, batch: _Batch) -> None:
        """A predict takes too long: end its worker, or where requests end apart, give up this one alone."""
        if not self.worker.apart:
            self._overdue = batch
            self.end("predict_timeout")
            return
        self.worker.give_up(batch.worker_number)
        for place in list(batch.requests):
            self._fail(batch, place, self._too_long())

    def detach(self, why: RequestRefused) -> list[PendingRequest]:
        """Stop watching and hand out what is unanswered; what the gateway asks by itself fails for `why`."""
        unanswered = [request for batch in self._batches for request in batch.live()]
        for batch in self._batches:
            for lone in (batch.lone_answer, batch.comparison):
                if lone is not None and not lone.done():
                    lone.set_exception(why)
        self._batches = []
        self._stop_watching()
        return unanswered

    @property
    def shadows(self) -> bool:
        """Whether a shadow is all that it works on."""
        return any(batch.comparison is not None for batch in self._batches)

    def split_unanswered(self, why: RequestRefused) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """After the worker ended, for `why`: requests that ended with it, and those to be asked again.

        A request ends with its worker when it alone can have been the one that ran. Of several, each is asked
        once more and in isolation; so whoever did it does it once more, and to nobody else. Where requests
        end apart, all end with it: what was sent elsewhere is not sent again.
        """
        if self.worker.apart:
            return self.detach(why), []
        suspects = [self._overdue] if self._overdue is not None else self._batches
        innocent = [request for batch in self._batches if batch not in suspects for request in batch.live()]
        suspected = [request for batch in suspects for request in batch.requests.values()]
        self.detach(why)
        live = [request for request in suspected if request is not None]
        return (live, innocent) if len(suspected) == 1 else ([], [*_isolated(live), *innocent])

    def exit_error(self) -> RequestRefused:
        """What the running request's caller gets after the worker ended; settles `end_reason`."""
        if self.end_reason == "predict_timeout":
            return self._too_long()
        if self.end_reason == "memory":
            return WorkerDied("its predict took more memory than worker_memory_mib allows")
        exit_ = self.worker.exited.result()
        if exit_.reason:
            self.end_reason = "invalid"
        elif exit_.out_of_memory:
            self.end_reason = "out_of_memory"
        else:
            self.end_reason = "signal" if exit_.signal is not None else "exit"
        died = WorkerDied(f"the worker ended while it ran this request: {exit_}")
        died.out_of_memory = exit_.out_of_memory
        return died

    def _too_long(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the predict ran longer than {self._owner.predict_timeout_seconds:g} s")

    def _failed(self, number: int, place: int, error: RequestRefused) -> None:
        batch = next((one for one in self._batches if one.worker_number == number), None)
        if batch is not None and place in batch.requests:
            self._fail(batch, place, error)

    def _fail(self, batch: _Batch, place: int, error: RequestRefused) -> None:
        request = batch.requests.pop(place)
        self._stalls.end(batch.number, perf_counter())
        if batch.lone_answer is not None and not batch.lone_answer.done():
            batch.lone_answer.set_exception(WorkerDied(str(error)))
        if not batch.requests:
            self._over(batch)
        self._owner.request_failed(request, error)

    def _begin(self, requests: dict[int, PendingRequest | None], *, isolated: bool) -> _Batch:
        started_at = perf_counter()
        batch = _Batch(
            next(_numbers),
            requests,
            self._loop.time(),
            started_at,
            started_at,
            isolated,
            len(requests) > 1,
            self._stalls if self._batches else None,
            self.worker,
        )
        if batch.stalls is None:
            self._stalls.begin(started_at)
        self._batches.append(batch)
        if self._timer is None:
            self._watch()
        return batch

    def _repeated(self, batch: _Batch) -> None:
        if batch in self._batches:
            self._over(batch)
            self._owner.repeated(self)

    def _compared(self, batch: _Batch, compared: Compared) -> None:
        if batch not in self._batches:
            return  # its worker has ended
        if batch.comparison is not None and not batch.comparison.done():
            batch.comparison.set_result(compared)
        self._note_predicts(1)
        self._over(batch)
        self._owner.repeated(self)

    def _note_predicts(self, number: int) -> None:
        early = self._predicted < BASELINE_ANSWERS
        self._predicted += number
        if early and self._predicted >= BASELINE_ANSWERS:
            self.baseline_memory = self.worker.resident()

    def _over(self, batch: _Batch) -> None:
        self._batches.remove(batch)
        if self._retiring and not self._batches:
            self._close()

    def _take_lone(self, batch: _Batch, places: Sequence[int], answers: Sequence[Answer]) -> None:
        if batch.lone_answer is not None and not batch.lone_answer.done():
            batch.lone_answer.set_result(answers[0])
        self.worker.processor_time.was_preflight(answers[0].processor_seconds)
        self._take(batch, places, answers)

    def _take(self, batch: _Batch, places: Sequence[int], answers: Sequence[Answer]) -> None:
        if batch not in self._batches:
            return  # it was given up
        started_at, now = batch.started_at, perf_counter()
        self._stalls.end(batch.number, now)
        pairs = [(batch.requests.pop(place), answer) for place, answer in zip(places, answers, strict=True)]
        self.answered += len(pairs)
        self._note_predicts(len(pairs))
        if batch.requests:
            batch.running_since, batch.started_at = self._loop.time(), now
        else:
            self._over(batch)
        requests, wanted = [], []
        for request, answer in pairs:
            if request is not None:
                requests.append(request)
                wanted.append(answer)
        if (rows := answers[0].predict_rows) is None:
            rows = sum(answer.rows for answer in answers)
        self._owner.batch_answered(BatchResult(requests, wanted, started_at, rows))

    def _watch(self) -> None:
        # One timer for the worker, not one per batch: it looks when the limit could first be passed.
        self._timer = None
        while self._batches and not self._ending:
            oldest = min(self._batches, key=lambda batch: batch.running_since)
            ends_at = oldest.running_since + self._owner.predict_timeout_seconds
            if self._loop.time() < ends_at:
                self._timer = self._loop.call_at(ends_at, self._watch)
                return
            self.end_overdue(oldest)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._stop_watching()
        self._closing = self._loop.create_task(self.worker.close(), name="retire worker")


def _isolated(requests: list[PendingRequest]) -> list[PendingRequest]:
    for request in requests:
        request.isolated = True
    return requests
