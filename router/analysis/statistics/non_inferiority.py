"""PASS: non-inferiority. An e-value against "the canary's rate is production's + δ or more".

Valid under peeking. Source: Turner, Ly & Grünwald, Generic E-variables for exact sequential k-sample tests
(JSPI 2024); convex nulls: Turner & Grünwald 2023. With no events it is e^(n·δ): the rule of three. Requests
of one key are not independent, so the logarithm is divided by the design effect, as Rao & Scott (1992)
divide counts.
"""

import math
from collections.abc import Sequence

from router.analysis.statistics.counts import Counts, Tally

ASSUMED_CORRELATION = 0.05
"""Correlation within a key whose faults have not been seen yet; without it the zero-fault case passes wrongly
17 % of the time under heavy users."""


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


def block_evidence(block: Tally, rate: float, margin: float) -> float:
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


class NoWorse:
    """L of one step: `ln_l` ≥ deff·ln 20 says that the canary is not worse by `margin`."""

    __slots__ = ("_closed", "ln_l", "margin")

    def __init__(self, margin: float) -> None:
        self.margin = margin
        self.ln_l = 0.0
        self._closed = Tally()

    @property
    def rate(self) -> float:
        """θ: (events + ½) / (requests + 50) of both arms in closed blocks; 0.01 before the first."""
        return (self._closed.events + 0.5) / (self._closed.requests + 50.0)

    def look(self, total: Tally) -> None:
        """Close a block at `total`; looks are joined until both arms have a request."""
        block = total.since(self._closed)
        if block.production_requests and block.canary_requests:
            self.ln_l += block_evidence(block, self.rate, self.margin)
            self._closed = total


def design_effect(requests: Sequence[int], events: Sequence[int]) -> float:
    """How much wider an arm's rate scatters than if requests were independent; 1 where that cannot be told.

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


def assumed_effect(requests: Sequence[int]) -> float:
    """1 + 0.05·(Σn_g²/Σn_g − 1): the design effect for faults that have not been seen yet."""
    total = sum(requests)
    return 1.0 + ASSUMED_CORRELATION * (sum_of_squares(requests) / total - 1.0) if total else 1.0


def design_effects(counts: Counts) -> tuple[float, float]:
    """Of production and of the canary, each at least 1; the canary's at least the assumed one."""
    production, canary = map(design_effect, counts.requests, counts.events)
    return max(1.0, production), max(1.0, canary, assumed_effect(counts.requests[1]))
