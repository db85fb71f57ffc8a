"""Score bins: one pass over a batch's scores, counts that add up."""

import math
import sys
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FEW_SCORES = 32
"""Up to here a plain bisect is cheaper than numpy's fixed cost of 15 µs."""


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """Which part of an answer is the score, and the equal-width bins it is counted in.

    Raises ValueError unless there is a bin, and `low` < `high` are finite and so far apart that the edges
    between them differ in twelve digits.
    """

    output: int | str = 0
    """Column index of an array or table answer, or a column name; a one-dimensional answer is its own."""
    low: float = 0.0
    high: float = 1.0
    bins: int = 20

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError("bins must be at least 1")
        edges = (self.low, *self.edges())
        if not all(map(math.isfinite, edges)) or any(upper <= lower for lower, upper in pairwise(edges)):
            raise ValueError("a range is two finite numbers, the lower one first, wide enough for its bins")

    def edges(self) -> tuple[float, ...]:
        """Upper edges of the bins, ascending; `bins` of them, the last equals `high`."""
        return _edges(self.low, self.high, self.bins)


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """Counts of scores; adding two gives the counts of both."""

    bins: tuple[int, ...]
    """Finite scores per bin, not cumulative; values outside the range count in the end bins."""
    positive_sum: float = 0.0
    """Sum of the scores above zero."""
    negative_sum: float = 0.0
    """Sum of the magnitudes of the scores below zero (a number ≥ 0)."""
    nan: int = 0
    inf: int = 0
    non_numeric: int = 0
    out_of_range: int = 0
    """Finite scores below `low` or above `high`; they are also in `bins`."""

    @property
    def all_nan(self) -> bool:
        """True when there are scores and every one is NaN."""
        return self.nan > 0 and not (any(self.bins) or self.inf or self.non_numeric)

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(
            tuple(a + b for a, b in zip(self.bins, other.bins, strict=True)),
            self.positive_sum + other.positive_sum,
            self.negative_sum + other.negative_sum,
            self.nan + other.nan,
            self.inf + other.inf,
            self.non_numeric + other.non_numeric,
            self.out_of_range + other.out_of_range,
        )


def no_scores(spec: ScoreSpec) -> ScoreCounts:
    """The zero of addition for `spec`."""
    return ScoreCounts((0,) * spec.bins)


def count_scores(values: npt.NDArray[np.float64], spec: ScoreSpec, *, non_numeric: int = 0) -> ScoreCounts:
    """Count one batch of scores, shape (n,).

    A score on an edge counts in the bin whose upper edge it is, as Prometheus' `le` does; the lowest
    bin also takes `low` itself. A sum beyond the largest float stays at the largest float.
    """
    if len(values) <= FEW_SCORES:
        return _count_few(values.tolist(), spec, non_numeric)
    finite = values[np.isfinite(values)]
    edges = np.asarray(spec.edges())
    index = np.minimum(np.searchsorted(edges, finite, side="left"), spec.bins - 1)
    return ScoreCounts(
        bins=tuple(np.bincount(index, minlength=spec.bins).tolist()),
        positive_sum=_sum(finite[finite > 0].tolist()),
        negative_sum=_sum((-finite[finite < 0]).tolist()),
        nan=int(np.count_nonzero(np.isnan(values))),
        inf=int(np.count_nonzero(np.isinf(values))),
        non_numeric=non_numeric,
        out_of_range=int(np.count_nonzero((finite < spec.low) | (finite > spec.high))),
    )


def _count_few(values: list[float], spec: ScoreSpec, non_numeric: int) -> ScoreCounts:
    finite = [value for value in values if math.isfinite(value)]
    nan = sum(map(math.isnan, values))
    edges, last = spec.edges(), spec.bins - 1
    bins = [0] * spec.bins
    for value in finite:
        bins[min(bisect_left(edges, value), last)] += 1
    return ScoreCounts(
        bins=tuple(bins),
        positive_sum=_sum([value for value in finite if value > 0]),
        negative_sum=_sum([-value for value in finite if value < 0]),
        nan=nan,
        inf=len(values) - len(finite) - nan,
        non_numeric=non_numeric,
        out_of_range=sum(not spec.low <= value <= spec.high for value in finite),
    )


def _sum(magnitudes: list[float]) -> float:
    # Correctly rounded, so the order of the rows does not show. Not infinity when it overflows: orjson would
    # send that as null, and a counter that was infinite once has no rate ever after.
    try:
        return math.fsum(magnitudes)
    except OverflowError:
        return sys.float_info.max


@lru_cache(maxsize=256)
def _edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    # Twelve digits are plenty to tell bins apart and keep labels such as 0.15000000000000002 out of metrics.
    inner = (float(f"{(low * (bins - i) + high * i) / bins:.12g}") for i in range(1, bins))
    return (*inner, float(high))
