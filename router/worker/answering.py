"""The work of a READY worker: frames of requests in, their answers out, together or side by side."""

import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import replace

from router.processes.child_logging import say
from router.protocol.channel import Channel
from router.protocol.messages import (
    MAX_ANSWER_BYTES,
    Answer,
    Batch,
    Batching,
    Query,
    answers_frame,
    batching_header,
    queries_of,
)
from router.worker.independence import Earning, Sample, efforts, own_copy
from router.worker.scoring import Scorer

_Task = tuple[int, int, Query]


class Answering:
    """Answers what comes through one channel until the gateway is gone."""

    def __init__(
        self, channel: Channel, scorer: Scorer, batching: Batching, earning: Earning | None, threads: int
    ) -> None:
        """`earning`: what may turn `batching` on later; None when that is settled."""
        self._channel = channel
        self._scorer = scorer
        self._merges = batching.merges
        self._earning = earning
        self._threads = threads
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
        sequence, queries = frame.header["seq"], queries_of(frame)
        if self._merges:
            for places, answers in self._scorer.together(queries):
                self._send(sequence, places, answers)
        elif self._threads == 1:
            for place, query in enumerate(queries):
                self._answer((sequence, place, query))
        else:
            self._share_out(sequence, queries)
        return True

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
                say(f"a thread that answers ended: {type(error).__name__}", level="error")
                os._exit(1)

    def _answer(self, task: _Task) -> None:
        sequence, place, query = task
        prepared = self._scorer.prepare(query)
        if isinstance(prepared, Answer):
            self._send(sequence, (place,), (prepared,))
            return
        earning = self._earning
        if earning is None or not earning.takes(prepared, query.body):
            self._send(sequence, (place,), (self._scorer.alone(prepared),))
            return
        # A version may change the data it is given: what is predicted once more has to be as it came.
        try:
            data, params = own_copy((prepared.data, prepared.params))
        except Exception:  # noqa: BLE001 - a Parquet file may bring cells that can not be copied
            self._send(sequence, (place,), (self._scorer.alone(prepared),))
            return
        kept = replace(prepared, data=data, params=params)
        with efforts() as took:
            predicted = self._scorer.predict([prepared])
        self._send(sequence, (place,), (self._scorer.told(prepared, predicted),))
        if predicted.failure is None:
            earning.note(Sample(kept, query.body, predicted.predictions, took[0]))
            self._settle(earning)

    def _settle(self, earning: Earning) -> None:
        with self._sending:
            if self._earning is not None and (verdict := earning.verdict) is not None:
                self._earning, self._merges = None, verdict.merges
                self._channel.send(batching_header(verdict))

    def _send(self, sequence: int, places: Sequence[int], answers: Sequence[Answer]) -> None:
        # One answer always fits into a frame; those of a batch need not.
        whole = sum(len(answer.body) for answer in answers) <= MAX_ANSWER_BYTES
        for start, end in [(0, len(answers))] if whole else [(i, i + 1) for i in range(len(answers))]:
            batch = Batch(sequence, tuple(places[start:end]), tuple(answers[start:end]))
            header, bodies = answers_frame(batch)
            with self._sending:
                self._channel.send(header, bodies)
