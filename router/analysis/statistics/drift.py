"""Whether scores moved: the first score of each bucket, sized by PSI, proven by Kolmogorov-Smirnov.

A model is meant to score differently than the one before it, so by default a shift is reported, not failed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import Literal

from msgspec import Struct, field

from router.analysis.statistics.counts import GroupCounts
from router.analysis.statistics.durations import quantile_at
from router.analysis.statistics.non_inferiority import Z_95, Interval
from router.analysis.statistics.records import UNITS_OF_RANGE
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec

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


class FirstScores(Struct, array_like=True):
    """The first score of each bucket of one arm in this step."""

    bins: list[int]
    """Per bin, those out of range in the end bins; or per class, the last of them all other labels."""
    out_of_range: list[int] = field(default_factory=lambda: [0, 0])
    """Of them, those below and above the range."""


class DriftTest(Struct, array_like=True):
    """Looks at the distance, all of them together under `alpha`; their number goes on through steps."""

    alpha: float
    classes: bool
    looks: int = 0
    """Looks spent; look i has α/(i·(i + 1)), which sum to α."""
    proven: bool = False
    """True once a look found more than its bound."""
    in_step: int = 1
    """Number of the next look, counted in this step."""
    distance: float | None = None
    """At the last look of this step."""
    at_most: float | None = None
    """The same if what counts alike, out of range or on no list, lay as far apart as it can."""
    bound: float | None = None

    def restart(self) -> None:
        """Another step: its keys are counted anew, the looks go on."""
        self.in_step = 1
        self.distance = self.at_most = self.bound = None

    def look(self, production: FirstScores, canary: FirstScores) -> None:
        """Compare the first scores per bucket, if it is time."""
        n, m = sum(canary.bins), sum(production.bins)
        if n < look_keys(self.in_step) or m < MIN_KEYS:
            return
        while look_keys(self.in_step) <= n:
            self.in_step += 1
        self.looks += 1
        alpha = self.alpha / (self.looks * (self.looks + 1))
        pair = production.bins, canary.bins
        if self.classes:
            self.distance, self.bound = total_variation(*pair), classes_bound(len(canary.bins), m, n, alpha)
        else:
            self.distance, self.bound = ks_distance(*pair), ks_bound(m, n, alpha)
        hidden = hidden_distance(production, canary, classes=self.classes)
        self.at_most = largest_distance(self.distance, hidden, classes=self.classes)
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


class ArmHistogram(Struct, array_like=True):
    """The scores of one arm in this step."""

    first: FirstScores
    every: list[int]
    """All scores per bin, or labels per class."""
    invalid: int = 0
    """Answers without fault whose score is no finite number or not on the list."""

    @classmethod
    def empty(cls, bin_count: int) -> "ArmHistogram":
        """Of nothing, in so many bins or classes."""
        return cls(FirstScores([0] * bin_count), [0] * bin_count)


class ScoreState(Struct, array_like=True):
    """All that `ScoreHistograms` knows."""

    test: DriftTest
    production: ArmHistogram
    canary: ArmHistogram


class ScoreHistograms:
    """Scores of both arms in one step: the first of each bucket is compared, all of them are shown.

    Counts by bin of a score, or by class; the last class is all labels that are on no list.
    """

    def __init__(self, output: OutputSpec, alpha: float, state: ScoreState | None = None) -> None:
        """`state`: what is known already. Raises ValueError for one of another number of bins."""
        self._classes, self.bin_count = isinstance(output, ClassSpec), output.bin_count
        self._edges = (output.low, *output.edges()) if isinstance(output, ScoreSpec) else ()
        self._values = tuple(low / 2 + high / 2 for low, high in pairwise(self._edges))
        """Middles of the bins: what a score counts as in a mean; empty for classes."""
        empty = (ArmHistogram.empty(self.bin_count) for _ in range(2))
        self.state = state or ScoreState(DriftTest(alpha, self._classes), *empty)
        for arm in (self.state.production, self.state.canary):
            if (
                not len(arm.every) == len(arm.first.bins) == self.bin_count
                or len(arm.first.out_of_range) != 2
            ):
                raise ValueError(f"scores are not counted in {self.bin_count} bins")

    def restart(self) -> None:
        """Another step."""
        self.state.production, self.state.canary = (ArmHistogram.empty(self.bin_count) for _ in range(2))
        self.state.test.restart()

    def take(self, arm: int, scores: Mapping[int, int], firsts: Sequence[int], invalid: int) -> None:
        """Take in what one arm, 0 or 1, answered in one cell.

        `scores`: how many by `bin_index`, past the last bin those below and above the range. `firsts`: the
        `bin_index` of each bucket that was scored for the first time in this step. An index that does not
        exist counts as invalid.
        """
        counted = self.state.canary if arm else self.state.production
        counted.invalid += invalid
        for bin_index, count in scores.items():
            place = self._place(bin_index)
            if place is None:
                counted.invalid += count
            else:
                counted.every[place] += count
        for bin_index in firsts:
            place = self._place(bin_index)
            if place is not None:
                counted.first.bins[place] += 1
                if bin_index >= self.bin_count:
                    counted.first.out_of_range[bin_index - self.bin_count] += 1

    def _place(self, bin_index: int) -> int | None:
        """The bin in which it counts: scores out of range in the end bins."""
        if 0 <= bin_index < self.bin_count:
            return bin_index
        outside = bin_index - self.bin_count
        return (0, self.bin_count - 1)[outside] if not self._classes and 0 <= outside < 2 else None

    def look(self) -> None:
        """Compare, if the canary has keys enough for its next look."""
        self.state.test.look(self.state.production.first, self.state.canary.first)

    def shift(self, groups: GroupCounts) -> OutputShift:
        """How far they moved, as of the last look; and what is shown beside it. `groups`: for the means."""
        test, production, canary = self.state.test, self.state.production.first, self.state.canary.first
        m, n = sum(production.bins), sum(canary.bins)
        index = noise = line = size = None
        saturated = False
        if min(m, n) >= MIN_KEYS:
            saturated = hidden_distance(production, canary, classes=self._classes) > EQUAL_ENOUGH
            index, noise = psi(production.bins, canary.bins), psi_noise(self.bin_count, m, n)
            line = psi_line(self.bin_count, m, n)
            size = size_of(index, noise, line)
        difference, interval = self._mean_difference(groups)
        return OutputShift(
            kind="class" if self._classes else "score",
            uncounted=self._uncounted(),
            saturated=saturated,
            psi=index,
            noise=noise,
            line=line,
            size=size,
            ks=test.distance,
            ks_bound=test.bound,
            ks_at_most=test.at_most,
            proven=test.proven,
            production=self._arm(self.state.production),
            canary=self._arm(self.state.canary),
            mean_difference=difference,
            mean_interval=interval,
        )

    def _uncounted(self) -> str:
        """No test: it only keeps a PASS from resting on answers that nobody could look at."""
        arms = [(sum(arm.every), arm.invalid) for arm in (self.state.production, self.state.canary)]
        if min(map(sum, arms)) < MIN_ANSWERS:
            return ""
        production, canary = (bad > good for good, bad in arms)
        return "" if production == canary else "canary" if canary else "production"

    def _arm(self, arm: ArmHistogram) -> ArmScores:
        every, edges, first = arm.every, self._edges, arm.first
        scores = sum(every)
        mean = sum(map(float.__mul__, self._values, map(float, every))) / scores if scores and edges else None
        p50, p95 = (quantile_at(edges, every, share) if edges else None for share in (0.5, 0.95))
        outside = first.bins[-1] if self._classes else sum(first.out_of_range)
        return ArmScores(scores, sum(first.bins), outside, mean, p50, p95, arm.invalid)

    def _mean_difference(self, groups: GroupCounts) -> tuple[float, Interval] | tuple[None, None]:
        if not self._edges:
            return None, None
        means = zip(groups.scored, groups.score_sums, strict=True)
        production, canary = (mean_of_groups(*each) for each in means)
        if production is None or canary is None:
            return None, None
        # Their sums are in units, and count from the lowest edge.
        unit = (self._edges[-1] / 2 - self._edges[0] / 2) / (UNITS_OF_RANGE / 2)
        low, high = of_means(production, canary)
        return (canary[0] - production[0]) * unit, (low * unit, high * unit)


def mean_of_groups(requests: Sequence[int], sums: Sequence[int]) -> tuple[float, float] | None:
    """Mean over all requests and its variance, G/(G−1)·Σ_g (s_g − mean·n_g)²/n²; None without two groups.

    The variance of a ratio of group totals (Cochran 1977, §6): the naive one times the design effect.
    """
    total = sum(requests)
    groups = sum(1 for n in requests if n)
    if groups < 2:
        return None
    mean = sum(sums) / total
    squares = math.fsum((s - mean * n) ** 2 for n, s in zip(requests, sums, strict=True) if n)
    return mean, groups / (groups - 1) * squares / total**2


def of_means(production: tuple[float, float], canary: tuple[float, float]) -> Interval:
    """Canary's mean − production's, from (mean, variance of the mean) of each: normal approximation."""
    difference = canary[0] - production[0]
    half = Z_95 * math.sqrt(production[1] + canary[1])
    return difference - half, difference + half
