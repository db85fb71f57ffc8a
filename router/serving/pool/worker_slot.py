"""One worker at work: the frames it holds, and the clock over each of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter

from router.core.events import Predicted
from router.core.ids import VersionId
from router.core.memory import EARLY_ANSWERS, Resident
from router.errors import DeadlineExceeded, RequestRefused, WorkerDied
from router.protocol.messages import Answer
from router.serving.pool.request_queue import PendingRequest
from router.serving.pool.stall_tracker import StallTracker
from router.serving.ports import WorkerHandle

CRASHES = ("exit", "signal", "out_of_memory", "invalid")
"""Reasons of a worker's end that are its version's doing."""
_numbers = count(1)


@dataclass(slots=True, eq=False)
class _Frame:
    tickets: dict[int, PendingRequest | None]
    """Unanswered requests by their place; None for what was given back since, and is predicted for nobody."""
    running_since: float
    """Loop time at which its predict that runs now began."""
    started_at: float
    """The same moment by a finer clock: uvloop's own counts in milliseconds."""
    alone: bool
    """Nothing runs beside it: it may be what ended a worker."""
    number: int
    """Of its predict, in this gateway."""

    def live(self) -> list[PendingRequest]:
        return [ticket for ticket in self.tickets.values() if ticket is not None]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came out of one predict, without what was for nobody."""

    tickets: Sequence[PendingRequest]
    answers: Sequence[Answer]
    started_at: float
    """`perf_counter` when the predict began."""

    def fact(self, version: VersionId) -> Predicted:
        """What is recorded of it. The request that waited longest is the first."""
        oldest = self.tickets[0]
        return Predicted(
            version.model,
            oldest.alias,
            version,
            predict_seconds=self.answers[0].predict_seconds,
            queue_seconds=self.started_at - oldest.queued_at,
            rows=sum(answer.rows for answer in self.answers),
            requests=len(self.tickets),
            scores=next((answer.scores for answer in self.answers if answer.scores), ()),
        )


class WorkerSlot:
    """Hands frames to one worker and ends the worker when one predict runs too long."""

    def __init__(
        self,
        worker: WorkerHandle,
        loop: asyncio.AbstractEventLoop,
        predict_timeout_seconds: Callable[[], float],
        on_done: Callable[[BatchResult], None],
    ) -> None:
        self.worker = worker
        self.answered = 0
        """Requests the worker has answered."""
        self.early: Resident | None = None
        """Its memory after the first few of them; None before."""
        self.end_reason = "exit"
        self._loop = loop
        self._predict_timeout_seconds = predict_timeout_seconds
        self._on_done = on_done
        self._frames: list[_Frame] = []
        self._silence = StallTracker(next(_numbers))
        self._overdue: _Frame | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = False
        self._ending = False

    @property
    def load(self) -> int:
        """Frames that are not fully answered."""
        return len(self._frames)

    @property
    def oldest(self) -> int | None:
        """Number of the frame that is here longest."""
        return self._frames[0].number if self._frames else None

    def has_room(self, *, alone: bool) -> bool:
        """Whether it can take one more frame; one that is to be `alone` needs a worker that is idle."""
        if self._ending or any(frame.alone for frame in self._frames):
            return False
        return not self._frames if alone else len(self._frames) < self.worker.parallel

    def running_seconds(self, *, alone: bool) -> float:
        """How long the frame has run that began last; 0.0 while there is room for another."""
        if self.has_room(alone=alone) or not self._frames:
            return 0.0
        return self._loop.time() - max(frame.running_since for frame in self._frames)

    def give_back(self) -> list[PendingRequest]:
        """Hand out requests that share a frame which holds them up: another worker may be sooner.

        Which of them is the slow one can not be told, so each is to be asked alone. A request that has a
        frame of its own runs, and is never asked twice.
        """
        given = [ticket for frame in self._frames if len(frame.tickets) > 1 for ticket in frame.live()]
        for frame in self._frames:
            if len(frame.tickets) > 1:
                frame.tickets = dict.fromkeys(frame.tickets)
        return _alone(given)

    def start(self, tickets: list[PendingRequest]) -> None:
        """Send one frame to the worker, which has room for it."""
        alone = any(ticket.alone for ticket in tickets)
        started_at, number = perf_counter(), next(_numbers)
        frame = _Frame(dict(enumerate(tickets)), self._loop.time(), started_at, alone, number)
        call = number if len(tickets) > 1 else None
        beside = self._silence if self._frames else None
        if beside is None:
            self._silence.begin(started_at)
        for ticket in tickets:
            ticket.started_at, ticket.call, ticket.silence = started_at, call, beside
        self._frames.append(frame)
        if self._timer is None:
            self._watch()
        self.worker.submit([ticket.query for ticket in tickets], partial(self._take, frame))

    def retire(self) -> None:
        """End the worker as soon as its frames are answered."""
        self._retiring = True
        if not self._frames:
            self._let_go()

    def end(self, reason: str) -> None:
        """End the worker now; the request that runs is told why."""
        self.end_reason = reason
        self._ending = True  # it lives on for a moment, in which nothing more is for it
        self.worker.kill()

    def leave(self) -> list[PendingRequest]:
        """Stop watching and hand out what is unanswered."""
        unanswered = [ticket for frame in self._frames for ticket in frame.live()]
        self._frames = []
        self._stop_watching()
        return unanswered

    def bequest(self) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """After the worker ended: requests that ended with it, and those to be asked again.

        A request ends with its worker when it alone can have been the one that ran. Of several, each is asked
        once more and alone; so whoever did it does it once more, and to nobody else.
        """
        suspects = [self._overdue] if self._overdue is not None else self._frames
        innocent = [ticket for frame in self._frames if frame not in suspects for ticket in frame.live()]
        suspected = [ticket for frame in suspects for ticket in frame.tickets.values()]
        self.leave()
        live = [ticket for ticket in suspected if ticket is not None]
        return (live, innocent) if len(suspected) == 1 else ([], [*_alone(live), *innocent])

    def obituary(self) -> RequestRefused:
        """What the caller of the running request is told after the worker ended."""
        if self.end_reason == "predict_timeout":
            limit = self._predict_timeout_seconds()
            return DeadlineExceeded(f"the predict ran longer than {limit:g} s")
        if self.end_reason == "memory":
            return WorkerDied("its predict took more memory than worker_memory_mib allows")
        exit_ = self.worker.exited.result()
        if exit_.reason:
            self.end_reason = "invalid"
        elif exit_.out_of_memory:
            self.end_reason = "out_of_memory"
        else:
            self.end_reason = "signal" if exit_.signal is not None else "exit"
        return WorkerDied(f"the worker ended while it ran this request: {exit_}")

    def _take(self, frame: _Frame, places: Sequence[int], answers: Sequence[Answer]) -> None:
        if frame not in self._frames:
            return  # it was given up
        started_at, now = frame.started_at, perf_counter()
        self._silence.end(frame.number, now)
        pairs = [(frame.tickets.pop(place), answer) for place, answer in zip(places, answers, strict=True)]
        early = self.answered < EARLY_ANSWERS
        self.answered += len(pairs)
        if early and self.answered >= EARLY_ANSWERS:
            self.early = self.worker.resident()
        if frame.tickets:
            frame.running_since, frame.started_at = self._loop.time(), now
        else:
            self._frames.remove(frame)
            if self._retiring and not self._frames:
                self._let_go()
        tickets, heard = [], []
        for ticket, answer in pairs:
            if ticket is not None:
                tickets.append(ticket)
                heard.append(answer)
        self._on_done(BatchResult(tickets, heard, started_at))

    def _watch(self) -> None:
        # One timer for the seat, not one per frame: it looks when the limit could first be passed.
        self._timer = None
        if not self._frames:
            return
        oldest = min(self._frames, key=lambda frame: frame.running_since)
        ends_at = oldest.running_since + self._predict_timeout_seconds()
        if self._loop.time() >= ends_at:
            self._overdue = oldest
            self.end("predict_timeout")
        else:
            self._timer = self._loop.call_at(ends_at, self._watch)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        self._stop_watching()
        self._closing = self._loop.create_task(self.worker.close(), name="retire worker")


def _alone(tickets: list[PendingRequest]) -> list[PendingRequest]:
    for ticket in tickets:
        ticket.alone = True
    return tickets
