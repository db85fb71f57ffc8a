"""The child that holds one version: first frame LoadSpec, then requests, until the gateway is gone."""

import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
from threadpoolctl import threadpool_limits

from router.errors import LoadFailed
from router.processes.child_logging import flush, log_event
from router.processes.gc_tuning import freeze_heap
from router.protocol.channel import Channel
from router.protocol.messages import (
    MAX_ANSWER_BYTES,
    Answer,
    Batch,
    Batching,
    Query,
    answers_frame,
    batching_header,
    failed_header,
    load_spec,
    queries_of,
    ready_header,
)
from router.worker.batching_trial import BatchingTrial, TrialSample, deep_copy, efforts
from router.worker.load import load_version
from router.worker.scorer import Scorer
from router.worker.sharing_cost import Busy, SharingCost
from router.worker.tracking import use_tracking

_DOING = {"load": "load", "warmup": "warm up"}
_Task = tuple[int, int, Query]
_hidden: list[ModuleType] = []  # kept, because freeing them would copy the pages that all workers share


def main(sock: socket.socket) -> None:
    """Hold the version named in the first frame. Returns when the other side of `sock` is gone."""
    np.random.seed()  # a fork copies the global generator: without this, all workers draw the same numbers
    channel = Channel(sock)
    try:
        _hold(channel)
    except ConnectionError:  # the gateway went away while we answered
        return


def _hold(channel: Channel) -> None:
    if (first := channel.receive()) is None:
        return
    spec, call = load_spec(first.header), first.header.get("id")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(spec.blas_threads)  # for libraries that the version brings
    _hide_ourselves()
    try:
        _enter(first.header["working_directory"])
        loaded = load_version(spec, note=use_tracking(spec.tracking))
    except LoadFailed as failure:
        log_event(f"{spec.version} failed to {_DOING[failure.phase]}", error=failure.__cause__)
        channel.send({**failed_header(failure.phase, str(failure)), "id": call})
        return
    threadpool_limits(spec.blas_threads)
    # What MLflow warns about on a request, it warns about on every one, naming the caller's columns.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    freeze_heap()
    flush()  # what was printed before READY can hold no request, and is shown
    channel.send({**ready_header(loaded.info), "id": call})
    RequestLoop(channel, loaded.scorer, loaded.info.batching, loaded.trial, spec.threads).run()


def _enter(working_directory: str | None) -> None:
    if working_directory is not None:
        try:
            os.chdir(working_directory)
        except OSError as error:
            raise LoadFailed(f"its working directory is not there: {error.strerror}", phase="load") from error


def _hide_ourselves() -> None:
    # Models ship modules named `router` too. All we need is imported; from here on the name is theirs.
    names = [name for name in sys.modules if name == "router" or name.startswith("router.")]
    _hidden.extend(sys.modules.pop(name) for name in names)


class RequestLoop:
    """Answers what comes through one channel until the gateway is gone."""

    def __init__(
        self, channel: Channel, scorer: Scorer, batching: Batching, trial: BatchingTrial | None, threads: int
    ) -> None:
        """`trial`: what may turn `batching` on later; None when that is decided."""
        self._channel = channel
        self._scorer = scorer
        self._merges = batching.merges
        self._trial = trial
        self._threads = threads
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
        sequence, queries = frame.header["seq"], queries_of(frame)
        if self._merges:
            self._answer_together(sequence, queries)
        elif self._threads == 1:
            for place, query in enumerate(queries):
                self._answer((sequence, place, query))
        else:
            self._share_out(sequence, queries)
        return True

    def _answer_together(self, sequence: int, queries: Sequence[Query]) -> None:
        if not self._cost.compares(queries):
            for places, answers in self._scorer.together(queries):
                self._send(sequence, places, answers)
            return
        busy = Busy()
        lone = self._scorer.answer(queries[0])
        self._send(sequence, (0,), (lone,))
        shared: list[Sequence[Answer]] = []
        for places, answers in self._scorer.together(queries[1:]):
            self._send(sequence, [place + 1 for place in places], answers)
            shared.append(answers)
        if len(shared) == 1 and (decision := self._cost.add((lone,), shared[0], busy.share())):
            with self._sending:
                self._merges = decision.merges
                self._channel.send(batching_header(decision))

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
