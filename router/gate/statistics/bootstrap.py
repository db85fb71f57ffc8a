"""Interval of any difference that is a function of all rows: rows, or whole groups, drawn again and again."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from router.gate.statistics.difference import Codes, Interval, t_interval

RESAMPLES = 2_000
MOST_ROWS_DRAWN = 200_000_000
"""Of all resamples together; more rows are resampled fewer times."""
FEWEST_RESAMPLES = 20
UNDEFINED_SHARE = 0.05
"""Of the resamples; where the difference has no value in more of them, it has no interval either."""
_SEED = 20_260_901

Rows = npt.NDArray[np.int64]


def bootstrap(
    difference: Callable[[Rows], float],
    point: float,
    rows: int,
    groups: Codes | None,
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval around `point`, the difference of all `rows` ≥ 1, by what it is of resampled ones.

    `difference` takes the places of rows, some more than once and others not at all, and returns NaN where it
    has no value. Rows are drawn with replacement, or groups with all their rows (Davison & Hinkley 1997,
    §3.8): rows of one group are alike, and drawn one by one they would count as independent.

    The interval is point ± t·s·√(N/(N−1)), of s, the standard deviation of the resampled differences, N rows
    or groups, and Student's t with N−1 degrees of freedom, or as many as s itself has. Percentiles were left
    out: on rare classes they covered 91 % of the truths where this covered 93 %, and they can not be had of
    the hundred resamples that 2 million rows are drawn; factor and t are what percentiles lack of few groups
    (Hesterberg 2015, §4.3).

    Seeded: the same rows in the same order have the same interval.
    """
    wanted = resamples
    resamples = min(wanted, max(FEWEST_RESAMPLES, MOST_ROWS_DRAWN // rows))
    notes = []
    if resamples < wanted:
        notes.append(f"{resamples} resamples in the place of {wanted}, for {rows} rows")
    draws = _rows(rows, resamples) if groups is None else _groups(groups, resamples)
    found = np.fromiter(map(difference, draws), dtype=np.float64, count=resamples)
    defined = found[np.isfinite(found)]
    undefined = resamples - len(defined)
    if undefined:
        notes.append(f"the metric has no value in {undefined} of {resamples} resamples")
    if undefined > UNDEFINED_SHARE * resamples:
        return Interval(point, -math.inf, math.inf, tuple(notes))
    units = rows if groups is None else int(groups.max()) + 1
    factor = units / (units - 1) if units > 1 else 0.0
    variance = factor * float(defined.var(ddof=1))
    interval = t_interval(point, variance, min(units, len(defined)) - 1)
    return Interval(interval.point, interval.low, interval.high, tuple(notes))


def _rows(rows: int, resamples: int) -> Iterator[Rows]:
    drawing = np.random.default_rng(_SEED)
    for _ in range(resamples):
        yield drawing.integers(0, rows, rows)


def _groups(groups: Codes, resamples: int) -> Iterator[Rows]:
    drawing = np.random.default_rng(_SEED)
    by_group = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    ends = np.cumsum(sizes)
    for _ in range(resamples):
        drawn = drawing.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        after = np.cumsum(lengths)
        # Of each drawn group the places of its rows in `by_group`, one group after the other.
        places = np.arange(after[-1]) + np.repeat(ends[drawn] - after, lengths)
        yield by_group[places]
