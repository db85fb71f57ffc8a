"""Answers the requests that come through one channel: in turn, side by side, or sharing predicts."""

import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic, process_time, thread_time

from msgspec import structs

from router.processes.child_logging import log_cause, log_event
from router.protocol.channel import Channel
from router.protocol.cpu_threads import CPU_THREADS, cpu_threads_header, most_threads_of
from router.protocol.frames import Frame
from router.protocol.messages import (
    BATCHING,
    HUNG_UP,
    MAX_ANSWER_BYTES,
    REPEAT,
    Answer,
    Batch,
    Batching,
    Query,
    answers_frame,
    batching_header,
    batching_of,
    queries_of,
    repeats_header,
    wants_traits,
)
from router.protocol.shadow_frames import SHADOW, shadow_of
from router.worker.batching_trial import BatchingTrial, TrialSample, deep_copy, efforts
from router.worker.predict_threads import PredictThreads, use_threads
from router.worker.scorer import Scorer
from router.worker.shadow import answer_shadow
from router.worker.sharing_check import SharingCheck
from router.worker.sharing_cost import SharingCost
from router.worker.traits import Allowance

_Task = tuple[int, int, Query]
_RETRY_SECONDS = 10.0
"""Between two tries to have more threads, where there were fewer than were asked for."""


class RequestLoop:
    """Answers what comes through one channel until the gateway is gone."""

    def __init__(
        self,
        channel: Channel,
        scorer: Scorer,
        batching: Batching,
        trial: BatchingTrial | None,
        threads: int,
        check: SharingCheck | None = None,
        cpu_threads: int = 1,
    ) -> None:
        """`trial`: what may turn `batching` on later; None when that is decided.

        `check`: what may turn it off; None where no request may be predicted twice. `cpu_threads`: for linear
        algebra, of each predict that runs beside others.
        """
        self._channel = channel
        self._scorer = scorer
        self._batching = batching
        self._trial = trial
        self._threads = threads
        self._check = check
        self._cpu_threads = cpu_threads
        self._announced = 0
        """Requests to be repeated, as the gateway knows."""
        self._cost = SharingCost(threads)
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._working = 0
        """Threads that answer; this one does while there are none."""
        self._limit: int | None = None
        """How many predicts run side by side, where that is fewer than `threads`."""
        self._more_threads_at = float("-inf")
        self._deferred: deque[Frame] = deque()
        """Frames that came while the only thread predicted."""
        self._hung_up: set[tuple[int, int]] = set()
        """Of the requests that are here, by frame and place, those whose callers hung up."""
        self._here: set[tuple[int, int]] = set()
        self._cpu: PredictThreads | None = None
        self._worked = scorer.worked = process_time()
        """Processor time of this process, as of the answers that were last sent."""
        self._choose_clock()

    def learn_cpu_threads(self) -> None:
        """Find out how many threads for linear algebra predicts are to have; `run` in this same thread."""
        self._cpu = PredictThreads()
        self._watch_predicts()

    def _watch_predicts(self) -> None:
        """Which predicts are measured, after the way in which requests are predicted changed."""
        self._choose_clock()
        # While a trial finds out whether they may share predicts, it compares what predicts take itself.
        one_by_one = self._batching.merges or (self._threads == 1 and self._trial is None)
        if self._cpu is not None:
            self._cpu.run(one_by_one=one_by_one)
            self._scorer.watch = self._cpu if one_by_one else None

    def _choose_clock(self) -> None:
        """A predict that runs alone may use all threads of the process; of those side by side each has one.

        The clock of the process would count each of them for all."""
        alone = self._batching.merges or self._threads == 1
        self._scorer.processor_clock = process_time if alone else thread_time

    def _report_cpu_threads(self) -> None:
        if self._cpu is not None and (chosen := self._cpu.news()) is not None:
            with self._sending:
                self._channel.send(cpu_threads_header(chosen))

    def run(self) -> None:
        """Return when the gateway closed its end. Raises ConnectionError when it went away meanwhile."""
        while self._next_frame():
            pass

    def _next_frame(self) -> bool:
        # A function of its own: what it holds is gone while the next frame is waited for.
        frame = self._deferred.popleft() if self._deferred else self._channel.receive()
        if frame is None:
            return False
        if self._is_hang_up(frame):
            return True
        if frame.header["op"] == REPEAT:
            self._repeat()
        elif frame.header["op"] == BATCHING:
            self._follow(batching_of(frame.header))
        elif frame.header["op"] == SHADOW:
            self._answer_shadow(frame)
        elif frame.header["op"] == CPU_THREADS:
            if self._cpu is not None:
                self._cpu.limit(most_threads_of(frame.header))
        else:
            self._answer_frame(frame.header["seq"], queries_of(frame), wants_traits=wants_traits(frame))
        self._report_cpu_threads()
        return True

    def _answer_frame(self, sequence: int, queries: Sequence[Query], *, wants_traits: bool) -> None:
        if self._batching.merges:
            self._answer_together(sequence, queries, Allowance() if wants_traits else None)
        elif self._threads == 1:
            for place, query in enumerate(queries):
                self._here.add((sequence, place))
                self._answer((sequence, place, query))
        else:
            self._share_out(sequence, queries)

    def _answer_together(self, sequence: int, queries: Sequence[Query], allowance: Allowance | None) -> None:
        """`allowance`: None where no traits are wanted."""
        if not self._cost.compares(queries):
            for places, answers in self._scorer.together(queries, self._check):
                self._announce_repeats()
                self._send_completed(sequence, queries, places, answers, allowance)
            return
        shared: list[Sequence[Answer]] = []
        with efforts() as took:
            lone = self._scorer.answer(queries[0])
            self._send_completed(sequence, queries, (0,), (lone,), allowance)
            for their_places, answers in self._scorer.together(queries[1:], self._check):
                self._announce_repeats()
                places = [place + 1 for place in their_places]
                self._send_completed(sequence, queries, places, answers, allowance)
                shared.append(answers)
        if len(shared) == 1 and (decision := self._cost.add((lone,), shared[0], took[0].busy)):
            self._take_back(decision)

    def _answer_shadow(self, frame: Frame) -> None:
        """Of a version that has no other request: nothing is under way, and nothing learns of it."""
        compared = answer_shadow(self._scorer, frame.header["seq"], shadow_of(frame), self._worked_since)
        with self._sending:
            self._channel.send(structs.asdict(compared))

    def _announce_repeats(self) -> None:
        # Before the answers: when these have come, the gateway may have nothing else to do.
        left = self._check.left if self._check is not None else 0
        if left != self._announced:
            self._send_repeats(left)

    def _send_repeats(self, left: int) -> None:
        self._announced = left
        with self._sending:
            self._channel.send(repeats_header(left))

    def _repeat(self) -> None:
        check = self._check
        if check is not None and check.left and (decision := check.repeat()):
            self._take_back(decision)
        self._send_repeats(check.left if check is not None else 0)

    def _follow(self, batching: Batching) -> None:
        """What another worker of this version found out holds here, too."""
        with self._sending:
            self._predict_by(batching)
        if self._check is not None:
            self._check.clear()

    def _take_back(self, decision: Batching) -> None:
        with self._sending:
            self._predict_by(decision)
            self._report_batching()
        if self._check is not None:
            self._check.clear()
        log_event(f"its requests share predicts no more: {decision.why}")

    def _predict_by(self, batching: Batching) -> None:
        """Predict requests so from now on; the channel is to be locked."""
        self._trial, self._batching = None, batching
        self._watch_predicts()

    def _share_out(self, sequence: int, queries: Sequence[Query]) -> None:
        if self._working < self._threads:
            self._start_threads()
        for place, query in enumerate(queries):
            self._here.add((sequence, place))
            if self._working:
                self._tasks.put((sequence, place, query))
            else:
                self._answer((sequence, place, query))

    def _start_threads(self) -> None:
        """As many as there may be: a limit of threads or processes is no reason to answer nobody."""
        if (now := monotonic()) < self._more_threads_at:
            return
        limit = None
        try:
            while self._working < self._threads:
                threading.Thread(target=self._work, name=f"predict {self._working}", daemon=True).start()
                self._working += 1
        except RuntimeError as error:
            self._more_threads_at = now + _RETRY_SECONDS
            limit = max(self._working, 1)
            if self._limit is None:
                log_event(f"{self._working} of {self._threads} threads answer requests: {error}")
        with self._sending:
            changed, self._limit = limit != self._limit, limit
            if changed and not self._batching.merges:
                self._report_batching()

    def _report_batching(self) -> None:
        """Report how requests are predicted from now on; the channel is to be locked."""
        why = self._batching.why
        if self._limit is not None:
            why = f"{why}; {self._limit} of {self._threads} predicts run side by side, for want of threads"
        self._channel.send(batching_header(structs.replace(self._batching, why=why, threads=self._limit)))

    def _work(self) -> None:
        if self._cpu_threads > 1:  # the environment says it to those libraries only that the version brings
            use_threads(self._cpu_threads)
        while True:
            try:
                self._answer(self._tasks.get())
            except ConnectionError:  # the gateway went away while we answered
                return
            except BaseException as error:  # noqa: BLE001 - a request without a thread is never answered
                log_cause(error)
                os._exit(1)

    def _is_hang_up(self, frame: Frame) -> bool:
        if frame.header["op"] != HUNG_UP:
            return False
        if (request := (frame.header["seq"], frame.header["place"])) in self._here:
            self._hung_up.add(request)
        return True

    def _is_for_nobody(self, request: tuple[int, int]) -> bool:
        """Whether the caller of a request hung up while it ran."""
        while self._threads == 1 and (frame := self._channel.arrived()) is not None:
            if not self._is_hang_up(frame):
                self._deferred.append(frame)
        return request in self._hung_up

    def _answer(self, task: _Task) -> None:
        request = task[:2]
        try:
            self._answer_one(task)
        finally:
            self._here.discard(request)
            self._hung_up.discard(request)

    def _answer_one(self, task: _Task) -> None:
        sequence, place, query = task
        request = self._scorer.decode(query)
        if isinstance(request, Answer):
            self._send_one(task, request)
            return
        trial = self._trial
        if trial is None or not trial.accepts(request, query.body):
            self._send_one(task, self._scorer.answer_alone(request))
            return
        # A version may change the data it is given: what is predicted once more has to be as it came.
        try:
            data, params = deep_copy((request.data, request.params))
        except Exception:  # noqa: BLE001 - a Parquet file may bring cells that can not be copied
            self._send_one(task, self._scorer.answer_alone(request))
            return
        untouched = replace(request, data=data, params=params)
        with efforts() as took:
            outcome = self._scorer.predict([request])
        self._send_one(task, self._scorer.answer_to(request, outcome))
        # What nobody waits for is predicted once at most: the trial predicts it a second time.
        if outcome.failure is None and not self._is_for_nobody((sequence, place)):
            trial.add(TrialSample(untouched, query.body, outcome.predictions, took[0]))
            self._settle(trial)

    def _settle(self, trial: BatchingTrial) -> None:
        with self._sending:
            if self._trial is not None and (decision := trial.decision) is not None:
                self._predict_by(decision)
                self._report_batching()

    def _send_one(self, task: _Task, answer: Answer) -> None:
        sequence, place, query = task
        if query.traits:
            [answer] = self._scorer.traits.complete((query,), (0,), (answer,), Allowance())
        self._send(sequence, (place,), (answer,))

    def _send_completed(
        self,
        sequence: int,
        queries: Sequence[Query],
        places: Sequence[int],
        answers: Sequence[Answer],
        allowance: Allowance | None,
    ) -> None:
        """The answers to the queries at these places, with the traits that are wanted of them."""
        if allowance is not None:
            answers = self._scorer.traits.complete(queries, places, answers, allowance)
        self._send(sequence, places, answers)

    def _send(self, sequence: int, places: Sequence[int], answers: Sequence[Answer]) -> None:
        # One answer always fits into a frame; those of a batch need not.
        if len(answers) == 1 or sum(len(answer.body) for answer in answers) <= MAX_ANSWER_BYTES:
            self._send_batch(sequence, tuple(places), tuple(answers))
            return
        for place, answer in zip(places, _counted_once(answers), strict=True):
            self._send_batch(sequence, (place,), (answer,))

    def _send_batch(self, sequence: int, places: tuple[int, ...], answers: tuple[Answer, ...]) -> None:
        with self._sending:
            batch = Batch(sequence, places, answers, self._worked_since())
            self._channel.send(*answers_frame(batch))

    def _worked_since(self) -> float:
        """Seconds of a processor since it was last asked; the channel is locked, or nothing else runs."""
        # Where predicts run one by one, the clock was read a moment ago; it costs a microsecond.
        alone = self._scorer.processor_clock is process_time
        before, now = self._worked, self._scorer.worked if alone else process_time()
        self._worked = max(before, now)  # the last predict was by another clock, or there was none
        return self._worked - before


def _counted_once(answers: Sequence[Answer]) -> list[Answer]:
    """Answers of one predict for a frame each: what it took, and its rows, are in the first one alone."""
    first, *others = answers
    return [
        structs.replace(first, predict_rows=sum(answer.rows for answer in answers)),
        *(structs.replace(answer, processor_seconds=0.0, predict_rows=0) for answer in others),
    ]
