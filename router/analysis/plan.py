"""What a change of the canary's share would do, before it is made. Pure: what is known in, a plan out."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from router.analysis.criteria import FAULTS, Criteria
from router.analysis.hourly_traffic import HourOfTraffic
from router.analysis.run_state import Spread
from router.analysis.statistics.counts import GROUPS
from router.analysis.statistics.fault_test import cumulative_level
from router.analysis.statistics.forecast import Waiting, requests_until_pass, requests_until_proven
from router.analysis.statistics.latency import SLOW_QUANTILE
from router.analysis.text import percent
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.predict_cost import PredictCost
from router.core.routing import ModelRoutes
from router.core.split import BUCKETS, BUCKETS_PER_PERCENT, Split
from router.core.verdict import Verdict

MOST_KEYS_PER_BUCKET = 4
"""Where so many keys would fall into a bucket on average, 98 % of them are seen, and how many keys there are
is not known any more: only that there are more."""
LARGEST_STEP = 5
"""Times the present share: what is above was not tried in between."""
KEYLESS_FROM = 100
"""Requests before it matters how many of them carry no key."""
BUSY_ENOUGH = 0.8
"""Of its time a worker may predict; what is left takes up that requests do not come evenly."""
_LEAST_RATE = 1e-3
"""Of slow answers: none so far does not mean none ever."""
_ANY_RATE = 0.01
"""Of faults, before anything is known: what the test itself begins with."""


class Objection(StrEnum):
    """What speaks against a larger share."""

    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
    LEAP = "leap"
    SATURATION = "saturation"
    KEYLESS = "keyless"
    CAPPED = "capped"
    GATED = "gated"
    BREAKER_OPEN = "breaker_open"


@dataclass(frozen=True, slots=True)
class KeyEstimate:
    """How many different keys were seen, by the buckets that they fell into."""

    about: int | None
    """None where there are too many to say."""
    more_than: int | None
    """Then, at least so many; else None."""

    @classmethod
    def of(cls, seen: int, buckets: int) -> "KeyEstimate":
        """n ≈ −m·ln(1 − k/m), of `seen` (k) of `buckets` (m): linear counting (Whang et al. 1990)."""
        if not buckets:
            return cls(0, None)
        if seen >= buckets * -math.expm1(-MOST_KEYS_PER_BUCKET):
            return cls(None, MOST_KEYS_PER_BUCKET * buckets)
        return cls(round(-buckets * math.log1p(-seen / buckets)), None)

    def to_json(self) -> dict[str, int | None]:
        """As `/v1/plan` shows it."""
        return {"about": self.about, "more_than": self.more_than}


@dataclass(frozen=True, slots=True)
class Moved:
    """What changes side, from the shares in force now to those that would be."""

    first: int
    end: int
    """Buckets [first, end) do; none where both are equal."""
    seen: int
    """Of these, the buckets in which a key was seen."""
    keys: KeyEstimate

    @classmethod
    def between(cls, now: Split, then: Split, traffic: HourOfTraffic) -> "Moved":
        """The canary owns [0, share): what lies between the two shares moves, and nothing else."""
        first, end = sorted((now.canary, then.canary))
        seen = traffic.seen.count(first, end)
        return cls(first, end, seen, KeyEstimate.of(seen, end - first))


@dataclass(frozen=True, slots=True)
class CostsOfVersions:
    """What predicts cost, and how requests share them."""

    canary: PredictCost
    canary_shares_predicts: bool
    canary_parallel: int
    """Predicts that one of its workers runs side by side, at least 1."""
    production: PredictCost
    requests_per_predict: float
    """Production's, at least 1."""
    rows_per_request: float
    """Production's, at least 1: other callers of the same kind will come."""

    def seconds_of_worker(self, requests_per_second: float) -> float | None:
        """How many of the canary's workers predicts would keep busy; None before the first predict.

        In production's batches: at a small share few requests share a predict, and each one costs the fixed
        part of it, several times what it costs where many do.
        """
        together = self.requests_per_predict if self.canary_shares_predicts else 1.0
        rows = max(1, round(together * self.rows_per_request))
        seconds = self._seconds_of_predict(rows)
        return None if seconds is None else requests_per_second / together * seconds / self.canary_parallel

    def _seconds_of_predict(self, rows: int) -> float | None:
        cost, tried = self.canary, self.canary.largest
        if not tried:
            return None
        known = self.production.least_seconds(tried)
        if rows > 2 * tried and known > 0.0:
            # It has predicted too little at once for a line through it: production says how cost grows.
            return cost.usual_seconds(tried) * self.production.least_seconds(rows) / known
        return cost.usual_seconds(rows)


@dataclass(frozen=True, slots=True)
class Workers:
    """What the canary's version needs to answer its share."""

    configured: int
    busy: float | None
    """Of how many workers all the time would be taken; None while its predicts' cost is not known."""

    @property
    def needed(self) -> int | None:
        """At least 1."""
        return None if self.busy is None else max(1, math.ceil(self.busy / BUSY_ENOUGH))

    @property
    def too_few(self) -> bool:
        """Whether more are needed than are configured."""
        return self.needed is not None and self.needed > self.configured


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of one registered model when a share is planned for its canary."""

    routes: ModelRoutes
    traffic: HourOfTraffic
    workers: int
    """As configured, of each version."""
    costs: CostsOfVersions | None
    """None unless both versions are loaded, and are two."""
    verdict: str
    """Of the canary: pass, fail or not_enough_data."""
    why: str
    """The verdict in a sentence."""
    breaker: str
    """Why the canary's breaker is open; empty while it is closed."""
    slow_rate: float | None
    """Share of production's answers that are slow; None while that is not known."""
    spread: Spread | None
    """Of production's requests; None while nothing is compared."""
    scores_judge: bool
    """Whether a shift of the scores fails a canary: a pass waits for that, too, and no forecast says so."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long something takes."""

    seconds: Waiting | None
    why_not: str = ""
    """Why it is not to be expected at all, or not known."""

    def to_json(self) -> dict[str, Any]:
        """As `/v1/plan` shows it."""
        if self.seconds is None:
            return {"about": None, "low": None, "high": None, "why_not": self.why_not}
        shown = {name: round(each, 1) for name, each in asdict(self.seconds).items()}
        return {**shown, "why_not": ""}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do."""

    known: Known
    planned: Split
    """As it would be configured."""
    now: Split
    """In force."""
    then: Split
    """In force after the change: caps stay, and a changed split closes breakers."""
    moved: Moved
    workers: Workers
    until_pass: Forecast
    until_shown: Forecast
    """Until one percentage point more faults would be proven, were they there."""
    against: Mapping[Objection, str]
    """What speaks against it, a sentence each; empty for a share that does not grow."""

    def to_json(self) -> dict[str, Any]:
        """The document of `/v1/plan`; shares in percent, durations in seconds."""
        traffic, moved = self.known.traffic, self.moved
        canary = self.known.routes.bound.get(CANARY)
        return {
            "model": self.known.routes.model,
            "share": {
                "configured": _percent(self.known.routes.configured_split),
                "in_force": _percent(self.now),
                "planned": _percent(self.planned),
                "planned_in_force": _percent(self.then),
            },
            "split": {"now": self.now.percentages(), "then": self.then.percentages()},
            "traffic": {
                "seconds": round(traffic.seconds, 1),
                "requests": traffic.requests,
                "without_key": _ratio(traffic.keyless, traffic.requests),
            },
            "buckets": {
                "seen": traffic.seen.count(),
                "change_side": moved.end - moved.first,
                "seen_change_side": moved.seen,
                "first": moved.first,
                "end": moved.end,
            },
            "keys": {
                "seen": KeyEstimate.of(traffic.seen.count(), BUCKETS).to_json(),
                "change_side": moved.keys.to_json(),
            },
            "requests_per_second": {
                "now": requests_per_second(traffic, self.now),
                "then": requests_per_second(traffic, self.then),
            },
            "workers": {
                "version": canary.number if canary else None,
                "configured": self.workers.configured,
                "needed": self.workers.needed,
                "busy": None if self.workers.busy is None else round(self.workers.busy, 3),
            },
            "seconds_until_pass": {
                **self.until_pass.to_json(),
                "scores_judge": self.known.scores_judge,
            },
            "seconds_until_point_shows": self.until_shown.to_json(),
            "verdict": self.known.verdict,
            "why": self.known.why,
            "against": [{"code": code, "why": why} for code, why in self.against.items()],
        }


def with_canary(split: Split, buckets: int) -> Split:
    """`split` with so many buckets for the canary, 0 or more; production has what the others leave.

    Raises ValueError where they leave less.
    """
    kept = split.further[1] if split.further else 0
    if split.further and buckets + kept > BUCKETS:
        raise ValueError(
            f"the canary can not have so much: {split.further[0]} has {kept / BUCKETS_PER_PERCENT:g} percent"
        )
    return Split(buckets, split.further)


def requests_per_second(traffic: HourOfTraffic, split: Split) -> dict[Alias, float | None]:
    """Of each alias while `split` is in force, if as much comes as in the last hour; None if nothing came."""
    if not traffic.seconds:
        return dict.fromkeys(split.shares())
    moving = traffic.keyed + traffic.hashed_bodies
    return {
        alias: round((moving * share + traffic.fixed.get(alias, 0)) / traffic.seconds, 3)
        for alias, share in split.ratios().items()
    }


def make_plan(known: Known, planned: Split, criteria: Criteria = Criteria()) -> Plan:  # noqa: B008 - frozen
    """What it would do to configure `planned`, which differs from the present split in the canary's share."""
    routes = known.routes
    changed = planned != routes.configured_split
    after = replace(routes, configured_split=planned, broken=frozenset() if changed else routes.broken)
    now, then = routes.split_in_force, after.split_in_force
    workers = _workers(known, then)
    grows = planned.canary > routes.configured_split.canary
    return Plan(
        known=known,
        planned=planned,
        now=now,
        then=then,
        moved=Moved.between(now, then, known.traffic),
        workers=workers,
        until_pass=_until_pass(known, planned, then, criteria),
        until_shown=_until_shown(known, planned, then, criteria),
        against=dict(_objections(known, planned, workers)) if grows else {},
    )


def _workers(known: Known, then: Split) -> Workers:
    per_second = requests_per_second(known.traffic, then).get(CANARY)
    busy = None
    if known.costs is not None and per_second is not None:
        busy = known.costs.seconds_of_worker(per_second)
    return Workers(known.workers, busy)


def _evidence_per_second(known: Known, then: Split) -> float:
    """The canary's requests that are compared."""
    traffic = known.traffic
    return traffic.keyed / traffic.seconds * then.canary / BUCKETS if traffic.seconds else 0.0


def _nothing_compared(known: Known, planned: Split, then: Split) -> str:
    bound = known.routes.bound
    if PRODUCTION not in bound or CANARY not in bound:
        return f"no version serves as {CANARY if PRODUCTION in bound else PRODUCTION}"
    if bound[PRODUCTION] == bound[CANARY]:
        return "both serve one version"
    if CANARY in known.routes.gated:
        return f"the gate, or its pre-flight, holds {CANARY}"
    if known.routes.capped.get(CANARY, BUCKETS) < planned.canary:
        return f"{CANARY} would be capped"
    if not then.canary or not then.shares()[PRODUCTION]:
        return f"{PRODUCTION if then.canary else CANARY} would have no share in force"
    return "" if _evidence_per_second(known, then) else "no request with a key came in the last hour"


def _until_pass(known: Known, planned: Split, then: Split, criteria: Criteria) -> Forecast:
    if why_not := _nothing_compared(known, planned, then):
        return Forecast(None, why_not)
    traffic, share = known.traffic, _share_of_pair(then)
    faults = _fault_rate(traffic)
    if traffic.production_requests and faults >= criteria.most_production_faults:
        return Forecast(None, f"production itself fails {percent(faults)} of its requests")
    slow = (1.0 - SLOW_QUANTILE) if known.slow_rate is None else known.slow_rate
    keys = _effective_keys(known, then)
    few = (
        f"there are too few keys: {criteria.min_keys:g} of the canary are needed that ask about equally often"
    )
    if keys <= criteria.min_keys:
        return Forecast(None, few)
    effect = known.spread.effect if known.spread else 1.0
    by_faults = requests_until_pass(
        faults, criteria.max_increase, share, criteria.ln_pass, effect=effect, keys=keys
    )
    most = criteria.max_slow_increase
    by_latency = requests_until_pass(
        min(max(slow, _LEAST_RATE), 1.0 - 2 * most), most, share, criteria.ln_pass, keys=keys
    )
    if by_faults is None or by_latency is None:
        return Forecast(None, few)
    least = max(criteria.min_requests, criteria.min_keys / (1.0 - criteria.min_keys / keys))
    needed = by_faults.together_with(by_latency).at_least(least)
    return Forecast(needed.times(1.0 / _evidence_per_second(known, then)))


def _until_shown(known: Known, planned: Split, then: Split, criteria: Criteria) -> Forecast:
    if why_not := _nothing_compared(known, planned, then):
        return Forecast(None, why_not)
    needed = requests_until_proven(
        FAULTS.shown_rise,
        _fault_rate(known.traffic),
        _share_of_pair(then),
        cumulative_level(criteria.alpha * criteria.budget_of(FAULTS)),
        least_keys=criteria.min_hit_keys,
    )
    if needed is None:
        return Forecast(None, "production fails all of its requests")
    return Forecast(needed.at_least(criteria.min_requests).times(1.0 / _evidence_per_second(known, then)))


def _fault_rate(traffic: HourOfTraffic) -> float:
    """Production's, as the tests guess it: never 0, and little is known from little."""
    if not traffic.production_requests:
        return _ANY_RATE
    return (traffic.production_faults + 0.5) / (traffic.production_requests + 50.0)


def _share_of_pair(split: Split) -> float:
    return split.canary / (split.canary + split.shares()[PRODUCTION])


def _effective_keys(known: Known, then: Split) -> float:
    """The canary's, as the checks count them: by groups of buckets, and few where some keys ask for most."""
    estimate = KeyEstimate.of(known.traffic.seen.count(), BUCKETS)
    keys = float(estimate.about or estimate.more_than or 0)
    share = known.routes.split_in_force.ratios()[PRODUCTION]
    if known.spread is not None and share:
        keys = min(keys, known.spread.keys / share)
    of_canary = keys * then.canary / BUCKETS
    return 1.0 / (1.0 / GROUPS + 1.0 / of_canary) if of_canary else 0.0


def _objections(known: Known, planned: Split, workers: Workers) -> Iterator[tuple[Objection, str]]:
    routes, traffic = known.routes, known.traffic
    present = routes.configured_split.canary
    if known.verdict == Verdict.FAIL:
        yield Objection.FAIL, known.why
    elif known.verdict != Verdict.PASS and present:
        yield (
            Objection.NOT_ENOUGH_DATA,
            f"At the present {_percent(routes.configured_split):g} %: {known.why}",
        )
    if present and planned.canary > LARGEST_STEP * present:
        times = planned.canary / present
        yield (
            Objection.LEAP,
            f"It is {times:.3g} times the present share; {LARGEST_STEP} times at most is a step.",
        )
    if workers.too_few:
        yield (
            Objection.SATURATION,
            f"The canary would need {workers.needed} workers, and {workers.configured} are configured.",
        )
    if traffic.requests >= KEYLESS_FROM and traffic.keyless > traffic.requests / 2:
        share = percent(traffic.keyless / traffic.requests)
        yield (
            Objection.KEYLESS,
            f"{share} of the requests carry no key: their callers do not stay with one version.",
        )
    cap = routes.capped.get(CANARY)
    if cap is not None and cap < planned.canary:
        most = f"{cap / BUCKETS_PER_PERCENT:g} %"
        yield Objection.CAPPED, f"The canary is capped at {most}: what is above that goes to production."
    if CANARY in routes.gated:
        yield Objection.GATED, "The gate, or its pre-flight, holds the canary: production has its share."
    if CANARY in routes.broken:
        why = f" ({known.breaker})" if known.breaker else ""
        yield Objection.BREAKER_OPEN, f"Its breaker is open{why}. A changed share closes it."


def _percent(split: Split) -> float:
    return split.percentages()[CANARY]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
