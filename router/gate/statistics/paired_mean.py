"""Interval of the mean of a value per row, by what the two versions differ in on each."""

import numpy as np

from router.gate.statistics.difference import (
    Codes,
    Floats,
    Interval,
    effective_groups,
    group_sums,
    t_interval,
    widened_for_few,
)


def paired_mean(
    differences: Floats, groups: Codes | None, largest: float, *, is_known: bool = True
) -> Interval:
    """The interval of the mean of `differences`, candidate minus production, shape (n,), n ≥ 1.

    `largest`: how much the values of one row can differ; not `is_known`: as much as was seen of it.

    Without groups, Student's paired t. With groups, the mean still weighs rows alike and its variance is that
    of a ratio of the groups' totals, linearised:
    G/(G−1)·Σ_g(D_g − n_g·d̄)²/n² (Cochran 1977, §6.3 and §9A.2), which is the cluster-robust variance of a
    mean (Liang & Zeger 1986) with its small-sample factor. Student's t then has (Σn_g)²/Σn_g² − 1 degrees of
    freedom, which are G−1 of equal groups and fewer where a few groups hold most rows (as Carter, Schnepel &
    Steigerwald 2017 count clusters).
    """
    rows = len(differences)
    point = float(differences.mean())
    if groups is None:
        variance = float(differences.var(ddof=1)) / rows if rows > 1 else 0.0
        interval = t_interval(point, variance, rows - 1)
        differing = int(np.count_nonzero(differences))
        return widened_for_few(interval, differing, rows, largest, "rows", is_known=is_known)
    sizes = np.bincount(groups)
    residuals = group_sums(differences, groups) - sizes * point
    count = len(sizes)
    factor = count / (count - 1) if count > 1 else 0.0
    variance = factor * float(residuals @ residuals) / rows**2
    interval = t_interval(point, variance, effective_groups(sizes) - 1)
    differing = int(np.count_nonzero(np.bincount(groups, weights=differences != 0)))
    return widened_for_few(interval, differing, count, largest, "groups", is_known=is_known)
