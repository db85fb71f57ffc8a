"""Counts a batch of scores into bins, in one pass, and finds the bins of its requests."""

import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from router.core.scores import ScoreCounts, ScoreSpec

FEW_SCORES = 32
"""Up to here a plain bisect is cheaper than numpy's fixed cost."""
T = TypeVar("T", bound=np.generic)
Floats = npt.NDArray[np.float64]


def count_and_mark(
    values: Floats, spec: ScoreSpec, firsts: Sequence[int], *, non_numeric: int = 0
) -> tuple[ScoreCounts, list[int | None]]:
    """Counts of one batch of scores, shape (n,), and the marks of those at the places `firsts`.

    A score on an edge counts in the bin whose upper edge it is, as Prometheus' `le` does; the lowest bin also
    takes `low` itself. One out of range counts in the end bin on its side, and has a mark of its own. What is
    not finite has no bin: None. A sum beyond the largest float stays at the largest float.
    """
    if len(values) <= FEW_SCORES:
        return _few(values.tolist(), spec, firsts, non_numeric)
    edges = _edges(spec)
    places = edges.searchsorted(values, side="left")
    *bins, beyond = np.bincount(places, minlength=spec.bins + 1).tolist()
    # Nothing odd among them: no need to look at them once more.
    if not beyond and values.min(initial=math.inf) >= max(spec.low, 0.0):
        counts = ScoreCounts(tuple(bins), _sum(values.tolist()), non_numeric=non_numeric)
        return counts, _at(places, firsts).tolist() if len(firsts) else []
    finite = np.isfinite(values)
    counts = _all_kinds(values, finite, places, spec, non_numeric)
    if not len(firsts):
        return counts, []
    first = _at(values, firsts)
    marks = np.where(
        first < spec.low, spec.below, np.where(first > spec.high, spec.above, _at(places, firsts))
    )
    sound = _at(finite, firsts).tolist()
    return counts, [mark if good else None for mark, good in zip(marks.tolist(), sound, strict=True)]


def _at(values: npt.NDArray[T], places: Sequence[int]) -> npt.NDArray[T]:
    # The usual ones, of requests of one row each: a view, where a list costs as much as all the counting.
    if type(places) is range and places.step == 1:
        return values[places.start : places.stop]
    return values[np.asarray(places, dtype=np.intp)]


def _all_kinds(
    values: Floats,
    finite: npt.NDArray[np.bool_],
    places: npt.NDArray[np.intp],
    spec: ScoreSpec,
    non_numeric: int,
) -> ScoreCounts:
    numbers = values[finite]
    index = np.minimum(places[finite], spec.bins - 1)
    nan = int(np.count_nonzero(np.isnan(values)))
    return ScoreCounts(
        bins=tuple(np.bincount(index, minlength=spec.bins).tolist()),
        positive_sum=_sum(numbers[numbers > 0].tolist()),
        negative_sum=_sum((-numbers[numbers < 0]).tolist()),
        nan=nan,
        inf=len(values) - len(numbers) - nan,
        non_numeric=non_numeric,
        out_of_range=int(np.count_nonzero((numbers < spec.low) | (numbers > spec.high))),
    )


def _few(
    values: list[float], spec: ScoreSpec, firsts: Sequence[int], non_numeric: int
) -> tuple[ScoreCounts, list[int | None]]:
    edges, low, high, last = spec.edges(), spec.low, spec.high, spec.bins - 1
    bins = [0] * spec.bins
    marks: list[int | None] = []
    positive: list[float] = []
    negative: list[float] = []
    nan = inf = out_of_range = 0
    for value in values:
        if low <= value <= high:
            place = mark = bisect_left(edges, value)
        elif math.isfinite(value):
            out_of_range += 1
            place, mark = (last, spec.above) if value > high else (0, spec.below)
        else:
            if math.isnan(value):
                nan += 1
            else:
                inf += 1
            marks.append(None)
            continue
        bins[place] += 1
        marks.append(mark)
        if value > 0:
            positive.append(value)
        elif value < 0:
            negative.append(-value)
    counts = ScoreCounts(tuple(bins), _sum(positive), _sum(negative), nan, inf, non_numeric, out_of_range)
    return counts, [marks[first] for first in firsts]


@lru_cache(maxsize=64)
def _edges(spec: ScoreSpec) -> Floats:
    return np.asarray(spec.edges())


def _sum(magnitudes: list[float]) -> float:
    # Correctly rounded, so the order of the rows does not show. Not infinity when it overflows: orjson would
    # send that as null, and a counter that was infinite once has no rate ever after.
    try:
        return math.fsum(magnitudes)
    except OverflowError:
        return sys.float_info.max
