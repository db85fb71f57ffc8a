"""Whether scores moved: the first score of each bucket, sized by PSI, proven by Kolmogorov-Smirnov.

A model is meant to score differently than the one before it, so by default a shift is reported, not failed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import NormalDist
from typing import Literal

from router.analysis.statistics.counts import GROUPS
from router.analysis.statistics.latency import quantile
from router.analysis.statistics.non_inferiority import Z_95, Interval

FIRST_LOOK, GROWTH = 50, 1.25
"""Keys of the canary at the first look, and by what factor they grow to the next."""
MIN_KEYS = 50
"""Keys per arm below which nothing is said."""
MODERATE_FROM, LARGE_FROM = 0.1, 0.25
"""PSI beyond its noise from which on a shift is moderate, large."""
EQUAL_ENOUGH = 0.1
"""Largest distance of the distributions with which `on_shift: fail` passes."""
Size = Literal["none", "small", "moderate", "large"]
MIN_ANSWERS = 50
"""Of each arm, before it is said that most of one arm's answers hold no score."""
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


def hidden_distance(production: "FirstScores", canary: "FirstScores", *, classes: bool) -> float:
    """How far apart scores may be that all count alike, 0 to 1; 0 where an arm has none.

    Of those out of range on one side, at most the larger share of the two arms: one arm's may all lie beyond
    the other's. Of labels on no list, the smaller share, which total variation does not see.
    """
    m, n = sum(production.bins), sum(canary.bins)
    if not m or not n:
        return 0.0
    if classes:
        return min(production.bins[-1] / m, canary.bins[-1] / n)
    shares = (max(p / m, c / n) for p, c in zip(production.out_of_range, canary.out_of_range, strict=True))
    return max(shares)


def largest_distance(distance: float, hidden: float, *, classes: bool) -> float:
    """What the distance may be, of which `hidden` does not show."""
    return distance + hidden if classes else max(distance, hidden)


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
    return "small" if beyond < MODERATE_FROM else "moderate" if beyond < LARGE_FROM else "large"


@dataclass(slots=True)
class FirstScores:
    """The first score of each bucket of one arm in this step."""

    bins: list[int]
    """Per bin, those out of range in the end bins; or per class, the last of them all other labels."""
    out_of_range: list[int] = field(default_factory=lambda: [0, 0])
    """Of them, those below and above the range."""


class DriftTest:
    """Looks at the distance, all of them together under `alpha`; their number goes on through steps."""

    __slots__ = ("_alpha", "_classes", "at_most", "bound", "distance", "in_step", "looks", "proven")

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
        self.at_most: float | None = None
        """The same if what counts alike, out of range or on no list, lay as far apart as it can."""
        self.bound: float | None = None

    def look(self, production: FirstScores, canary: FirstScores) -> None:
        """Compare the first scores per bucket, if it is time."""
        n, m = sum(canary.bins), sum(production.bins)
        if n < look_keys(self.in_step) or m < MIN_KEYS:
            return
        while look_keys(self.in_step) <= n:
            self.in_step += 1
        self.looks += 1
        alpha = self._alpha / (self.looks * (self.looks + 1))
        pair = production.bins, canary.bins
        if self._classes:
            self.distance, self.bound = total_variation(*pair), classes_bound(len(canary.bins), m, n, alpha)
        else:
            self.distance, self.bound = ks_distance(*pair), ks_bound(m, n, alpha)
        hidden = hidden_distance(production, canary, classes=self._classes)
        self.at_most = largest_distance(self.distance, hidden, classes=self._classes)
        self.proven = self.proven or self.distance > self.bound


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Scores of one arm in this step."""

    scores: int
    """All requests with a score."""
    keys: int
    """Buckets with a score: what is compared."""
    keys_out_of_range: int
    """Of them, those whose score lies out of range, or whose label is on no list: all count alike."""
    mean: float | None
    p50: float | None
    p95: float | None
    invalid: int
    """Answers without fault whose score is no finite number or not on the list."""


@dataclass(frozen=True, slots=True)
class OutputShift:
    """The counted output. PSI and its noise are None below 50 keys per arm."""

    kind: str
    """score or class."""
    uncounted: str
    """production or canary: the one arm most of whose answers hold no score; empty for none or both."""
    saturated: bool
    """Whether so many lie out of range, or on no list, that versions far apart may look alike: no pass."""
    psi: float | None
    noise: float | None
    line: float | None
    """99.9 % of equal versions stay below it."""
    size: Size | None
    ks: float | None
    """Distance at the last look of this step (total variation for classes)."""
    ks_bound: float | None
    ks_at_most: float | None
    """`ks` if what counts alike lay as far apart as it can: what a pass rests on."""
    proven: bool
    production: ArmScores
    canary: ArmScores
    mean_difference: float | None
    mean_interval: Interval | None


class ScoreHistograms:
    """Scores of both arms in one step: the first of each bucket is compared, all of them are shown.

    Counts by bin of a score, or by class; the last class is all labels that are on no list. `[0]` is
    production's list, `[1]` the canary's.
    """

    def __init__(
        self, bin_count: int, alpha: float, *, classes: bool, edges: Sequence[float] | None = None
    ) -> None:
        """`edges`: the lowest edge of the bins and the upper ones, `bin_count` + 1 numbers; None for classes.

        Raises ValueError when they are not that many, or `bin_count` is not at least 1.
        """
        if bin_count < 1 or (edges is not None and len(edges) != bin_count + 1):
            raise ValueError("bin_count is at least 1, and edges are one more")
        self._classes, self._edges, self.bin_count = classes, tuple(edges or ()), bin_count
        self._values = tuple(
            (low + high) / 2 for low, high in zip(self._edges, self._edges[1:], strict=False)
        )
        """Middles of the bins: what a score counts as in a mean; empty when there are no edges."""
        self._test = DriftTest(alpha, classes=classes)
        self.restart()

    def restart(self) -> None:
        """Another step."""
        self.first = FirstScores([0] * self.bin_count), FirstScores([0] * self.bin_count)
        self.all = ([0] * self.bin_count, [0] * self.bin_count)
        self._requests = ([0] * GROUPS, [0] * GROUPS)
        self._sums = ([0.0] * GROUPS, [0.0] * GROUPS)
        self.invalid = [0, 0]
        self._test.restart()

    def add(self, bin_index: int | None, group: int, *, first: bool, canary: bool) -> bool:
        """Count the score of an answer; False when it has none that counts.

        `bin_index` as of `Answer`: past the last bin are those below, and above, the range.
        """
        outside = -1
        if bin_index is not None and not self._classes and 0 <= (outside := bin_index - self.bin_count) < 2:
            bin_index = (0, self.bin_count - 1)[outside]
        if bin_index is None or not 0 <= bin_index < self.bin_count:
            self.invalid[canary] += 1
            return False
        self.all[canary][bin_index] += 1
        if self._values:
            self._requests[canary][group] += 1
            self._sums[canary][group] += self._values[bin_index]
        if first:
            self.first[canary].bins[bin_index] += 1
            if outside >= 0:
                self.first[canary].out_of_range[outside] += 1
        return True

    def look(self) -> None:
        """Compare, if the canary has keys enough for its next look."""
        self._test.look(*self.first)

    def shift(self) -> OutputShift:
        """How far they moved, as of the last look; and what is shown beside it."""
        production, canary = self.first
        m, n = sum(production.bins), sum(canary.bins)
        index = noise = line = size = None
        saturated = False
        if min(m, n) >= MIN_KEYS:
            saturated = hidden_distance(production, canary, classes=self._classes) > EQUAL_ENOUGH
            index, noise = psi(production.bins, canary.bins), psi_noise(self.bin_count, m, n)
            line = psi_line(self.bin_count, m, n)
            size = size_of(index, noise, line)
        difference, interval = self._mean_difference()
        return OutputShift(
            kind="class" if self._classes else "score",
            uncounted=self._uncounted(),
            saturated=saturated,
            psi=index,
            noise=noise,
            line=line,
            size=size,
            ks=self._test.distance,
            ks_bound=self._test.bound,
            ks_at_most=self._test.at_most,
            proven=self._test.proven,
            production=self._arm(0),
            canary=self._arm(1),
            mean_difference=difference,
            mean_interval=interval,
        )

    def _uncounted(self) -> str:
        """No test: it only keeps a PASS from resting on answers that nobody could look at."""
        counted = [sum(every) for every in self.all]
        if min(map(sum, zip(counted, self.invalid, strict=True))) < MIN_ANSWERS:
            return ""
        production, canary = (bad > good for good, bad in zip(counted, self.invalid, strict=True))
        return "" if production == canary else "canary" if canary else "production"

    def _arm(self, arm: int) -> ArmScores:
        every, edges = self.all[arm], self._edges
        scores = sum(every)
        mean = sum(map(float.__mul__, self._values, map(float, every))) / scores if scores and edges else None
        p50, p95 = (quantile(edges, every, share) if edges else None for share in (0.5, 0.95))
        first = self.first[arm]
        outside = first.bins[-1] if self._classes else sum(first.out_of_range)
        return ArmScores(scores, sum(first.bins), outside, mean, p50, p95, self.invalid[arm])

    def _mean_difference(self) -> tuple[float, Interval] | tuple[None, None]:
        if not self._values:
            return None, None
        production, canary = (mean_of_groups(*each) for each in zip(self._requests, self._sums, strict=True))
        if production is None or canary is None:
            return None, None
        return canary[0] - production[0], of_means(production, canary)


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
