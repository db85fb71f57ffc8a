"""How much longer: requests and seconds until a verdict, if things stay as they are.

The mean, not a promise: the 95th percentile is about three times the median.
"""

import math

from router.analysis.statistics.non_inferiority import nearest_null


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


def events_to_fail(ln_e: float, level: float, share: float, hits: int, canary_hits: int) -> float | None:
    """Newly hit keys still needed until ln E reaches `level`, if the odds seen hold; None if they are even.

    (ln(1/α) − ln E)/KL(q‖π), q the canary's share of the hit keys (with ½ added to each arm), π its share of
    the clean ones.
    """
    if not hits or not 0.0 < share < 1.0:
        return None
    q = (canary_hits + 0.5) / (hits + 1.0)
    if q <= share:
        return None
    return max(0.0, (level - ln_e) / divergence(q, share))


def requests_to_show(increase: float, rate: float, share: float, level: float, odds: int = 9) -> float | None:
    """Canary requests after which a rise of `increase` above production's `rate` would be proven.

    From nothing. The mean of the sum needs ln(odds) more than `level`: it does not know which of its odds is
    right. Each request is taken to be of a key of its own.
    """
    if not 0.0 < share < 1.0 or not 0.0 <= rate < 1.0:
        return None
    canary = min(1.0, rate + increase)
    events = canary + rate * (1.0 - share) / share
    return (level + math.log(odds)) / (events * divergence(canary / events, share))
