"""From the state of a check to what is told of it: verdict, counts, interval, and how much longer."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from router.core.evidence import forecast
from router.core.evidence.interval import of_rates
from router.core.evidence.no_worse import design_effects, effective_keys
from router.core.evidence.rate import Rate
from router.core.evidence.report import (
    ArmRate,
    LatencyCheck,
    Quantiles,
    QuantilesOfArms,
    RateCheck,
    Unmeasured,
    Verdict,
)
from router.core.evidence.skew import Skew
from router.core.evidence.slow import is_over, quantile
from router.core.evidence.worse import cumulative_level, keys_to_prove
from router.core.latency_buckets import REQUEST_SECONDS

POINT = 0.01
"""A rise of one percentage point."""
_SHOWN = (0.5, 0.95, 0.99)
_NEARLY_ALL = 0.95
C = TypeVar("C", bound=RateCheck)


def faults(rate: Rate, now: float, seen: Skew, excused: int) -> RateCheck:
    """The fault check."""
    total = rate.total
    failing = (
        total.production_requests > 0
        and total.production_events / total.production_requests >= rate.limits.most_production_faults
    )
    check = partial(RateCheck, check="faults", excused=excused, production_failing=failing)
    return _judged(check, rate, now, seen, POINT, never_passes=failing)


def latency(
    rate: Rate, now: float, seen: Skew, edge: float | None, durations: tuple[list[int], list[int]]
) -> LatencyCheck:
    """The latency check. A slow production does not keep an equally slow canary from passing, unless a slower
    one would look the same."""
    unmeasured = _unmeasured(rate, durations)
    check = partial(
        LatencyCheck,
        check="latency",
        excused=0,
        production_failing=False,
        edge_seconds=edge,
        quantiles_seconds=QuantilesOfArms(*map(_quantiles, durations)),
        quantiles_over_last_edge=QuantilesOfArms(*map(_over, durations)),
        unmeasured=unmeasured,
    )
    return _judged(check, rate, now, seen, 5 * POINT, never_passes=bool(unmeasured))


def _unmeasured(rate: Rate, durations: tuple[list[int], list[int]]) -> Unmeasured:
    if any(is_over(counts, _NEARLY_ALL) for counts in durations):
        return "over_last_edge"
    total = rate.total
    slow = total.production_events / total.production_requests if total.production_requests else 0.0
    return "all_slow" if slow + rate.no_worse.margin >= 1.0 else ""


def _quantiles(counts: list[int]) -> Quantiles[float | None]:
    edges = (0.0, *REQUEST_SECONDS)
    return Quantiles(*(quantile(edges, counts, share) for share in _SHOWN))


def _over(counts: list[int]) -> Quantiles[bool]:
    return Quantiles(*(is_over(counts, share) for share in _SHOWN))


def _judged(
    check: Callable[..., C], rate: Rate, now: float, seen: Skew, rise: float, *, never_passes: bool
) -> C:
    total, limits = rate.total, rate.limits
    effects = design_effects(rate.counts)
    effect = max(effects)
    arms = _arms(rate, seen)
    keys_enough = arms[1].effective_keys >= limits.min_keys
    requests_enough = total.canary_requests >= limits.min_requests
    passes = (
        rate.no_worse.ln_l >= effect * limits.ln_pass and requests_enough and keys_enough and not never_passes
    )
    failed = bool(rate.failed_by)
    still = 0.0 if passes else _still_needed(rate, effect, seen.share_of_buckets)
    # Where only more requests do not help, no number of them is told.
    told = still if passes or (still and not failed and not never_passes) else None
    counted = rate.recent.tally(total).canary_requests
    seconds = rate.recent.seconds(now)
    per_second = counted / seconds if seconds > 0.0 else 0.0
    share = rate.cumulative.share
    base = total.production_events / total.production_requests if total.production_requests else 0.0
    level = cumulative_level(rate.alpha)
    show = forecast.requests_to_show(rise, base, share, level)
    return check(
        judges=True,
        verdict=Verdict.FAIL if failed else Verdict.PASS if passes else Verdict.NOT_ENOUGH_DATA,
        limit=rate.limit,
        margin=rate.no_worse.margin,
        production=arms[0],
        canary=arms[1],
        difference=total.difference,
        interval=of_rates(total[:2], total[2:], effects),
        cumulative=rate.cumulative_proof,
        epoch=rate.epoch_proof,
        epoch_number=rate.epoch_number,
        failed_at=rate.failed_at,
        failed_by=rate.failed_by,
        ln_l=rate.no_worse.ln_l,
        ln_pass=limits.ln_pass,
        effect=effect,
        requests_enough=requests_enough,
        keys_enough=keys_enough,
        will_not_pass=not failed and still is None and total.difference is not None,
        hit_keys_needed=max(limits.min_hit_keys, keys_to_prove(round(share, 4), level))
        if 0.0 < share < 1.0
        else 0,
        requests_needed=None if told is None else total.canary_requests + round(told),
        seconds_needed=_seconds(told, per_second),
        fail_seconds=None if failed else _until_fail(rate, now, per_second),
        requests_to_show_point=show,
        seconds_to_show_point=_seconds(show, per_second),
    )


def _seconds(requests: float | None, per_second: float) -> float | None:
    if requests == 0.0:
        return 0.0
    return None if requests is None or per_second <= 0.0 else requests / per_second


def _still_needed(rate: Rate, effect: float, share: float) -> float | None:
    """Canary requests until PASS; None if at the rates seen it moves away, or an arm owns no bucket."""
    total, guess, margin = rate.total, rate.no_worse.rate, rate.no_worse.margin
    if not 0.0 < share < 1.0:
        return None
    weight = (1.0 - share) / share
    if total.production_requests and total.canary_requests >= rate.limits.min_requests:
        weight = total.production_requests / total.canary_requests
        observed = forecast.observed_gain(
            guess,
            margin,
            weight,
            total.production_events / total.production_requests,
            total.canary_events / total.canary_requests,
        )
        if observed <= 0.0:
            return None
    needed = forecast.requests_to_pass(rate.no_worse.ln_l, effect, guess, margin, weight, rate.limits.ln_pass)
    return max(needed, float(rate.limits.min_requests - total.canary_requests))


def _until_fail(rate: Rate, now: float, per_second: float) -> float | None:
    hits, requests = rate.cumulative, rate.total.canary_requests
    events = forecast.events_to_fail(
        hits.ln_e, rate.cumulative_proof.level, hits.share, hits.hits, hits.canary_hits
    )
    if events is None or not requests or per_second <= 0.0 or not rate.total.events:
        return None
    # Newly hit keys come with the canary's requests, as they did so far in this step.
    by_keys = events / (rate.total.events / requests * per_second)
    by_blocks = rate.seconds_in_blocks(now, per_second)
    return None if by_blocks is None else max(by_keys, by_blocks)


def _arms(rate: Rate, seen: Skew) -> tuple[ArmRate, ArmRate]:
    total, hits = rate.total, rate.cumulative
    return (
        _arm(total[:2], seen.hits - seen.canary_hits, rate.counts.requests[0], hits.hits - hits.canary_hits),
        _arm(total[2:], seen.canary_hits, rate.counts.requests[1], hits.canary_hits),
    )


def _arm(counted: tuple[int, int], keys: int, groups: list[int], hit_keys: int) -> ArmRate:
    requests, events = counted
    return ArmRate(
        requests=requests,
        events=events,
        rate=events / requests if requests else None,
        keys=keys,
        effective_keys=effective_keys(groups),
        hit_keys=hit_keys,
    )
