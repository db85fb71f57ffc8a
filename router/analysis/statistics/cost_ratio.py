"""How many times as much of a processor a version takes as another, at the same mix of predicts.

Never by seconds per row as they came: a canary with 5 % of the keys predicts one row where production shares
a predict among thirty, and the fixed part alone would make the same version look ten times as dear. What a
version takes where it was not seen follows from what it took elsewhere; and where that leaves it open, the
interval is wide, and not wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import NamedTuple

from router.analysis.statistics.predict_costs import CostLine, MomentSums, PredictCosts, is_near

LEAST_BLOCKS = 5
"""Stretches of time with predicts of both versions, before anything is said."""
LEAST_PREDICTS = 50
"""Of either version, likewise."""
_T = (12.71, 4.30, 3.18, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""97.5 % quantiles of Student's t, from one degree of freedom on."""
_WIDEST = 50.0
"""Logarithm of a ratio beyond which nothing is said, so that it is a number."""
_KNOWN_WITHIN = 0.25
"""Standard error of the logarithm, up to which a line through a version's own predicts is its cost. Else the
other version says how cost grows with the rows."""


class Interval(NamedTuple):
    """95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CostOfVersion:
    """What predicts of one version take of a processor."""

    predicts: int
    rows: int
    left_out: int
    """Predicts that took over four times as much as the line says, or under a quarter."""
    line: CostLine
    seconds: float
    """Of a predict of `CostComparison.rows`."""


@dataclass(frozen=True, slots=True)
class CostComparison:
    """What two versions cost at one mix of predicts."""

    rows: float
    """Of a predict of production, in the mean: as cost is a line, nothing else of its mix matters."""
    production: CostOfVersion
    canary: CostOfVersion
    ratio: float | None
    """The canary's cost over production's; None while too little is known."""
    interval: Interval | None
    """Of the ratio; None likewise."""


Block = tuple[PredictCosts, PredictCosts]
"""Predicts of production and of the canary in one stretch of time."""


def compare_costs(blocks: Sequence[Block]) -> CostComparison:
    """From predicts in stretches of time, the same for both: how much what is known of one differs from what
    is known of another says how sure it is (the jackknife over blocks, Quenouille 1956; Tukey 1958), and what
    disturbed both versions at once disturbs their ratio little."""
    production, canary = (_Version(parts) for parts in zip(*blocks, strict=True)) if blocks else (_NO, _NO)
    rows = production.costs.rows / production.costs.predicts if production.costs.predicts else 0.0
    found = None
    if min(production.costs.predicts, canary.costs.predicts) >= LEAST_PREDICTS:
        found = _ratio(production, canary, rows)
    ratio, interval = found or (None, None)
    base = production.line.seconds(rows)
    seconds = canary.line.seconds(rows) if ratio is None else ratio * base
    return CostComparison(rows, production.cost(base), canary.cost(seconds), ratio, interval)


class _Version:
    """The predicts of one version, as a whole and by block."""

    def __init__(self, blocks: Sequence[PredictCosts]) -> None:
        self.costs = PredictCosts()
        for block in blocks:
            self.costs.add(block)
        self.line = self.costs.line()
        near = [[one for one in block.groups.values() if is_near(one, self.line)] for block in blocks]
        self.blocks = [MomentSums.of(groups, self.line) for groups in near]
        self.sums = MomentSums(*map(sum, zip(MomentSums(), *self.blocks, strict=True)))
        self.left_out = self.costs.predicts - sum(group.predicts for groups in near for group in groups)

    def cost(self, seconds: float) -> CostOfVersion:
        """`seconds`: of a predict of the mix."""
        return CostOfVersion(self.costs.predicts, self.costs.rows, self.left_out, self.line, seconds)


_NO = _Version(())


class _Estimates(NamedTuple):
    """Logarithms of the ratio, by what is assumed of the canary where it has not predicted."""

    by_line: float | None
    """Its own line holds; None where there is none."""
    all_fixed: float
    """One more row costs nothing, …"""
    all_rows: float
    """… or each as much as any other. No part of a cost is below zero: the truth lies between these two."""
    by_shape: float
    """Its cost grows as production's does."""


def _estimates(production: MomentSums, canary: MomentSums, rows: float) -> _Estimates | None:
    if not (production.weight and canary.weight and production.seconds and canary.seconds):
        return None
    line, known = production.line(), canary.mean_seconds
    base = line.seconds(rows)
    slope = canary.slope()
    own = 0.0 if slope is None else known + slope * (rows - canary.mean_rows)
    return _Estimates(
        by_line=log(own / base) if own > 0.0 else None,
        all_fixed=log(known / base),
        all_rows=log(known / base * rows / canary.mean_rows),
        by_shape=log(known / line.seconds(canary.mean_rows)),
    )


def _ratio(production: _Version, canary: _Version, rows: float) -> tuple[float, Interval] | None:
    pairs = list(zip(production.blocks, canary.blocks, strict=True))
    used = [pair for pair in pairs if all(sums.weight for sums in pair)]
    whole = _estimates(production.sums, canary.sums, rows)
    if whole is None or len(used) < LEAST_BLOCKS:
        return None
    others = [_estimates(production.sums.without(one), canary.sums.without(two), rows) for one, two in used]
    known = [each for each in others if each is not None]
    if len(known) < len(used):
        return None
    errors = [_error([each[place] for each in known]) for place in range(len(whole))]
    quantile = _T[min(len(used) - 1, len(_T)) - 1]
    bounds = sorted(
        (estimate - quantile * error, estimate + quantile * error)
        for estimate, error in ((whole.all_fixed, errors[1]), (whole.all_rows, errors[2]))
    )
    low, high = bounds[0][0], max(each[1] for each in bounds)
    estimate = whole.by_shape
    if whole.by_line is not None and isfinite(errors[0]):
        own = whole.by_line - quantile * errors[0], whole.by_line + quantile * errors[0]
        if own[1] > low and own[0] < high:
            low, high = max(low, own[0]), min(high, own[1])
        if errors[0] <= _KNOWN_WITHIN:
            estimate = whole.by_line
    estimate = min(max(estimate, low), high)
    return _times(estimate), Interval(_times(low), _times(high))


def _times(logarithm: float) -> float:
    return exp(min(max(logarithm, -_WIDEST), _WIDEST))


def _error(others: Sequence[float | None]) -> float:
    """Standard error, by what each block's absence changes; infinite where one leaves nothing known."""
    known = [each for each in others if each is not None]
    if len(known) < len(others):
        return float("inf")
    mean = sum(known) / len(known)
    return sqrt((len(known) - 1) / len(known) * sum((each - mean) ** 2 for each in known))
