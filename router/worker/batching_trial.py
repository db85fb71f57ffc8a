"""Whether a version treats each row by itself, so that requests may share a predict.

Its input example shows it where that has different rows: `predict(a + b)` must equal `predict(a)` and
`predict(b)`, either way round and many times over. Else a trial does: requests that were predicted alone are
predicted once more together, two and sometimes many of them, after their callers have their answers, until
enough of them were equal.
"""

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from router.protocol.messages import Batching
from router.worker.decode.request_decoder import DecodedRequest, joined
from router.worker.encoder import rows_of, split
from router.worker.sharing_cost import WAITS_BELOW
from router.worker.tolerance import equal

ENOUGH_TRIALS = 20
"""Predicts that were equal together and alone, before requests share them."""
EXAMPLE_ROWS = 16
"""Rows of an example that are looked at."""
MANY_ROWS = 64
"""Of an example, repeated: libraries add in another order where a table is large."""
MANY_REQUESTS, MANY_EVERY = 6, 5
"""Requests of every fifth trial; the others are of two."""
LARGEST_BODY = 1 << 20
"""Bytes of the requests of one trial: they are kept until the last of them comes."""
MOST_SECONDS = 0.25
"""An example that takes longer is not tried before READY; its requests show what it shows."""
WAITING_MOST = 1.5
"""How much longer than one alone a shared predict may take, when the version waits: its threads wait side
by side, and rows that wait one after the other would be slower together."""
WORKING_MOST = 1.5
"""How much more work than those alone a shared predict may be, when the version works."""
MEASURED = 3
"""Times that an example is predicted apart and together before it shows that the latter costs too much."""
LEAST_SECONDS = 0.002
"""What it has to cost more at least: less than that is lost in noise, and shows in service."""
WAITS_PER_ROW = "it waits for each row, and threads wait side by side"
WORKS_LONGER = "it takes longer on requests together than alone"

Predict = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a predict took."""

    seconds: float
    thread_seconds: float
    """Of a processor, by the thread that predicted: what others do meanwhile does not add to it."""
    process_seconds: float
    """Of any processor, by the whole process meanwhile."""

    @property
    def busy(self) -> float:
        """Processor seconds of the process over seconds."""
        return self.process_seconds / max(self.seconds, 1e-9)


@contextmanager
def efforts() -> Iterator[list[Effort]]:
    """Measures the block; the list then holds what it took."""
    measured: list[Effort] = []
    seconds, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
    yield measured
    measured.append(
        Effort(time.perf_counter() - seconds, time.thread_time() - thread, time.process_time() - process)
    )


@dataclass(frozen=True, slots=True)
class TrialSample:
    """A request that was predicted alone."""

    request: DecodedRequest
    """As it was before: a version may change what it is given."""
    body: bytes
    predictions: Any
    effort: Effort


def shown_by_example(data: Any, predict: Predict, rtol: float) -> Batching | None:
    """Whether its example's rows are predicted alike, and no slower, together; None: it can not show it."""
    rows = rows_of(data) if isinstance(data, (pd.DataFrame, np.ndarray)) else None
    if rows is None or rows < 2 or equal(_cut(data, 0, 1), _cut(data, 1, 2), 0.0):
        return None
    rows = min(rows, EXAMPLE_ROWS)
    # Halves alone would not do: both may have one mean, as 1, 4 and 2, 3 have.
    cuts = {(1, 2), (rows // 2, rows)}
    started = time.perf_counter()
    try:
        for middle, end in sorted(cuts):
            a, b = _cut(data, 0, middle), _cut(data, middle, end)
            apart, alone, together = [], [], []
            for part in (a, b):
                prediction, took = _measured(predict, deep_copy(part))
                apart.append(deep_copy(prediction))
                alone.append(took)
            if time.perf_counter() - started > MOST_SECONDS:
                return None
            for first, second, expected in ((a, b, apart), (b, a, apart[::-1])):
                prediction, took = _measured(predict, joined([deep_copy(first), deep_copy(second)]))
                together.append(took)
                pieces = split(prediction, [len(first), len(second)])
                if pieces is None or not equal(pieces, expected, rtol):
                    return _apart("its input example is predicted differently together and apart")
            if why := _costs_more(predict, (a, b), alone, together):
                return _apart(why)
    except BaseException:  # noqa: BLE001 - it predicted its whole example: parts of it it need not
        return None
    if _many_differ(predict, (a, b), apart, sum(effort.seconds for effort in alone), rtol):
        return _apart("its input example is predicted differently in a larger table")
    return Batching(merges=True, why="its input example is predicted alike together and apart")


def _many_differ(
    predict: Predict, parts: Sequence[Any], apart: Sequence[Any], seconds: float, rtol: float
) -> bool:
    """Whether two parts of an example, which take `seconds`, are predicted otherwise many times over."""
    most = min(MANY_ROWS // sum(map(len, parts)), int(MOST_SECONDS / max(seconds, 1e-9)))
    if most < 2:
        return False
    try:
        prediction = predict(joined([deep_copy(part) for part in [*parts] * most]))
        pieces = split(prediction, [len(part) for part in parts] * most)
        return pieces is None or not equal(pieces, [*apart] * most, rtol)
    except BaseException:  # noqa: BLE001 - it may take so many rows only; what it fails on is asked one by one
        return False


def _measured(predict: Predict, data: Any) -> tuple[Any, Effort]:
    with efforts() as took:
        prediction = predict(data)
    return prediction, took[0]


def _costs_more(predict: Predict, parts: Sequence[Any], alone: list[Effort], together: list[Effort]) -> str:
    """Why two parts of an example had better not share a predict; empty when they may, or it is not sure.

    `alone` and `together` are what the predicts so far took: of each part, and of both. One that had to wait
    for a processor looks dear, so what waits or looks dear is measured again, and the least of each counts.
    """
    least = [*alone, min(together, key=lambda effort: effort.seconds)]
    for _ in range(MEASURED - 1):
        if not (_dear(*least) or (_waits(*least) and least[-1].seconds > LEAST_SECONDS)):
            return ""
        both = joined([deep_copy(part) for part in parts])
        again = [_measured(predict, data)[1] for data in (*map(deep_copy, parts), both)]
        least = [min(pair, key=lambda effort: effort.seconds) for pair in zip(least, again, strict=True)]
    return _dear(*least)


def _dear(one: Effort, other: Effort, both: Effort) -> str:
    """Why both together cost more than each by itself; empty when they do not."""
    if _waits(one, other, both):
        if both.seconds - WAITING_MOST * max(one.seconds, other.seconds) > LEAST_SECONDS:
            return WAITS_PER_ROW
    elif both.thread_seconds - WORKING_MOST * (one.thread_seconds + other.thread_seconds) > LEAST_SECONDS:
        return WORKS_LONGER
    return ""


def _waits(*taken: Effort) -> bool:
    work = sum(effort.process_seconds for effort in taken)
    return work < WAITS_BELOW * sum(effort.seconds for effort in taken)


def deep_copy(values: Any) -> Any:
    """A copy that shares nothing with `values`, not even the cells of a table. Raises what pickling raises.

    A version may centre its input in place, or answer each time in the same array: what is compared must not
    be what it has changed since.
    """
    return pickle.loads(pickle.dumps(values, pickle.HIGHEST_PROTOCOL))  # noqa: S301 - made by this process itself


def _cut(data: Any, start: int, end: int) -> Any:
    return data.iloc[start:end].reset_index(drop=True) if isinstance(data, pd.DataFrame) else data[start:end]


class BatchingTrial:
    """Compares requests predicted alone with the same predicted together, until it can decide."""

    def __init__(
        self,
        predict: Callable[[list[DecodedRequest]], Any],
        rtol: float,
        table: Callable[[list[DecodedRequest]], Any],
    ) -> None:
        """`predict` predicts several requests together, or raises; `table` is the data of several."""
        self.decision: Batching | None = None
        """Whether requests share predicts from now on; None until there is a decision."""
        self._predict = predict
        self._table = table
        self._rtol = rtol
        self._waiting: list[TrialSample] = []
        """Of one shape, and none like the first of them."""
        self._trials = 0
        self._alone: list[Effort] = []
        self._together: list[Effort] = []
        self._lock = threading.Lock()

    def add(self, sample: TrialSample) -> None:
        """Look at one more request: some of them cost a predict. Not while another is looked at."""
        if self.decision is not None or not self.accepts(sample.request, sample.body):
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            sample = replace(sample, predictions=deep_copy(sample.predictions))
            waiting = self._waiting
            if waiting and waiting[0].request.key == sample.request.key and self._differ(waiting[0], sample):
                self._add_to(waiting, sample)
            else:
                self._waiting = [sample]
        except BaseException:  # noqa: BLE001 - a version may answer what can not be copied, or compared
            self.decision = _apart("its answers can not be compared")
        finally:
            if self.decision is not None:
                self._waiting = []
            self._lock.release()

    @staticmethod
    def accepts(request: DecodedRequest, body: bytes) -> bool:
        """Whether a request is looked at: it may share a table, and is not too large."""
        return request.key is not None and len(body) <= LARGEST_BODY

    def _differ(self, one: TrialSample, other: TrialSample) -> bool:
        # Not by their bodies: the same rows, each time under another id, would show nothing.
        if one.body == other.body:
            return False
        tables = [self._table([sample.request]) for sample in (one, other)]
        return not equal(tables[0], tables[1], 0.0)

    def _add_to(self, waiting: list[TrialSample], sample: TrialSample) -> None:
        waiting.append(sample)
        many = (self._trials + 1) % MANY_EVERY == 0
        room = sum(len(one.body) for one in waiting) < LARGEST_BODY
        if not many or len(waiting) == MANY_REQUESTS or not room:
            self._waiting = []
            self._try(waiting)

    def _try(self, samples: Sequence[TrialSample]) -> None:
        self._trials += 1
        self._compare(samples)
        if self.decision is None and self._trials == ENOUGH_TRIALS:
            self.decision = self._decide()

    def _compare(self, samples: Sequence[TrialSample]) -> None:
        pair = len(samples) == 2
        with efforts() as took:
            try:
                predictions = self._predict([sample.request for sample in samples])
            except BaseException:  # noqa: BLE001 - each of them was predicted alone
                if pair:  # else it may only take fewer rows, and what fails is asked one by one
                    self.decision = _apart("it fails on requests together that it answers alone")
                return
        if pair:
            self._together += took
            self._alone += [sample.effort for sample in samples]
        pieces = split(predictions, [sample.request.rows for sample in samples])
        if pieces is None:
            self.decision = _apart("its answers have not one item per row")
        elif not equal(pieces, [sample.predictions for sample in samples], self._rtol):
            self.decision = _apart("it answers requests together differently")

    def _decide(self) -> Batching:
        alone, together = self._alone, self._together
        if median(effort.busy for effort in alone) < WAITS_BELOW:
            if median(e.seconds for e in together) > WAITING_MOST * median(e.seconds for e in alone):
                return _apart(WAITS_PER_ROW)
        elif median(e.thread_seconds for e in together) > 2 * WORKING_MOST * median(
            e.thread_seconds for e in alone
        ):
            return _apart(WORKS_LONGER)
        return Batching(merges=True, why=f"{ENOUGH_TRIALS} predicts of requests together equalled lone ones")


def _apart(why: str) -> Batching:
    return Batching(merges=False, why=why)
