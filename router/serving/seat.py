"""One worker at work: the frame it holds, which request of it runs, and the clock over that request."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from router.core.memory import EARLY_ANSWERS, Resident
from router.core.work import Answer
from router.errors import DeadlineExceeded, RequestRefused, WorkerDied
from router.serving.ports import Servable
from router.serving.tickets import Ticket

CRASHES = ("exit", "signal", "out_of_memory", "invalid")
"""Reasons of a worker's end that are its version's doing."""


class Seat:
    """Hands frames to one worker and ends the worker when one predict runs too long."""

    def __init__(
        self,
        worker: Servable,
        loop: asyncio.AbstractEventLoop,
        predict_timeout_seconds: Callable[[], float],
        on_answer: Callable[[Ticket, Answer, float], None],
        on_free: Callable[[], None],
    ) -> None:
        """`on_answer(ticket, answer, started_at)`; `on_free` when its last answer was for nobody."""
        self.worker = worker
        self.answered = 0
        """Requests the worker has answered."""
        self.early: Resident | None = None
        """Its memory after the first few of them; None before."""
        self.end_reason = "exit"
        self._loop = loop
        self._predict_timeout_seconds = predict_timeout_seconds
        self._on_answer = on_answer
        self._on_free = on_free
        self._frame: list[Ticket | None] = []
        """What was sent; None for what was given back since, which the worker predicts for nobody."""
        self._position = 0
        self._running_since = 0.0
        self._started_at = 0.0
        """The same moment by a finer clock: uvloop's own counts in milliseconds."""
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = False

    @property
    def busy(self) -> bool:
        """True while a request of the last frame is unanswered."""
        return bool(self._frame)

    def running_seconds(self) -> float:
        """How long the predict that runs now has run; 0.0 when none does."""
        return self._loop.time() - self._running_since if self._frame else 0.0

    def give_back(self) -> list[Ticket]:
        """Hand out what was sent and has not begun: another worker may be sooner than this predict ends."""
        waiting = [ticket for ticket in self._frame[self._position + 1 :] if ticket is not None]
        self._frame[self._position + 1 :] = [None] * (len(self._frame) - self._position - 1)
        return waiting

    def start(self, frame: list[Ticket]) -> None:
        """Send one frame to the worker, which is not busy."""
        self._frame, self._position = [*frame], 0
        self._begin()
        if self._timer is None:
            self._watch()
        self.worker.submit([ticket.query for ticket in frame], self._take)

    def retire(self) -> None:
        """End the worker as soon as its frame is answered."""
        self._retiring = True
        if not self.busy:
            self._let_go()

    def end(self, reason: str) -> None:
        """End the worker now; the request that runs is told why."""
        self.end_reason = reason
        self.worker.kill()

    def leave(self) -> list[Ticket | None]:
        """Stop watching and hand out what is unanswered."""
        unanswered, self._frame = self._frame[self._position :], []
        self._stop_watching()
        return unanswered

    def last_frame(self) -> tuple[Ticket | None, list[Ticket]]:
        """After the worker ended: the request that ran in it, and those it had not started."""
        unanswered = self.leave()
        unstarted = [ticket for ticket in unanswered[1:] if ticket is not None]
        return (unanswered[0], unstarted) if unanswered else (None, [])

    def obituary(self) -> RequestRefused:
        """What the caller of the running request is told after the worker ended."""
        if self.end_reason == "predict_timeout":
            limit = self._predict_timeout_seconds()
            return DeadlineExceeded(f"the predict ran longer than {limit:g} s", reason="timeout")
        if self.end_reason == "memory":
            return WorkerDied("its predict took more memory than worker_memory_mib allows", reason="crash")
        exit_ = self.worker.exited.result()
        if exit_.reason:
            self.end_reason = "invalid"
        elif exit_.out_of_memory:
            self.end_reason = "out_of_memory"
        else:
            self.end_reason = "signal" if exit_.signal is not None else "exit"
        return WorkerDied(f"the worker ended while it ran this request: {exit_}", reason="crash")

    def _take(self, index: int, answer: Answer) -> None:
        if index != self._position or not self._frame:
            return  # an answer of a frame that was given up
        ticket, started_at = self._frame[index], self._started_at
        self.answered += 1
        if self.answered == EARLY_ANSWERS:
            self.early = self.worker.resident()
        self._position += 1
        self._begin()
        if self._position == len(self._frame):
            self._frame, self._position = [], 0
            if self._retiring:
                self._let_go()
        if ticket is not None:
            self._on_answer(ticket, answer, started_at)
        elif not self._frame:
            self._on_free()

    def _begin(self) -> None:
        self._running_since, self._started_at = self._loop.time(), perf_counter()

    def _watch(self) -> None:
        # One timer for the seat, not one per request: it looks when the limit could first be passed.
        self._timer = None
        if not self._frame:
            return
        ends_at = self._running_since + self._predict_timeout_seconds()
        if self._loop.time() >= ends_at:
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
