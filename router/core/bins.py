"""Score bins, and counts that add up. Without numpy, which only who counts has to have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

MAX_BINS = 200
"""Of one output; more would be series and frames that nobody looks at."""


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """Which part of an answer is the score, and the bins it is counted in, of equal width or as `upper` says.

    Raises ValueError unless there is a bin, and `low` < `high` are finite and so far apart that the edges
    between them differ in twelve digits.
    """

    output: int | str = 0
    """Column index of an array or table answer, or a column name; a one-dimensional answer is its own."""
    low: float = 0.0
    high: float = 1.0
    bins: int = 20
    upper: tuple[float, ...] = ()
    """Upper edges of the bins where they are not of equal width; `bins` of them, the last equals `high`."""

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError("bins must be at least 1")
        if self.upper and (len(self.upper) != self.bins or self.upper[-1] != self.high):
            raise ValueError("bins must be as many as their edges, and end with the range")
        edges = (self.low, *self.edges())
        if not all(map(math.isfinite, edges)) or any(upper <= lower for lower, upper in pairwise(edges)):
            raise ValueError("a range is two finite numbers, the lower one first, wide enough for its bins")

    def edges(self) -> tuple[float, ...]:
        """Upper edges of the bins, ascending; `bins` of them, the last equals `high`."""
        return self.upper or _edges(self.low, self.high, self.bins)

    @property
    def marks(self) -> int:
        """How many marks there are: one per bin."""
        return self.bins


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


def with_edges(output: int | str, low: float, upper: Sequence[float]) -> ScoreSpec:
    """Bins that end at the edges `upper`, ascending, of which the first begins at `low`."""
    return ScoreSpec(output, low, upper[-1], len(upper), tuple(upper))


@lru_cache(maxsize=256)
def _edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    # Twelve digits are plenty to tell bins apart and keep labels such as 0.15000000000000002 out of metrics.
    inner = (float(f"{(low * (bins - i) + high * i) / bins:.12g}") for i in range(1, bins))
    return (*inner, float(high))
