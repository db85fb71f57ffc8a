"""Whether scores moved: the first score of each bucket, sized by PSI, proven by Kolmogorov-Smirnov.

A model is meant to score differently than the one before it, so by default a shift is reported, not failed.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Literal

FIRST_LOOK, GROWTH = 50, 1.25
"""Keys of the canary at the first look, and by what factor they grow to the next."""
MIN_KEYS = 50
"""Keys per arm below which nothing is said."""
SMALL, MODERATE = 0.1, 0.25
"""PSI beyond its noise from which on a shift is moderate, large."""
EQUAL_ENOUGH = 0.1
"""Largest distance of the distributions with which `on_shift: fail` passes."""
Size = Literal["none", "small", "moderate", "large"]
_Z_999 = NormalDist().inv_cdf(0.999)


def psi(production: Sequence[int], canary: Sequence[int]) -> float:
    """Population stability index Σ (c − p)·ln(c/p) over shares (count + ½)/(n + B/2); 0 when equal."""
    half = len(production) / 2.0
    n, m = sum(canary) + half, sum(production) + half
    total = 0.0
    for p_count, c_count in zip(production, canary, strict=True):
        p, c = (p_count + 0.5) / m, (c_count + 0.5) / n
        total += (c - p) * math.log(c / p)
    return total


def psi_noise(bins: int, production: int, canary: int) -> float:
    """PSI of equal versions: (B − 1)·(1/n + 1/m), as n·m/(n+m)·PSI is nearly χ² with B − 1 degrees."""
    return (bins - 1) * (1.0 / canary + 1.0 / production)


def psi_line(bins: int, production: int, canary: int) -> float:
    """PSI that equal versions stay below with 99.9 %: χ²₀.₉₉₉(B − 1)·(1/n + 1/m).

    The quantile by Wilson & Hilferty (1931): k·(1 − 2/(9k) + z·√(2/(9k)))³; 43.95 for 20 bins (exact: 43.82).
    """
    degrees = bins - 1
    if not degrees:
        return 0.0
    spread = 2.0 / (9.0 * degrees)
    chi_square: float = degrees * (1.0 - spread + _Z_999 * math.sqrt(spread)) ** 3
    return chi_square * (1.0 / canary + 1.0 / production)


def ks_distance(production: Sequence[int], canary: Sequence[int]) -> float:
    """Kolmogorov-Smirnov distance at the bin edges, 0 to 1; at most that of the scores themselves."""
    m, n = sum(production), sum(canary)
    pairs = zip(accumulate(production), accumulate(canary), strict=True)
    return max(abs(c / n - p / m) for p, c in pairs)


def total_variation(production: Sequence[int], canary: Sequence[int]) -> float:
    """½·Σ |c − p| over shares of classes: the largest difference in the share of any set of them."""
    m, n = sum(production), sum(canary)
    return sum(abs(c / n - p / m) for p, c in zip(production, canary, strict=True)) / 2.0


def look_keys(index: int) -> int:
    """Keys of the canary at look `index` = 1, 2, … of a step: 50·1.25^(i−1), rounded up."""
    return math.ceil(FIRST_LOOK * GROWTH ** (index - 1))


def ks_bound(production: int, canary: int, alpha: float) -> float:
    """Distance that equal versions exceed with at most `alpha`: √(½·ln(2/α)·(1/n + 1/m)).

    Dvoretzky-Kiefer-Wolfowitz with Massart's constant, for two samples: Wei & Dudley (2012).
    """
    return math.sqrt(0.5 * math.log(2.0 / alpha) * (1.0 / canary + 1.0 / production))


def classes_bound(classes: int, production: int, canary: int, alpha: float) -> float:
    """The same for total variation: √(½·ln((2^B − 2)/α)·(1/n + 1/m)).

    Hoeffding (1963) for each of the 2^B − 2 sets of classes that can differ, and a union bound. Two classes
    have the bound of Kolmogorov-Smirnov; more have a wider one, because they can differ in more ways.
    """
    ways = math.log(2.0**classes - 2.0) if classes > 1 else math.log(2.0)
    return math.sqrt(0.5 * (ways - math.log(alpha)) * (1.0 / canary + 1.0 / production))


def size_of(index: float, noise: float, line: float) -> Size:
    """The word for a PSI."""
    if index < line:
        return "none"
    beyond = index - noise
    return "small" if beyond < SMALL else "moderate" if beyond < MODERATE else "large"


class Shift:
    """Looks at the distance, all of them together under `alpha`; their number goes on through steps."""

    __slots__ = ("_alpha", "_classes", "bound", "distance", "in_step", "looks", "proven")

    def __init__(self, alpha: float, *, classes: bool) -> None:
        self._alpha, self._classes = alpha, classes
        self.looks = 0
        """Looks spent; look i has α/(i·(i + 1)), which sum to α."""
        self.proven = False
        """True once a look found more than its bound."""
        self.restart()

    def restart(self) -> None:
        """Another step: its keys are counted anew, the looks go on."""
        self.in_step = 1
        """Number of the next look, counted in this step."""
        self.distance: float | None = None
        """At the last look of this step."""
        self.bound: float | None = None

    def look(self, production: Sequence[int], canary: Sequence[int]) -> None:
        """Compare the first scores per bucket, if it is time."""
        n, m = sum(canary), sum(production)
        if n < look_keys(self.in_step) or m < MIN_KEYS:
            return
        while look_keys(self.in_step) <= n:
            self.in_step += 1
        self.looks += 1
        alpha = self._alpha / (self.looks * (self.looks + 1))
        if self._classes:
            self.distance = total_variation(production, canary)
            self.bound = classes_bound(len(canary), m, n, alpha)
        else:
            self.distance, self.bound = ks_distance(production, canary), ks_bound(m, n, alpha)
        self.proven = self.proven or self.distance > self.bound
