"""The loop of a READY worker: frames of requests in, their answers out, together or side by side."""

import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import replace

from router.processes.child_logging import log_event
from router.protocol.channel import Channel
from router.protocol.messages import (
    BATCHING,
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
)
from router.worker.batching_trial import BatchingTrial, TrialSample, deep_copy, efforts
from router.worker.scorer import Scorer
from router.worker.sharing_check import SharingCheck
from router.worker.sharing_cost import Busy, SharingCost

_Task = tuple[int, int, Query]


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
    ) -> None:
        """`trial`: what may turn `batching` on later; None when that is decided.

        `check`: what may turn it off; None where no request may be predicted twice.
        """
        self._channel = channel
        self._scorer = scorer
        self._merges = batching.merges
        self._trial = trial
        self._threads = threads
        self._check = check
        self._announced = 0
        """Requests to be repeated, as the gateway knows."""
        self._cost = SharingCost(threads)
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._started = False

    def run(self) -> None:
        """Return when the gateway closed its end. Raises ConnectionError when it went away meanwhile."""
        while self._next_frame():
            pass

    def _next_frame(self) -> bool:
        # A function of its own: what it holds is gone while the next frame is waited for.
        if (frame := self._channel.receive()) is None:
            return False
        if frame.header["op"] == REPEAT:
            self._repeat()
        elif frame.header["op"] == BATCHING:
            self._follow(batching_of(frame.header))
        else:
            self._answer_frame(frame.header["seq"], queries_of(frame))
        return True

    def _answer_frame(self, sequence: int, queries: Sequence[Query]) -> None:
        if self._merges:
            self._answer_together(sequence, queries)
        elif self._threads == 1:
            for place, query in enumerate(queries):
                self._answer((sequence, place, query))
        else:
            self._share_out(sequence, queries)

    def _answer_together(self, sequence: int, queries: Sequence[Query]) -> None:
        if not self._cost.compares(queries):
            for places, answers in self._scorer.together(queries, self._check):
                self._announce_repeats()
                self._send(sequence, places, answers)
            return
        busy = Busy()
        lone = self._scorer.answer(queries[0])
        self._send(sequence, (0,), (lone,))
        shared: list[Sequence[Answer]] = []
        for places, answers in self._scorer.together(queries[1:], self._check):
            self._announce_repeats()
            self._send(sequence, [place + 1 for place in places], answers)
            shared.append(answers)
        if len(shared) == 1 and (decision := self._cost.add((lone,), shared[0], busy.share())):
            self._take_back(decision)

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
            self._trial, self._merges = None, batching.merges
        if self._check is not None:
            self._check.clear()

    def _take_back(self, decision: Batching) -> None:
        with self._sending:
            self._merges = decision.merges
            self._channel.send(batching_header(decision))
        if self._check is not None:
            self._check.clear()
        log_event(f"its requests share predicts no more: {decision.why}")

    def _share_out(self, sequence: int, queries: Sequence[Query]) -> None:
        if not self._started:
            self._started = True
            for number in range(self._threads):
                threading.Thread(target=self._work, name=f"predict {number}", daemon=True).start()
        for place, query in enumerate(queries):
            self._tasks.put((sequence, place, query))

    def _work(self) -> None:
        while True:
            try:
                self._answer(self._tasks.get())
            except ConnectionError:  # the gateway went away while we answered
                return
            except BaseException as error:  # noqa: BLE001 - a request without a thread is never answered
                # Its text may quote the request.
                log_event(f"a thread that answers ended: {type(error).__name__}", level="error")
                os._exit(1)

    def _answer(self, task: _Task) -> None:
        sequence, place, query = task
        request = self._scorer.decode(query)
        if isinstance(request, Answer):
            self._send(sequence, (place,), (request,))
            return
        trial = self._trial
        if trial is None or not trial.accepts(request, query.body):
            self._send(sequence, (place,), (self._scorer.answer_alone(request),))
            return
        # A version may change the data it is given: what is predicted once more has to be as it came.
        try:
            data, params = deep_copy((request.data, request.params))
        except Exception:  # noqa: BLE001 - a Parquet file may bring cells that can not be copied
            self._send(sequence, (place,), (self._scorer.answer_alone(request),))
            return
        untouched = replace(request, data=data, params=params)
        with efforts() as took:
            outcome = self._scorer.predict([request])
        self._send(sequence, (place,), (self._scorer.answer_to(request, outcome),))
        if outcome.failure is None:
            trial.add(TrialSample(untouched, query.body, outcome.predictions, took[0]))
            self._settle(trial)

    def _settle(self, trial: BatchingTrial) -> None:
        with self._sending:
            if self._trial is not None and (decision := trial.decision) is not None:
                self._trial, self._merges = None, decision.merges
                self._channel.send(batching_header(decision))

    def _send(self, sequence: int, places: Sequence[int], answers: Sequence[Answer]) -> None:
        # One answer always fits into a frame; those of a batch need not.
        whole = sum(len(answer.body) for answer in answers) <= MAX_ANSWER_BYTES
        for start, end in [(0, len(answers))] if whole else [(i, i + 1) for i in range(len(answers))]:
            batch = Batch(sequence, tuple(places[start:end]), tuple(answers[start:end]))
            header, bodies = answers_frame(batch)
            with self._sending:
                self._channel.send(header, bodies)
