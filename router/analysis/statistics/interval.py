"""Intervals to be shown beside a difference. They are for display and never judged.

They hold 95 % of the time at an instant fixed beforehand; whoever looks all day and picks an instant is
promised less. The verdicts do not use them.
"""

import math
from collections.abc import Sequence

Z_95 = 1.959964
Interval = tuple[float, float]


def wilson(events: float, requests: float) -> Interval:
    """Score interval of a rate (Wilson 1927), 0 to 1; `requests` > 0 may be a fraction."""
    rate, z2 = events / requests, Z_95 * Z_95
    middle = (rate + z2 / (2 * requests)) / (1 + z2 / requests)
    half = Z_95 / (1 + z2 / requests) * math.sqrt(rate * (1 - rate) / requests + z2 / (4 * requests**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def of_rates(
    production: tuple[int, int], canary: tuple[int, int], effects: tuple[float, float]
) -> Interval | None:
    """Canary's rate − production's, from (requests, events) of each; None while an arm has no request.

    −1 to 1. Newcombe (1998), method 10, each count divided by its arm's design effect as Rao & Scott (1992)
    do: keys that ask often make it wider.
    """
    if not (production[0] and canary[0]):
        return None
    lows, highs, rates = [], [], []
    for (requests, events), effect in zip((production, canary), effects, strict=True):
        low, high = wilson(events / effect, requests / effect)
        lows.append(low)
        highs.append(high)
        rates.append(events / requests)
    difference = rates[1] - rates[0]
    below = math.hypot(rates[1] - lows[1], highs[0] - rates[0])
    above = math.hypot(highs[1] - rates[1], rates[0] - lows[0])
    return max(-1.0, difference - below), min(1.0, difference + above)


def mean_of_groups(requests: Sequence[int], sums: Sequence[float]) -> tuple[float, float] | None:
    """Mean over all requests and its variance, G/(G−1)·Σ_g (s_g − mean·n_g)²/n²; None without two groups.

    The variance of a ratio of group totals (Cochran 1977, §6): the naive one times the design effect.
    """
    total = sum(requests)
    groups = sum(1 for n in requests if n)
    if groups < 2:
        return None
    mean = math.fsum(sums) / total
    squares = math.fsum((s - mean * n) ** 2 for n, s in zip(requests, sums, strict=True) if n)
    return mean, groups / (groups - 1) * squares / total**2


def of_means(production: tuple[float, float], canary: tuple[float, float]) -> Interval:
    """Canary's mean − production's, from (mean, variance of the mean) of each: normal approximation."""
    difference = canary[0] - production[0]
    half = Z_95 * math.sqrt(production[1] + canary[1])
    return difference - half, difference + half
