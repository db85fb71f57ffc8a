"""What an answer counts for, whatever type a version answers with. Counting never raises.

What is not a number, or not there, is counted as such.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from router.core.scores import (
    ClassCounts,
    ClassSpec,
    OutputCounts,
    OutputSpec,
    ScoreCounts,
    ScoreSpec,
    all_nan,
    cell_of,
    count_labels,
    is_nan,
    position_of,
)
from router.worker.encoder import rows_of

T = TypeVar("T", bound=np.generic)
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
FEW_SCORES = 32
"""Up to here a plain bisect is cheaper than numpy's fixed cost."""
_LARGEST = 1e290  # of scores beyond it, a few would add up to more than a float holds
_NESTED = (list, tuple, Mapping, np.ndarray)
_PLAIN = frozenset((float, int, bool))
_Bins = list[int | None]


@dataclass(frozen=True, slots=True)
class ScoreTally:
    """What the answers that came out of one predict count for."""

    counts: tuple[OutputCounts, ...]
    """Per counted output, of all of them."""
    bin_indexes: Sequence[int | None]
    """Per answer, as `Answer.bin_index`: the bin of its first row."""
    nan_only: Sequence[bool]
    """Per answer, as `Answer.nan_only`."""


def count_scores(
    predictions: Any, outputs: Sequence[OutputSpec], rows: Sequence[int] | None = None
) -> ScoreTally:
    """One pass over `predictions` per output; `rows` of each answer, None for one answer of all of them."""
    answers = 1 if rows is None else len(rows)
    if not outputs:
        return ScoreTally((), [None] * answers, [False] * answers)
    firsts = range(1) if rows is None else _firsts(rows)
    first, bins = _count(predictions, outputs[0], firsts)
    counts = (first, *(_count(predictions, spec, ())[0] for spec in outputs[1:]))
    if rows is not None and bins and len(firsts) < answers:
        bins = _spread(bins, rows)
    if rows is None:
        nan_only = [all_nan(counts)]
    elif all(one.nan for one in counts):
        nan_only = _nan_only(predictions, outputs, rows)
    else:
        nan_only = [False] * answers
    return ScoreTally(counts, bins or [None] * answers, nan_only)


def _firsts(rows: Sequence[int]) -> Sequence[int]:
    """Places of the first rows of the answers that have any."""
    if rows and min(rows) == max(rows) == 1:
        return range(len(rows))
    starts = list(accumulate(rows, initial=0))
    starts.pop()
    return [start for start, length in zip(starts, rows, strict=True) if length] if 0 in rows else starts


def _spread(bins: _Bins, rows: Sequence[int]) -> _Bins:
    """Per answer, where those without rows were left out."""
    found = iter(bins)
    return [next(found) if length else None for length in rows]


def _count(predictions: Any, spec: OutputSpec, firsts: Sequence[int]) -> tuple[OutputCounts, _Bins]:
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
        _, bins = count_and_locate(values[list(firsts)], spec, range(len(firsts)))
        return _sensible(numbers, spec, (), odd_numbers)[0], bins
    except Exception:  # noqa: BLE001 - a version may answer anything at all; its answer still goes out
        return _nothing_in(predictions, spec), []


def _sensible(values: Floats, spec: ScoreSpec, firsts: Sequence[int], odd: int) -> tuple[ScoreCounts, _Bins]:
    counts, bins = count_and_locate(values, spec, firsts, non_numeric=odd)
    if max(counts.positive_sum, counts.negative_sum) > _LARGEST:
        clipped = np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values)
        counts, _ = count_and_locate(clipped, spec, (), non_numeric=odd)
    return counts, bins


def _nothing_in(predictions: Any, spec: OutputSpec) -> OutputCounts:
    """Counts of an answer without the output: each row lacks it."""
    try:
        rows = rows_of(predictions)
    except Exception:  # noqa: BLE001 - it runs code of what the version answered
        rows = None
    rows = 1 if rows is None else rows
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


def column_of(answer: Any, output: int | str) -> Any:
    """The column of a table, of a list of rows or of a mapping of columns, by position or by name.

    A one-dimensional answer is its own column, a single value too. A row without the column has None there.
    Raises whatever an answer without such a column raises.
    """
    if isinstance(answer, pd.DataFrame):
        if not isinstance(output, str) and output not in answer.columns:
            return answer.iloc[:, output]
        found = answer[output]
        # Of two columns with one name, the first.
        return found.iloc[:, 0] if isinstance(found, pd.DataFrame) else found
    if isinstance(answer, np.ndarray):
        if answer.ndim > 2:
            raise TypeError("an array of more dimensions has no columns")
        if answer.ndim == 2:
            return answer[:, position_of(output)]
        return column_of(answer.tolist(), output) if answer.ndim and answer.dtype.kind == "O" else answer
    if isinstance(answer, Mapping):
        return cell_of(answer, output)
    if isinstance(answer, (list, tuple)) and any(map(_is_nested, set(map(type, answer)))):
        return [_cell_or_none(row, output) if isinstance(row, _NESTED) else row for row in answer]
    return answer


def columns_in(answer: Any) -> int | None:
    """How many columns an answer has, by its first row; None for what has none, such as a deeper array."""
    if isinstance(answer, pd.DataFrame):
        return len(answer.columns)
    if isinstance(answer, np.ndarray) and answer.ndim >= 2:
        return answer.shape[1] if answer.ndim == 2 else None
    if isinstance(answer, Mapping):
        return len(answer)
    has_rows = isinstance(answer, (list, tuple, np.ndarray)) and np.ndim(answer) and len(answer)
    return len(answer[0]) if has_rows and isinstance(answer[0], _NESTED) else 1


def numbers_of(column: Any) -> tuple[Floats, Mask | None]:
    """Its numbers, shape (n,), and which of the n are none and stand there as NaN; None: all are numbers.

    The first may be the version's own data: not to be changed.
    """
    if isinstance(column, pd.Series):
        # A nullable column has pd.NA where a plain one has NaN; both are an answer that is not a score.
        numeric = column.dtype.kind in "biuf"
        column = column.to_numpy(np.float64, na_value=np.nan) if numeric else column.to_numpy(object)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return np.atleast_1d(column).ravel().astype(np.float64, copy=False), None
    items = labels_of(column)
    if _PLAIN.issuperset(map(type, items)):
        try:
            return np.asarray(items, dtype=np.float64), None
        except OverflowError:  # an integer beyond any float
            pass
    values = [_number(item) for item in items]
    odd = np.asarray([value is None for value in values], dtype=bool)
    floats = np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)
    return floats, odd if odd.any() else None


def labels_of(column: Any) -> list[Any]:
    """Its values one by one."""
    if isinstance(column, (np.ndarray, pd.Series)):
        values = column.tolist()
        return values if isinstance(values, list) else [values]
    return [column] if np.isscalar(column) or column is None else list(column)


def _is_nested(kind: type) -> bool:
    return issubclass(kind, _NESTED)


def _cell_or_none(row: Any, output: int | str) -> Any:
    try:
        return cell_of(row, output)
    except (LookupError, TypeError):
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(value)
        except OverflowError:  # an integer beyond any float
            return math.inf if value > 0 else -math.inf
    return None


def count_and_locate(
    values: Floats, spec: ScoreSpec, firsts: Sequence[int], *, non_numeric: int = 0
) -> tuple[ScoreCounts, list[int | None]]:
    """Counts of one batch of scores, shape (n,), and the `bin_index` of those at the places `firsts`.

    A score on an edge counts in the bin whose upper edge it is, as Prometheus' `le` does; the lowest bin also
    takes `low` itself. One out of range counts in the end bin on its side, and has an index of its own. What
    is not finite has no bin: None. A sum beyond the largest float stays at the largest float.
    """
    if len(values) <= FEW_SCORES:
        return _few(values.tolist(), spec, firsts, non_numeric)
    edges = _edges_of(spec)
    places = edges.searchsorted(values, side="left")
    *bins, beyond = np.bincount(places, minlength=spec.bins + 1).tolist()
    # Nothing odd among them: no need to look at them once more.
    if not beyond and values.min(initial=math.inf) >= max(spec.low, 0.0):
        counts = ScoreCounts(tuple(bins), _finite_sum(values.tolist()), non_numeric=non_numeric)
        return counts, _at(places, firsts).tolist() if len(firsts) else []
    finite = np.isfinite(values)
    counts = _all_kinds(values, finite, places, spec, non_numeric)
    if not len(firsts):
        return counts, []
    first = _at(values, firsts)
    inside_or_below = np.where(first < spec.low, spec.below, _at(places, firsts))
    found, sound = np.where(first > spec.high, spec.above, inside_or_below), _at(finite, firsts).tolist()
    return counts, [index if good else None for index, good in zip(found.tolist(), sound, strict=True)]


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
        positive_sum=_finite_sum(numbers[numbers > 0].tolist()),
        negative_sum=_finite_sum((-numbers[numbers < 0]).tolist()),
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
    bin_indexes: list[int | None] = []
    positive: list[float] = []
    negative: list[float] = []
    nan = inf = out_of_range = 0
    for value in values:
        if low <= value <= high:
            place = index = bisect_left(edges, value)
        elif math.isfinite(value):
            out_of_range += 1
            place, index = (last, spec.above) if value > high else (0, spec.below)
        else:
            if math.isnan(value):
                nan += 1
            else:
                inf += 1
            bin_indexes.append(None)
            continue
        bins[place] += 1
        bin_indexes.append(index)
        if value > 0:
            positive.append(value)
        elif value < 0:
            negative.append(-value)
    counts = ScoreCounts(
        tuple(bins), _finite_sum(positive), _finite_sum(negative), nan, inf, non_numeric, out_of_range
    )
    return counts, [bin_indexes[first] for first in firsts]


@lru_cache(maxsize=64)
def _edges_of(spec: ScoreSpec) -> Floats:
    return np.asarray(spec.edges())


def _finite_sum(magnitudes: list[float]) -> float:
    # Correctly rounded, so the order of the rows does not show. Not infinity when it overflows: orjson would
    # send that as null, and a counter that was infinite once has no rate ever after.
    try:
        return math.fsum(magnitudes)
    except OverflowError:
        return sys.float_info.max
