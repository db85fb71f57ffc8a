"""Interval of the difference between two areas under the ROC curve on the same rows.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988), in O(n log n) by the midranks of Sun & Xu (IEEE Signal
Processing Letters 2014); with groups, Obuchowski's variance (Biometrics 1997, 53:567), so that no bootstrap
is needed for them.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from router.gate.statistics.difference import (
    Codes,
    Floats,
    Interval,
    group_sums,
    t_interval,
    widened_for_few,
)

_Mask = npt.NDArray[np.bool_]


class Areas(NamedTuple):
    """Both areas, 0 to 1, and the interval of their difference."""

    candidate: float
    production: float
    interval: Interval


def delong(positive: _Mask, candidate: Floats, production: Floats, groups: Codes | None) -> Areas:
    """Compare the scores of two versions, each of shape (n,) without NaN; ties count one half.

    Raises ValueError unless there are a positive and a negative row. Degrees of freedom are Satterthwaite's
    of the two classes; with groups, one less than the groups that hold the rarer class.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not (positives and negatives):
        raise ValueError("an area under the ROC curve needs rows of both classes")
    of_candidate, of_production = _components(positive, candidate), _components(positive, production)
    areas = float(of_candidate[positive].mean()), float(of_production[positive].mean())
    components = of_candidate - of_production
    point = float(components[positive].mean())
    if groups is None:
        interval = _of_rows(point, components[positive], components[~positive])
        units, unit = min(positives, negatives), "rows of the rarer class"
        differing = int(np.count_nonzero(components))
    else:
        holding = [int(np.count_nonzero(np.bincount(groups[rows]))) for rows in (positive, ~positive)]
        interval = _of_groups(point, components, positive, groups, holding)
        units, unit = min(holding), "groups with the rarer class"
        differing = int(np.count_nonzero(np.bincount(groups, weights=components != 0)))
    return Areas(*areas, widened_for_few(interval, differing, units, 1.0, unit))


def _components(positive: _Mask, scores: Floats) -> Floats:
    """DeLong's structural components, shape (n,): of a positive row the share of negative rows that score
    lower, of a negative row the share of positive ones that score higher."""
    components = np.empty(len(scores))
    ranks = _midranks(scores)
    of_positive, of_negative = scores[positive], scores[~positive]
    components[positive] = (ranks[positive] - _midranks(of_positive)) / len(of_negative)
    components[~positive] = 1.0 - (ranks[~positive] - _midranks(of_negative)) / len(of_positive)
    return components


def _midranks(scores: Floats) -> Floats:
    """Ranks from 1 on; equal scores share the middle of theirs."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middles: Floats = np.cumsum(counts) - (counts - 1) / 2
    return middles[places]


def _of_rows(point: float, of_positive: Floats, of_negative: Floats) -> Interval:
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) if len(each) > 1 else (0.0, 0)
             for each in (of_positive, of_negative)]  # fmt: skip
    if not all(degrees for _, degrees in parts):
        return t_interval(point, 0.0, 0)
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / degrees for part, degrees in parts)
    return t_interval(point, variance, variance**2 / spread if spread else min(each for _, each in parts))


def _of_groups(
    point: float, components: Floats, positive: _Mask, groups: Codes, holding: list[int]
) -> Interval:
    count = int(groups.max()) + 1
    if min(holding) < 2:
        return t_interval(point, 0.0, 0)
    residuals = []
    for rows in (positive, ~positive):
        residual = np.where(rows, components - point, 0.0)
        residuals.append(group_sums(residual, groups) / int(rows.sum()))
    of_positive, of_negative = residuals
    with_positive, with_negative = holding
    variance = (
        with_positive / (with_positive - 1) * float(of_positive @ of_positive)
        + with_negative / (with_negative - 1) * float(of_negative @ of_negative)
        + 2 * count / (count - 1) * float(of_positive @ of_negative)
    )
    return t_interval(point, variance, min(holding) - 1)
