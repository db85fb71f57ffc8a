"""What a plan says of another share: what moves, what it takes, how long it lasts, what speaks against it."""

from dataclasses import replace
from typing import Any

import pytest

from router.analysis.hourly_traffic import BucketSet, HourOfTraffic
from router.analysis.plan import (
    CostsOfVersions,
    KeyEstimate,
    Known,
    Objection,
    Plan,
    make_plan,
    with_canary,
)
from router.analysis.run_state import Spread
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.predict_cost import PredictCost
from router.core.routing import ModelRoutes
from router.core.split import Split

V1, V2 = VersionId("m", 1), VersionId("m", 2)
SHADOW = Alias("shadow")
BOTH = {PRODUCTION: V1, CANARY: V2}


def routes(canary: int = 5_000, **keys: Any) -> ModelRoutes:
    return ModelRoutes("m", "m", Split(canary), **{"bound": BOTH, "aspired": frozenset(BOTH), **keys})


def every(step: int) -> BucketSet:
    return BucketSet(sum(1 << bucket for bucket in range(0, 100_000, step)))


HOUR = HourOfTraffic(
    seconds=1_000.0,
    seen=every(20),
    keyed=90_000,
    hashed_bodies=8_000,
    fixed={CANARY: 1_000, PRODUCTION: 1_000},
    keyless=9_000,
    production_requests=85_000,
    production_faults=85,
)
KNOWN = Known(
    routes=routes(),
    traffic=HOUR,
    workers=1,
    costs=None,
    verdict="pass",
    why="The canary is no worse than production.",
    breaker="",
    slow_rate=None,
    spread=None,
    scores_judge=False,
)


def planned(percent: float, **changes: Any) -> Plan:
    known = replace(KNOWN, **changes)
    return make_plan(known, with_canary(known.routes.configured_split, round(percent * 1000)))


def objections(percent: float, **changes: Any) -> list[str]:
    return list(planned(percent, **changes).against)


@pytest.mark.parametrize(
    ("seen", "buckets", "about", "more_than"),
    [
        (0, 100_000, 0, None),
        (1, 100_000, 1, None),
        (4_877, 100_000, 5_000, None),
        (63_212, 100_000, 100_000, None),
        (98_168, 100_000, 399_982, None),
        (98_169, 100_000, None, 400_000),
        (100_000, 100_000, None, 400_000),
        (5_000, 5_000, None, 20_000),
        (0, 0, 0, None),
    ],
)
def test_keys_are_estimated_from_the_buckets_that_they_fell_into(
    seen: int, buckets: int, about: int | None, more_than: int | None
) -> None:
    found = KeyEstimate.of(seen, buckets)

    assert found.more_than == more_than
    assert (found.about is None) == (about is None)
    assert about is None or found.about == pytest.approx(about, rel=1e-3, abs=0.5)


@pytest.mark.parametrize(
    ("before", "after"), [(5_000, 25_000), (25_000, 5_000), (0, 100_000), (5_000, 5_000)]
)
def test_what_moves_are_the_buckets_between_the_two_shares(before: int, after: int) -> None:
    moved = planned(after / 1000, routes=routes(before)).moved

    assert (moved.first, moved.end) == (min(before, after), max(before, after))
    assert moved.seen == abs(after - before) // 20
    assert moved.keys.about == pytest.approx(1.026 * moved.seen, rel=0.01)


def test_requests_follow_the_share_but_for_those_that_no_share_moves() -> None:
    rates = planned(25).to_json()["requests_per_second"]

    assert rates["now"] == {PRODUCTION: 98 * 0.95 + 1, CANARY: 98 * 0.05 + 1}
    assert rates["then"] == {PRODUCTION: 98 * 0.75 + 1, CANARY: 98 * 0.25 + 1}
    assert planned(25, traffic=HourOfTraffic()).to_json()["requests_per_second"]["then"] == {
        PRODUCTION: None,
        CANARY: None,
    }


def test_what_is_not_in_force_moves_nobody() -> None:
    capped = planned(25, routes=routes(capped={CANARY: 2_000}))
    absent = planned(25, routes=routes(bound={PRODUCTION: V1}))

    assert [(one.moved.first, one.moved.end) for one in (capped, absent)] == [(2_000, 2_000), (0, 0)]
    assert capped.to_json()["share"] == {
        "configured": 5.0, "in_force": 2.0, "planned": 25.0, "planned_in_force": 2.0,
    }  # fmt: skip


def test_a_changed_share_closes_the_breaker_and_returns_all_of_it() -> None:
    broken = routes(broken=frozenset({CANARY}))

    assert (planned(25, routes=broken).moved.first, planned(25, routes=broken).moved.end) == (0, 25_000)
    assert planned(5, routes=broken).moved.end == 0, "what does not change closes nothing"


def test_a_further_alias_keeps_its_share() -> None:
    split = Split(5_000, (SHADOW, 30_000))

    assert with_canary(split, 70_000).shares() == {PRODUCTION: 0, CANARY: 70_000, SHADOW: 30_000}
    with pytest.raises(ValueError, match="shadow has 30 percent"):
        with_canary(split, 70_001)


# ---- workers


def cost(fixed: float, row: float, *sizes: int) -> PredictCost:
    learned = PredictCost()
    for _ in range(16):
        for rows in sizes:
            learned.learn(rows, fixed + rows * row)
    return learned


def costs(canary: PredictCost, production: PredictCost, **keys: Any) -> CostsOfVersions:
    given = {"canary_shares_predicts": True, "canary_parallel": 1, "requests_per_predict": 10.0}
    return CostsOfVersions(canary, production=production, **{"rows_per_request": 1.0, **given, **keys})


def test_a_canary_that_shares_predicts_is_measured_in_productions_batches() -> None:
    """One request costs 11 ms, ten together 20: at 100 a second that is 0.2 of a worker, and not 1.1."""
    version = cost(0.010, 0.001, 1, 10)

    assert costs(version, version).seconds_of_worker(100.0) == pytest.approx(0.2, rel=0.02)
    alone = costs(version, version, canary_shares_predicts=False)
    assert alone.seconds_of_worker(100.0) == pytest.approx(1.1, rel=0.02)
    assert costs(version, version, canary_shares_predicts=False, canary_parallel=4).seconds_of_worker(
        100.0
    ) == pytest.approx(1.1 / 4, rel=0.02)


def test_a_canary_that_only_predicted_single_rows_grows_as_production_does() -> None:
    """At 5 % hardly two requests come together, so nothing says what ten would cost it."""
    single, production = cost(0.020, 0.002, 1), cost(0.010, 0.001, 1, 10)

    assert costs(single, production).seconds_of_worker(100.0) == pytest.approx(0.4, rel=0.02)


def test_workers_that_are_missing_speak_against_it() -> None:
    slow = costs(cost(0.0, 0.1, 1, 10), cost(0.0, 0.001, 1, 10))
    plan = planned(25, costs=slow, workers=2)

    assert (plan.workers.needed, plan.workers.too_few) == (4, True)
    assert list(plan.against) == [Objection.SATURATION]
    assert planned(25, costs=slow, workers=4).against == {}
    assert planned(25, costs=costs(PredictCost(), PredictCost())).workers.needed is None


# ---- how long


def test_a_larger_share_takes_less_time() -> None:
    times = [planned(percent).until_pass.seconds for percent in (5, 10, 25, 50)]
    seconds = [one.about for one in times if one]

    assert len(seconds) == 4
    assert seconds == sorted(seconds, reverse=True)


def test_requests_without_a_key_are_no_evidence() -> None:
    few = replace(HOUR, keyed=HOUR.keyed // 10, hashed_bodies=80_000)
    many, slow = planned(25).until_pass.seconds, planned(25, traffic=few).until_pass.seconds

    assert many is not None
    assert slow is not None
    assert slow.about == pytest.approx(10 * many.about)


def test_busy_keys_make_it_longer_and_at_last_endless() -> None:
    times = [planned(25, spread=Spread(1.0, keys)).until_pass.seconds for keys in (5_000.0, 500.0, 200.0)]
    seconds = [one.about for one in times if one]

    assert len(seconds) == 3
    assert seconds == sorted(seconds)
    endless = planned(25, spread=Spread(1.0, 20.0)).until_pass
    assert (endless.seconds, endless.why_not[:22]) == (None, "there are too few keys")


@pytest.mark.parametrize(
    ("percent", "changes", "why_not"),
    [
        (25, {"traffic": HourOfTraffic()}, "no request with a key came in the last hour"),
        (25, {"routes": routes(bound={PRODUCTION: V1})}, "no version serves as canary"),
        (25, {"routes": routes(capped={CANARY: 10_000})}, "canary would be capped"),
        (25, {"routes": routes(gated=frozenset({CANARY}))}, "the gate, or its pre-flight, holds canary"),
        (25, {"routes": routes(bound={})}, "no version serves as production"),
        (25, {"routes": routes(bound={PRODUCTION: V1, CANARY: V1})}, "both serve one version"),
        (0, {}, "canary would have no share in force"),
        (100, {}, "production would have no share in force"),
    ],
)
def test_what_is_not_compared_never_passes_and_says_why(
    percent: float, changes: dict[str, Any], why_not: str
) -> None:
    plan = planned(percent, **changes)

    assert (plan.until_pass.seconds, plan.until_pass.why_not) == (None, why_not)
    assert plan.until_shown == plan.until_pass
    assert plan.to_json()["seconds_until_pass"]["about"] is None


def test_beside_a_failing_production_nothing_passes() -> None:
    failing = planned(25, traffic=replace(HOUR, production_faults=17_000))

    assert failing.until_pass.why_not == "production itself fails 20 % of its requests"
    assert failing.until_shown.seconds is not None


# ---- what speaks against it


def test_a_fail_speaks_against_more_and_not_against_less() -> None:
    """Down is free."""
    failed = {"verdict": "fail", "why": "The canary fails 3 points more."}

    assert planned(10, **failed).against == {Objection.FAIL: "The canary fails 3 points more."}
    assert [objections(percent, **failed) for percent in (0, 1, 5)] == [[], [], []]


def test_too_little_evidence_counts_at_a_step_and_not_before_the_first() -> None:
    waits = {"verdict": "not_enough_data", "why": "Not enough data: 31 of about 640 requests."}

    assert planned(10, **waits).against == {
        Objection.NOT_ENOUGH_DATA: "At the present 5 %: Not enough data: 31 of about 640 requests."
    }
    assert objections(5, **waits, routes=routes(0)) == []


def test_more_than_five_times_the_share_is_a_leap() -> None:
    assert [objections(percent) for percent in (25, 25.001)] == [[], ["leap"]]
    assert "5 times the present share" in planned(25.001).against[Objection.LEAP]
    assert objections(50, routes=routes(0)) == []


def test_requests_without_a_key_speak_against_it_from_half_on() -> None:
    half = replace(HOUR, keyless=50_000)

    assert objections(10, traffic=half) == []
    assert objections(10, traffic=replace(half, keyless=50_001)) == ["keyless"]
    few = HourOfTraffic(seconds=9.0, fixed={PRODUCTION: 99}, keyless=99)
    assert objections(10, traffic=few) == []


def test_a_cap_the_gate_and_an_open_breaker_are_said() -> None:
    capped, broken = routes(capped={CANARY: 9_999}), routes(broken=frozenset({CANARY}))

    assert planned(10, routes=capped).against == {
        Objection.CAPPED: "The canary is capped at 9.999 %: what is above that goes to production."
    }
    assert objections(10, routes=routes(capped={CANARY: 10_000})) == []
    assert planned(10, routes=routes(gated=frozenset({CANARY}))).against == {
        Objection.GATED: "The gate, or its pre-flight, holds the canary: production has its share."
    }
    assert planned(10, routes=broken, breaker="25 of the last 50 failed").against == {
        Objection.BREAKER_OPEN: "Its breaker is open (25 of the last 50 failed). A changed share closes it."
    }
