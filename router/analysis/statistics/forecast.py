"""How long a step will take: how many canary requests until PASS, and until a rise of faults is proven.

Both tests add up evidence, request by request, until the sum reaches a level. Where each request adds much
the same, with mean g and variance v, the number of requests until a sum of `a` is distributed as the inverse
Gaussian with mean a/g and shape a²/v (Wald 1947; Chhikara & Folks 1989): Brownian motion with a drift, at
the first time that it passes a level.
"""

import math
from dataclasses import dataclass

from router.analysis.statistics.fault_test import WORSE, keys_to_prove
from router.analysis.statistics.non_inferiority import (
    ASSUMED_CORRELATION,
    divergence,
    gain,
    nearest_null,
)

LOW, HIGH = 0.05, 0.95
"""Quantiles of a range. The tests learn the rates that are given here, so that four of five end within it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many requests, or seconds, are needed: as likely more as less, and a range around it."""

    about: float
    low: float
    high: float

    def at_least(self, requests: float) -> "Waiting":
        """The same where fewer than `requests` are never enough."""
        return Waiting(*(max(requests, each) for each in (self.about, self.low, self.high)))

    def times(self, factor: float) -> "Waiting":
        """In another unit, of which each of this one is `factor`."""
        return Waiting(self.about * factor, self.low * factor, self.high * factor)

    def together_with(self, other: "Waiting") -> "Waiting":
        """Until both are over: the longer one, for they wait side by side."""
        return Waiting(max(self.about, other.about), max(self.low, other.low), max(self.high, other.high))


def requests_until_pass(
    rate: float, margin: float, share: float, level: float, *, effect: float = 1.0, keys: float = math.inf
) -> Waiting | None:
    """Canary requests from nothing to PASS, if both versions have `rate` events per request, in (0, 1).

    `share`, in (0, 1): the canary's of the requests of both arms. `level`: what ln L has to reach, times the
    design effect: at least `effect`, and at least the assumed one, which grows with the requests of each of
    the canary's effective `keys`. None where it grows as fast as the evidence: a few keys ask for nearly all.
    """
    weight = (1.0 - share) / share
    worse = nearest_null(rate, margin, weight, 1.0), margin
    drift = gain(rate, margin, weight)
    variance = rate * (1.0 - rate) * (weight * _swing(rate, worse[0]) ** 2 + _swing(rate, sum(worse)) ** 2)
    slowed = drift - ASSUMED_CORRELATION * level / keys
    if slowed <= 0.0:
        return None
    fixed, growing = _passage(level * effect, drift, variance), _passage(level, slowed, variance)
    return fixed.together_with(growing)


def requests_until_proven(
    increase: float, rate: float, share: float, level: float, *, least_keys: int
) -> Waiting | None:
    """Canary requests from nothing to the proof of a rise by `increase` above production's `rate`.

    `share`: the canary's of the clean buckets; None unless it lies in (0, 1). `level`: ln(1/α). Each request
    is taken to be of a key of its own. Fewer than `least_keys` hit keys of the canary never prove it, nor
    fewer than would if production had none.
    """
    if not 0.0 < share < 1.0 or not 0.0 <= rate < 1.0:
        return None
    canary = min(1.0, rate + increase)
    events = canary + rate * (1.0 - share) / share
    of_canary = canary / events
    knowledge = divergence(of_canary, share)
    swing = _swing(of_canary, share) if of_canary < 1.0 else 0.0
    # Events come by chance, too: a sum of a random number of terms.
    variance = events * (of_canary * (1.0 - of_canary) * swing**2 + knowledge**2)
    # The mixture does not know which of its odds is right.
    proof = _passage(level + math.log(len(WORSE)), events * knowledge, variance)
    hits = max(least_keys, keys_to_prove(round(share, 4), level))
    return proof.together_with(_passage(hits, canary, canary))


def _swing(rate: float, other: float) -> float:
    """By how much an event and none differ in what they say for `rate` and against `other`."""
    return math.log(rate / other) - math.log((1.0 - rate) / (1.0 - other))


def _passage(level: float, drift: float, variance: float) -> Waiting:
    """Until a sum reaches `level` > 0, of terms with mean `drift` > 0 and that variance."""
    mean = level / drift
    if variance <= 0.0:
        return Waiting(mean, mean, mean)
    shape = level * level / variance
    return Waiting(*(_quantile(share, mean, shape) for share in (0.5, LOW, HIGH)))


def _quantile(share: float, mean: float, shape: float) -> float:
    """Of the inverse Gaussian, by halving: it has no closed form."""
    low, high = mean * 1e-6, mean * 1e4
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _distribution(middle, mean, shape) < share else (low, middle)
    return low


def _distribution(value: float, mean: float, shape: float) -> float:
    root = math.sqrt(shape / value)
    below = _normal(root * (value / mean - 1.0))
    exponent = 2.0 * shape / mean
    # Beyond that the second term is nothing, and e to that power no number.
    return below + math.exp(exponent) * _normal(-root * (value / mean + 1.0)) if exponent < 600.0 else below


def _normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))
