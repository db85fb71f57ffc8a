"""What an answer counts for. Never raises: what is not a number is counted as such."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from router.core.histogram import Floats, count_and_mark
from router.core.scores import (
    ClassCounts,
    ClassSpec,
    OutputCounts,
    OutputSpec,
    ScoreCounts,
    ScoreSpec,
    all_nan,
    count_labels,
    is_nan,
)
from router.worker.columns import Mask, column_of, labels_of, length_of, numbers_of

_LARGEST = 1e290  # of scores beyond it, a few would add up to more than a float holds
_Marks = list[int | None]


@dataclass(frozen=True, slots=True)
class Tally:
    """What the answers that came out of one predict count for."""

    counts: tuple[OutputCounts, ...]
    """Per counted output, of all of them."""
    marks: Sequence[int | None]
    """Per answer, as `Answer.mark`."""
    nan_only: Sequence[bool]
    """Per answer, as `Answer.nan_only`."""


def tally(predictions: Any, outputs: Sequence[OutputSpec], rows: Sequence[int] | None = None) -> Tally:
    """One pass over `predictions` per output; `rows` of each answer, None for one answer of all of them."""
    answers = 1 if rows is None else len(rows)
    if not outputs:
        return Tally((), [None] * answers, [False] * answers)
    firsts = range(1) if rows is None else _firsts(rows)
    first, marks = _count(predictions, outputs[0], firsts)
    counts = (first, *(_count(predictions, spec, ())[0] for spec in outputs[1:]))
    if rows is not None and marks and len(firsts) < answers:
        marks = _spread(marks, rows)
    if rows is None:
        nan_only = [all_nan(counts)]
    elif all(one.nan for one in counts):
        nan_only = _nan_only(predictions, outputs, rows)
    else:
        nan_only = [False] * answers
    return Tally(counts, marks or [None] * answers, nan_only)


def _firsts(rows: Sequence[int]) -> Sequence[int]:
    """Places of the first rows of the answers that have any."""
    if rows and min(rows) == max(rows) == 1:
        return range(len(rows))
    starts = list(accumulate(rows, initial=0))
    starts.pop()
    return [start for start, length in zip(starts, rows, strict=True) if length] if 0 in rows else starts


def _spread(marks: _Marks, rows: Sequence[int]) -> _Marks:
    """Per answer, where those without rows were left out."""
    found = iter(marks)
    return [next(found) if length else None for length in rows]


def _count(predictions: Any, spec: OutputSpec, firsts: Sequence[int]) -> tuple[OutputCounts, _Marks]:
    try:
        column = column_of(predictions, spec.output)
        if isinstance(spec, ClassSpec):
            labels = labels_of(column)
            return count_labels(labels, spec, firsts if firsts and firsts[-1] < len(labels) else ())
        values, odd = numbers_of(column)
        if firsts and firsts[-1] >= len(values):  # an answer of fewer rows than it was asked for
            firsts = ()
        if odd is None:
            return _sensible(values, spec, firsts, 0)
        numbers, odd_numbers = values[~odd], int(odd.sum())
        _, marks = count_and_mark(values[list(firsts)], spec, range(len(firsts)))
        return _sensible(numbers, spec, (), odd_numbers)[0], marks
    except Exception:  # noqa: BLE001 - a version may answer anything at all; its answer still goes out
        return _nothing_in(predictions, spec), []


def _sensible(values: Floats, spec: ScoreSpec, firsts: Sequence[int], odd: int) -> tuple[ScoreCounts, _Marks]:
    counts, marks = count_and_mark(values, spec, firsts, non_numeric=odd)
    if max(counts.positive_sum, counts.negative_sum) > _LARGEST:
        clipped = np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values)
        counts, _ = count_and_mark(clipped, spec, (), non_numeric=odd)
    return counts, marks


def _nothing_in(predictions: Any, spec: OutputSpec) -> OutputCounts:
    """Counts of an answer without the output: each row lacks it."""
    try:
        rows = length_of(predictions)
    except Exception:  # noqa: BLE001 - it runs code of what the version answered
        rows = 1
    if isinstance(spec, ClassSpec):
        return ClassCounts((*(0,) * len(spec.classes), rows))
    return ScoreCounts((0,) * spec.bins, non_numeric=rows)


def _nan_only(predictions: Any, outputs: Sequence[OutputSpec], rows: Sequence[int]) -> list[bool]:
    """Which answers are NaN in each of their rows and outputs."""
    try:
        nan = np.logical_and.reduce([_nan_rows(predictions, spec) for spec in outputs])
        lengths = np.asarray(rows)
        starts = np.cumsum(lengths) - lengths
        some = lengths > 0
        found = np.zeros(len(rows), dtype=bool)
        found[some] = np.logical_and.reduceat(nan, starts[some])
        return list(map(bool, found.tolist()))
    except Exception:  # noqa: BLE001 - as above
        return [False] * len(rows)


def _nan_rows(predictions: Any, spec: OutputSpec) -> Mask:
    column = column_of(predictions, spec.output)
    if isinstance(spec, ClassSpec):
        return np.asarray([is_nan(label) for label in labels_of(column)], dtype=bool)
    values, odd = numbers_of(column)
    return np.isnan(values) if odd is None else np.isnan(values) & ~odd
