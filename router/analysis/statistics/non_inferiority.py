"""PASS: non-inferiority. An e-value against "the canary's rate is production's + δ or more".

Valid under peeking. Source: Turner, Ly & Grünwald, Generic E-variables for exact sequential k-sample tests
(JSPI 2024); convex nulls: Turner & Grünwald 2023. With no events it is e^(n·δ): the rule of three. Requests
of one key are not independent, so the logarithm is divided by the design effect, as Rao & Scott (1992)
divide counts.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from router.analysis.statistics.counts import ArmTotals, EventGroups

ASSUMED_CORRELATION = 0.05
"""Correlation within a key whose faults have not been seen yet; without it the zero-fault case passes wrongly
17 % of the time under heavy users."""


Z_95 = 1.959964
"""Of the normal distribution: 95 % lie between its negative and it."""
Interval = tuple[float, float]


def nearest_null(rate: float, margin: float, production: float, canary: float) -> float:
    """p, so that (p, p + margin) is the point of the null's edge nearest to (rate, rate).

    `production` and `canary` weigh the arms: requests. It solves n_b·[θ/p − (1−θ)/(1−p)] + n_c·[θ/(p+δ) −
    (1−θ)/(1−p−δ)] = 0 on (0, 1 − δ), where the left side falls; `rate` and `margin` lie in (0, 1).
    """
    low, high = 0.0, 1.0 - margin
    for _ in range(200):
        p = (low + high) / 2.0
        if p in (low, high):
            break
        worse = p + margin
        slope = production * (rate / p - (1.0 - rate) / (1.0 - p))
        slope += canary * (rate / worse - (1.0 - rate) / (1.0 - worse)) if worse < 1.0 else -math.inf
        low, high = (p, high) if slope > 0.0 else (low, p)
    return (low + high) / 2.0


def block_evidence(block: ArmTotals, rate: float, margin: float) -> float:
    """What one block adds to L, with `rate` (θ) guessed from earlier blocks only."""
    p = nearest_null(rate, margin, block.production_requests, block.canary_requests)
    worse = p + margin
    n_b, x_b, n_c, x_c = block
    return (
        x_b * math.log(rate / p)
        + (n_b - x_b) * math.log((1.0 - rate) / (1.0 - p))
        + x_c * math.log(rate / worse)
        + (n_c - x_c) * math.log((1.0 - rate) / (1.0 - worse))
    )


class NonInferiorityTest(Struct, array_like=True):
    """L of one step: `ln_l` ≥ deff·ln 20 says that the canary is not worse by `margin`."""

    margin: float
    ln_l: float = 0.0
    closed: ArmTotals = ArmTotals()

    @property
    def rate(self) -> float:
        """θ: (events + ½) / (requests + 50) of both arms in closed blocks; 0.01 before the first."""
        return (self.closed.events + 0.5) / (self.closed.requests + 50.0)

    def take(self, total: ArmTotals) -> None:
        """Close a block at the end of a cell; cells are joined until both arms have a request."""
        block = total.since(self.closed)
        if block.production_requests and block.canary_requests:
            self.ln_l += block_evidence(block, self.rate, self.margin)
            self.closed = total


def design_effect(requests: Sequence[int], events: Sequence[int]) -> float:
    """How much wider an arm's rate scatters than if requests were independent; 1 where that is unknown.

    Linearised variance of a ratio, G/(G−1)·Σ_g (x_g − r·n_g)²/n² over the G groups with traffic, divided by
    the binomial's r(1−r)/n. Not floored: below 1 when the groups say so.
    """
    total, hit = sum(requests), sum(events)
    if not 0 < hit < total:
        return 1.0
    rate = hit / total
    groups = 0
    squares = 0.0
    for n, x in zip(requests, events, strict=True):
        if n:
            groups += 1
            squares += (x - rate * n) ** 2
    if groups < 2:
        return 1.0
    return groups / (groups - 1) * squares / (total * rate * (1.0 - rate))


def sum_of_squares(requests: Sequence[int]) -> int:
    """Σ n_g²."""
    return sum(n * n for n in requests)


def effective_keys(requests: Sequence[int]) -> float:
    """(Σn_g)²/Σn_g², Kish (1965): as many keys as would ask equally often; 0 without a request."""
    total = sum(requests)
    return total * total / sum_of_squares(requests) if total else 0.0


def keys_in_arm(requests: Sequence[int]) -> float:
    """Effective keys of an arm, as if each had a group of its own; infinite where none asks more than others.

    A group holds many keys: of the Σn²/(Σn)² of the groups, 1/n is chance and 1/G is how many there are.
    """
    total = sum(requests)
    if not total:
        return math.inf
    above = sum_of_squares(requests) / total**2 - 1.0 / total - 1.0 / len(requests)
    return 1.0 / above if above > 0.0 else math.inf


def assumed_effect(requests: Sequence[int]) -> float:
    """1 + 0.05·(Σn_g²/Σn_g − 1): the design effect for faults that have not been seen yet."""
    total = sum(requests)
    return 1.0 + ASSUMED_CORRELATION * (sum_of_squares(requests) / total - 1.0) if total else 1.0


def design_effects(counts: EventGroups) -> tuple[float, float]:
    """Of production and of the canary, each at least 1; the canary's at least the assumed one."""
    production, canary = map(design_effect, counts.requests, counts.events)
    return max(1.0, production), max(1.0, canary, assumed_effect(counts.requests[1]))


# How much longer, if things stay as they are: the mean; the 95th percentile is about three times the median


def divergence(a: float, b: float) -> float:
    """KL(a‖b) = a·ln(a/b) + (1−a)·ln((1−a)/(1−b)) of two rates; `b` in (0, 1)."""
    first = a * math.log(a / b) if a > 0.0 else 0.0
    return first + ((1.0 - a) * math.log((1.0 - a) / (1.0 - b)) if a < 1.0 else 0.0)


def gain(rate: float, margin: float, weight: float) -> float:
    """What L gains per canary request if both versions have `rate`.

    `weight`: production's requests per canary's. w·KL(θ‖p) + KL(θ‖p+δ). About δ when there are no events:
    3/δ requests pass.
    """
    p = nearest_null(rate, margin, weight, 1.0)
    return weight * divergence(rate, p) + divergence(rate, p + margin)


def observed_gain(
    rate: float, margin: float, weight: float, production_rate: float, canary_rate: float
) -> float:
    """The same if the arms keep the rates they show: 0 or less says that it will not pass at these rates.

    w·[KL(r_b‖p) − KL(r_b‖θ)] + [KL(r_c‖p+δ) − KL(r_c‖θ)].
    """
    p = nearest_null(rate, margin, weight, 1.0)
    production = divergence(production_rate, p) - divergence(production_rate, rate)
    canary = divergence(canary_rate, p + margin) - divergence(canary_rate, rate)
    return weight * production + canary


def requests_to_pass(
    ln_l: float, effect: float, rate: float, margin: float, weight: float, ln_pass: float = math.log(20.0)
) -> float:
    """Canary requests still needed until L reaches effect·ln 20, 0 or more: (deff·ln 20 − L)/g."""
    return max(0.0, (effect * ln_pass - ln_l) / gain(rate, margin, weight))


# An interval shown beside the difference, and never judged. It holds 95 % of the time at an instant fixed
# beforehand; whoever looks all day and picks an instant is promised less


def wilson(events: float, requests: float) -> Interval:
    """Score interval of a rate (Wilson 1927), 0 to 1; `requests` > 0 may be a fraction."""
    rate, z2 = events / requests, Z_95 * Z_95
    middle = (rate + z2 / (2 * requests)) / (1 + z2 / requests)
    half = Z_95 / (1 + z2 / requests) * math.sqrt(rate * (1 - rate) / requests + z2 / (4 * requests**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate_difference(
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
