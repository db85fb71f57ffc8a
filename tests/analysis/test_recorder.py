"""What is compared with what, from when on, and what is reported about it. Clocks are passed in."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from router.analysis import recorder, text
from router.analysis.document import document, verdicts
from router.core.caps import CapTarget
from router.core.events import Answered, AnsweredTogether, BreakerClosed, VerdictChanged
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind
from router.core.routing import Reason
from router.core.score_events import ReadResult, ReadScore, ScoresRead
from router.core.scores import SCORED_LATER, ScoreSpec
from router.core.shadow_events import ShadowCompared, ShadowDropped, ShadowDropReason
from router.serving.manager import OPERATOR_RESET
from router.worker.scores import count_and_locate
from tests.analysis.gateways import Gateway
from tests.serving.conftest import V1, V2, V3


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    yield gateway
    await gateway.models.close(0.0)


async def test_a_canary_that_fails_more_fails_and_that_is_reported_once(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(400, PRODUCTION, V1)
    gateway.answer_faulty_canary()
    for _ in range(3):
        gateway.look()

    assert (gateway.entry["verdict"], gateway.check("faults")["verdict"]) == ("fail", "fail")
    assert gateway.entry["why"].startswith("The canary fails 10 points more of its requests than production")
    [reported] = gateway.facts.of(VerdictChanged)
    assert (reported.before, reported.verdict, reported.why) == (
        "not_enough_data",
        "fail",
        gateway.entry["why"],
    )


async def test_versions_that_behave_alike_pass_or_wait_and_never_fail(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(200, PRODUCTION, V1)  # which teach what is slow
    for _ in range(30):
        gateway.answer(100, PRODUCTION, V1)
        gateway.answer(100, CANARY, V2)
        gateway.look()
        assert gateway.entry["verdict"] != "fail"

    assert gateway.entry["verdict"] == "pass"
    assert [reported.verdict for reported in gateway.facts.of(VerdictChanged)] == ["pass"]


def compare_copies(gateway: Gateway, cells: int, **said: Any) -> None:
    """In each cell 20 copies, the first of which the canary fails, and what is `said` of all; one more is
    dropped."""
    for cell in range(cells):
        gateway.compare(range(60_000 + cell * 20, 60_020 + cell * 20), **said)
        gateway.analysis.record(ShadowDropped(CANARY, V2, ShadowDropReason.BUSY))
        gateway.look()


NOBODY = {"production": 100, "canary": 0}
SHADOW = {"canary": 10}


async def test_at_a_share_of_nothing_a_canary_fails_by_its_copies(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, split=NOBODY, shadow=SHADOW)
    gateway.answer(400, PRODUCTION, V1)
    gateway.look()
    assert (gateway.entry["comparable"], gateway.entry["share"]) == (True, 0.0)
    nothing = "Not enough data: no copies of production's requests were compared yet."
    assert gateway.entry["why"] == nothing

    compare_copies(gateway, 12)
    entry, check = gateway.entry, gateway.check("shadow")
    assert (entry["verdict"], check["verdict"], check["judges"]) == ("fail", "fail", True)
    assert entry["why"] == (
        f"Of {check['pairs']} copies of production's requests the canary alone failed 12 and production "
        "alone 0: proven."
    )
    assert (check["canary"]["keys"], check["dropped"]) == (12, 12)
    assert gateway.check("faults")["verdict"] == "not_enough_data"
    [reported] = gateway.facts.of(VerdictChanged)
    assert reported.verdict == "fail"


async def test_without_a_sign_in_copies_a_share_of_nothing_never_passes(gateway: Gateway) -> None:
    """Nothing is known of latency there, nor of what users send to it."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, split=NOBODY, shadow=SHADOW)
    for _ in range(30):
        gateway.answer(100, PRODUCTION, V1)
        for bucket in range(0, 100_000, 1_000):
            facts = (CANARY, V2, V1, gateway.split, bucket)
            gateway.analysis.record(ShadowCompared(*facts, production_fault=False, canary_fault=False))
        gateway.look()

    assert gateway.entry["verdict"] == "not_enough_data"
    assert gateway.entry["why"] == (
        "No sign in 3000 copies of production's requests: the canary alone failed 0 and production alone 0."
    )


async def test_requests_that_are_not_shadowed_say_nothing_in_pairs(gateway: Gateway) -> None:
    """A run without shadow is what it was, and facts of others are left out."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    compare_copies(gateway, 12)
    assert [check["check"] for check in gateway.entry["checks"]] == [
        "faults",
        "latency",
        "scores",
        "split",
        "cost",
    ]

    await gateway.serve({PRODUCTION: V1, CANARY: V2}, shadow=SHADOW)
    for versions in ((V3, V1), (V2, V3)):
        for _ in range(20):
            fact = ShadowCompared(CANARY, *versions, gateway.split, 60_000, False, True)
            gateway.analysis.record(fact)
    gateway.look()
    assert gateway.check("shadow")["pairs"] == 0


async def test_to_shadow_or_not_is_another_comparison_and_by_how_much_is_not(gateway: Gateway) -> None:
    """The budget of the checks is another one."""
    keys = []
    for shadow in (None, {"canary": 10}, {"canary": 20}, {"canary": 0}):
        await gateway.serve({PRODUCTION: V1, CANARY: V2}, shadow=shadow)
        [(_, _, run)] = gateway.analysis.runs()
        keys.append(run.id.key)

    assert keys[1] == keys[2] != keys[0] == keys[3]


async def test_without_traffic_nothing_passes_and_nothing_fails(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(5000, PRODUCTION, V1)
    gateway.look(3600)

    assert gateway.entry["verdict"] == "not_enough_data"
    assert gateway.entry["why"] == "Not enough data: no requests of the canary that carry a key yet."


NOT_EVIDENCE = {
    "routed without a key": {"reason": Reason.NO_KEY},
    "pinned": {"reason": Reason.PINNED},
    "asked directly": {"reason": Reason.DIRECT, "bucket": None},
    "never asked": {"outcome": "fallback"},
    "refused by both": {"outcome": "client_error"},
    "of the version before": {"version": V3},
}


@pytest.mark.parametrize("keys", NOT_EVIDENCE.values(), ids=NOT_EVIDENCE)
async def test_what_says_nothing_about_a_version_is_left_out(gateway: Gateway, keys: dict[str, Any]) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    fact = {"version": V2, "outcome": "ok", "reason": Reason.HASH, "bucket": 7, "split": gateway.split}
    fact |= keys
    version, outcome = fact.pop("version"), fact.pop("outcome")
    for _ in range(60):
        gateway.analysis.record(Answered("sentiment", CANARY, version, outcome, 200, 0.003, 1, **fact))
    gateway.look()

    assert gateway.check("faults")["canary"]["requests"] == 0


@pytest.mark.parametrize(
    ("seconds", "slow"), [pytest.param(1.0, 60, id="after it was slow"), pytest.param(0.003, 0, id="before")]
)
async def test_what_the_canarys_callers_gave_up_counts_as_slow_or_as_nothing(
    gateway: Gateway, seconds: float, slow: int
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(200, PRODUCTION, V1)  # which teach what is slow
    gateway.look()
    for turn in range(60):
        gateway.analysis.record(
            Answered(
                "sentiment", CANARY, V2, "abandoned", 499, seconds, 0, Reason.HASH, turn, split=gateway.split
            )
        )
    gateway.look()

    assert gateway.check("latency")["canary"]["requests"] == slow
    assert gateway.check("latency")["canary"]["events"] == slow
    assert gateway.check("faults")["canary"]["requests"] == 0
    assert sum(gateway.entry["latency"]["canary"]) == 0
    assert gateway.entry["rates"]["canary"]["requests"] == 60, "they came, all the same"


NOT_COMPARABLE = {
    "no canary": ({PRODUCTION: V1}, {}, "the registry names no canary"),
    "one version": ({PRODUCTION: V1, CANARY: V1}, {}, "both serve v1"),
    "no share": (
        {PRODUCTION: V1, CANARY: V2},
        {"split": {"production": 100, "canary": 0}},
        "its share is 0 %",
    ),
    "all of it": (
        {PRODUCTION: V1, CANARY: V2},
        {"split": {"production": 0, "canary": 100}},
        "production's share is 0 %",
    ),
}


@pytest.mark.parametrize(("aspired", "keys", "why"), NOT_COMPARABLE.values(), ids=NOT_COMPARABLE)
async def test_what_can_not_be_compared_says_why(
    gateway: Gateway, aspired: dict[Alias, VersionId], keys: dict[str, Any], why: str
) -> None:
    await gateway.serve(aspired, **keys)
    gateway.answer(100, PRODUCTION, V1)
    gateway.look()

    entry = gateway.entry
    assert (entry["comparable"], entry["not_comparable_because"]) == (False, why)
    assert (entry["verdict"], entry["why"]) == ("not_enough_data", f"Not compared: {why}.")
    assert entry["checks"] == []


async def test_a_canary_that_loads_is_not_compared_yet(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1})
    gateway.world.broken = {V2}
    gateway.models.managers["sentiment"].set_aspired({PRODUCTION: V1, CANARY: V2})
    gateway.look()

    assert gateway.entry["not_comparable_because"] == "v2 is not READY yet"


async def test_an_open_breaker_keeps_the_verdict_and_says_that_it_rests(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    gateway.answer(300, PRODUCTION, V1)
    gateway.answer(50, CANARY, V2, fault="error")
    for _ in range(50):
        breaker.judge(fault=True)
    gateway.now += 1
    gateway.answer(500, PRODUCTION, V1)

    entry = gateway.entry
    assert (entry["verdict"], entry["comparable"], entry["share"]) == ("fail", False, 0.0)
    rests = "its breaker is open (50 of its last 50 requests were faults), and production has its share"
    assert entry["not_comparable_because"] == rests
    assert entry["why"].endswith(f" Not compared now: {rests}.")
    gateway.look()
    assert gateway.check("faults")["production"]["requests"] == 300, "no canary was there to compare with"

    gateway.models.managers["sentiment"].reset_breakers()
    assert gateway.entry["verdict"] == "not_enough_data", "an operator says that what was wrong is mended"
    assert gateway.entry["comparable"]


async def test_while_a_canary_is_capped_nothing_is_evidence_and_the_verdict_stays(gateway: Gateway) -> None:
    """Also of a part of its share: production answers keys of the canary then, and which ones is no split."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(300, PRODUCTION, V1)
    gateway.answer_faulty_canary()
    gateway.look()
    assert gateway.entry["verdict"] == "fail"

    capped = CapTarget("sentiment", CANARY, V2.number)
    for percent in (10, 0):
        gateway.caps.cap([capped], percent * 1_000, by="ann", reason="slow")
        gateway.now += 1
        gateway.answer(500, PRODUCTION, V1)
        gateway.answer(500, PRODUCTION, V1, reason=Reason.CAPPED, bucket=30_000)  # the canary's keys
        gateway.answer(500, CANARY, V2, bucket=7)
        gateway.look()
        rests = f"it is capped at {percent} %, and production has the rest of its share"
        entry = gateway.entry
        assert (entry["verdict"], entry["comparable"], entry["share"]) == ("fail", False, percent / 100)
        assert entry["not_comparable_because"] == rests
        assert entry["why"].endswith(f" Not compared now: {rests}.")
        requests = [gateway.check("faults")[arm]["requests"] for arm in ("production", "canary")]
        assert requests == [300, 400]

    gateway.caps.lift([capped], by="ann", reason="mended")
    assert (gateway.entry["comparable"], gateway.entry["verdict"]) == (True, "fail"), "no forgiveness in it"
    gateway.answer(10, PRODUCTION, V1)
    gateway.look()
    assert gateway.check("faults")["production"]["requests"] == 310


async def test_a_run_that_begins_while_its_canary_is_capped_is_not_behind(gateway: Gateway) -> None:
    """An alert caps a canary whose breaker opened: a reset begins a run then of which nothing is observed."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.look()
    gateway.models.managers["sentiment"].breakers.of(CANARY, V2).open("faults")  # type: ignore[union-attr]
    gateway.caps.cap([CapTarget("sentiment", CANARY)], 0, by="alertmanager", reason="FAIL")
    gateway.look()
    assert gateway.entry["judged_up_to_seconds"] <= 5

    gateway.models.managers["sentiment"].reset_breakers()
    gateway.look()
    gateway.look(600)
    shown = gateway.entry
    assert shown["not_comparable_because"].startswith("it is capped at 0 %")
    assert (shown["horizon_timestamp"], shown["judged_up_to_seconds"]) == (None, None)

    gateway.caps.lift([CapTarget("sentiment", CANARY)], by="ann", reason="mended")
    gateway.look()
    gateway.look()
    assert gateway.entry["judged_up_to_seconds"] <= 5


async def test_what_was_under_way_when_its_canary_was_capped_is_evidence_still(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(300, PRODUCTION, V1)
    gateway.caps.cap([CapTarget("sentiment", CANARY)], 0, by="ann", reason="slow")
    gateway.now += 0.001
    gateway.answer(10, CANARY, V2, fault="error")  # which began 3 ms ago
    gateway.look()

    assert gateway.check("faults")["canary"]["requests"] == 10


async def test_a_cap_that_takes_nothing_stops_no_comparison(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.caps.cap([CapTarget("sentiment", CANARY)], 50_000, by="ann", reason="no more than this")
    gateway.answer(300, PRODUCTION, V1)
    gateway.answer(300, CANARY, V2)
    gateway.look()

    assert gateway.entry["comparable"]
    assert gateway.check("faults")["canary"]["requests"] == 300


async def test_a_breaker_that_requests_without_a_key_opened_is_no_fail_and_says_why(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    gateway.answer(300, PRODUCTION, V1)
    gateway.answer(20, CANARY, V2)
    gateway.look()
    for _ in range(50):
        gateway.answer(1, CANARY, V2, fault="error", reason=Reason.NO_KEY)
        breaker.judge(fault=True)
    gateway.look()

    entry = gateway.entry
    why = "its breaker is open (50 of its last 50 requests were faults), and production has its share"
    assert (entry["verdict"], entry["why"]) == ("not_enough_data", f"Not compared now: {why}.")
    assert verdicts(gateway.analysis, "sentiment")["canary"]["why"] == entry["why"]


async def test_no_check_makes_a_forecast_while_nothing_is_compared(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(400, PRODUCTION, V1)
    gateway.answer(200, CANARY, V2)
    gateway.look()
    before = gateway.check("faults")
    assert " at this rate" in before["why"] + before["needed"]
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, split={"production": 100, "canary": 0})

    assert gateway.entry["why"] == "Not compared now: its share is 0 %."
    for check in gateway.entry["checks"][:2]:
        assert "at this rate" not in check["why"] + check["needed"]
        due = 0.0 if check["verdict"] == "pass" else None
        assert [check[name] for name in FORECASTS] == [due, None, None]


FORECASTS = ("seconds_needed", "seconds_until_fail", "seconds_to_show_point")


async def test_a_pass_is_taken_back_when_the_breaker_opens_and_everybody_says_so(gateway: Gateway) -> None:
    """Three crashes in a minute open it, however many requests went well."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    gateway.answer(200, PRODUCTION, V1)
    for _ in range(30):
        gateway.answer(100, PRODUCTION, V1)
        gateway.answer(100, CANARY, V2)
        gateway.look()
    assert gateway.entry["verdict"] == "pass"
    for _ in range(3):
        breaker.crash(gateway.now)

    why = "its breaker is open (it crashed 3 times in 60 s), and production has its share"
    assert (gateway.entry["verdict"], gateway.entry["why"]) == (
        "not_enough_data",
        f"Not compared now: {why}.",
    )
    *_, reported = gateway.facts.of(VerdictChanged)
    assert (reported.before, reported.verdict, reported.why) == (
        "pass",
        "not_enough_data",
        gateway.entry["why"],
    )


async def test_a_new_share_takes_a_pass_back_and_that_is_reported(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(200, PRODUCTION, V1)
    for _ in range(30):
        gateway.answer(100, PRODUCTION, V1)
        gateway.answer(100, CANARY, V2)
        gateway.look()
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, split={"production": 75, "canary": 25})
    gateway.look()

    reported = [(one.before, one.verdict) for one in gateway.facts.of(VerdictChanged)]
    assert reported == [("not_enough_data", "pass"), ("pass", "not_enough_data")]


async def test_an_obstacle_stands_alone_where_a_share_became_0_before_anything_was_known(
    gateway: Gateway,
) -> None:
    for split, why in (
        ({"production": 100, "canary": 0}, "its share is 0 %"),
        ({"production": 0, "canary": 100}, "production's share is 0 %"),
    ):
        await gateway.serve({PRODUCTION: V1, CANARY: V2})
        await gateway.serve({PRODUCTION: V1, CANARY: V2}, split=split)
        assert gateway.entry["checks"]
        assert gateway.entry["why"] == f"Not compared now: {why}."


async def test_what_an_operator_mends_while_others_are_judged_is_judged_no_more(gateway: Gateway) -> None:
    """A look lets others have their turn between two rollouts."""
    third = Alias("challenger")
    split = {"production": 50, "canary": 25, "challenger": 25}
    await gateway.serve({PRODUCTION: V1, CANARY: V2, third: V3}, split=split)
    for i in range(200):
        for alias, version, bucket in (
            (PRODUCTION, V1, 25_000 + i),
            (CANARY, V2, i),
            (third, V3, 75_000 + i),
        ):
            fault = (
                "error" if alias != PRODUCTION and i % 3 == 0 else ""
            )  # no outage, at which both would fail
            gateway.analysis.record(
                Answered(
                    *("sentiment", alias, version, "ok", 200, 0.003, 1),
                    bucket=bucket,
                    fault=fault,
                    split=gateway.split,
                )
            )
    gateway.now += 5.0
    tick = gateway.analysis.tick()
    while not gateway.facts.of(VerdictChanged):
        tick.send(None)
    [first] = gateway.facts.of(VerdictChanged)
    [other] = {CANARY, third} - {first.alias}
    gateway.facts.record(BreakerClosed("sentiment", other, V2 if other == CANARY else V3, OPERATOR_RESET))
    with suppress(StopIteration):
        while True:
            tick.send(None)

    assert gateway.facts.of(VerdictChanged) == [first]


async def test_a_canary_that_always_fails_is_a_fail_though_its_breaker_opens_before_its_50th_answer(
    gateway: Gateway,
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    gateway.answer(50, PRODUCTION, V1)
    for _ in range(50):  # the dispatcher judges a request before its answer is reported
        breaker.judge(fault=True)
        gateway.answer(1, CANARY, V2, fault="error")
    gateway.now += 0.002
    gateway.answer(2, PRODUCTION, V1)  # after 0.003 s: under way when it opened
    gateway.now += 60.0
    gateway.answer(9, PRODUCTION, V1)
    gateway.look()

    faults = gateway.check("faults")
    assert (gateway.entry["verdict"], faults["verdict"]) == ("fail", "fail")
    assert (faults["canary"]["requests"], faults["production"]["requests"]) == (50, 52)


async def test_an_answer_that_is_handed_on_long_after_its_breaker_opened_counts_by_when_it_was_given(
    gateway: Gateway,
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    gateway.answer(50, PRODUCTION, V1)
    gateway.answer(49, CANARY, V2, fault="error")
    for _ in range(50):
        breaker.judge(fault=True)
    gateway.now += 0.001
    last = Answered(
        "sentiment", CANARY, V2, "ok", 200, 0.003, 1, bucket=1, split=gateway.split, fault="error"
    )
    answered_at = gateway.now
    gateway.now += 0.5  # the loop was held up
    gateway.analysis.record(AnsweredTogether.of(last, answered_at))
    gateway.look()

    assert gateway.entry["verdict"] == "fail"
    assert gateway.check("faults")["canary"]["requests"] == 50


async def test_a_new_version_on_either_alias_starts_anew(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    for aspired in ({PRODUCTION: V1, CANARY: V3}, {PRODUCTION: V2, CANARY: V3}):
        gateway.answer(100, CANARY, gateway.models.managers["sentiment"].bound[CANARY], fault="error")
        gateway.answer(100, PRODUCTION, gateway.models.managers["sentiment"].bound[PRODUCTION])
        gateway.look()
        assert gateway.entry["verdict"] == "fail"
        await gateway.serve(aspired)

        entry = gateway.entry
        assert (entry["verdict"], entry["checks"][0]["canary"]["requests"]) == ("not_enough_data", 0)
        assert entry["since_timestamp"] == 5e8 + gateway.now


async def test_a_new_salt_starts_anew_and_a_new_share_does_not(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    began = gateway.entry["since_timestamp"]
    gateway.look(60)
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, split={"production": 75, "canary": 25})
    assert (gateway.entry["since_timestamp"], gateway.entry["share"]) == (began, 0.25)

    await gateway.serve({PRODUCTION: V1, CANARY: V2}, salt="another")
    assert gateway.entry["since_timestamp"] == began + 60


async def test_other_limits_are_another_comparison(gateway: Gateway) -> None:
    """Each has an alpha of its own: to choose among limits by what is known would be to look twice."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer_faulty_canary()
    gateway.answer(400, PRODUCTION, V1)
    gateway.look()
    assert gateway.entry["verdict"] == "fail"

    looser = {"alpha": 0.05, "faults": {"max_increase": 0.15}, "latency": {"max_increase": 0.1}}
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, checks=looser)
    assert (gateway.entry["verdict"], gateway.check("faults")["canary"]["requests"]) == ("not_enough_data", 0)

    gateway.answer_faulty_canary()
    gateway.answer(400, PRODUCTION, V1)
    gateway.look()
    assert (gateway.check("faults")["limit"], gateway.check("latency")["limit"]) == (0.15, 0.1)
    assert gateway.entry["verdict"] == "not_enough_data", "10 points more are proven, and less than 15"
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, checks={"alpha": 0.05})
    gateway.answer_faulty_canary()
    gateway.answer(400, PRODUCTION, V1)
    gateway.look()
    assert gateway.entry["why"].endswith("(10 % against 0 %): proven, at alpha 0.05.")


async def test_the_same_two_versions_that_meet_again_go_on(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(100, PRODUCTION, V1)
    gateway.answer(100, CANARY, V2)
    gateway.look()
    await gateway.serve({PRODUCTION: V1})
    assert gateway.entry["checks"] == []
    gateway.answer(100, PRODUCTION, V1)
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(10, CANARY, V2)
    gateway.look()

    check = gateway.check("faults")
    assert (check["production"]["requests"], check["canary"]["requests"]) == (100, 110)


async def test_the_window_slides_over_15_minutes(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(50, PRODUCTION, V1)
    gateway.answer(9, CANARY, V2, fault="timeout")
    gateway.look(20)
    assert gateway.entry["window_seconds"] == 20
    rates = gateway.entry["rates"]
    assert rates["production"]["requests_per_second"] == 2.5
    assert rates["canary"]["faults_by_kind"]["timeout"] == rates["canary"]["faults"] == 9
    assert sum(gateway.entry["latency"]["production"]) == 50
    assert sum(gateway.entry["latency"]["canary"]) == 0, "how long a fault took is no latency"
    for _ in range(100):
        gateway.look(10)

    assert gateway.entry["window_seconds"] == 900
    assert gateway.entry["rates"]["production"]["requests"] == 0
    assert gateway.entry["rates"]["canary"]["faults"] == 0


async def test_a_further_alias_is_compared_with_production_by_itself(gateway: Gateway) -> None:
    """It owns the highest buckets, and production's requests are evidence in both comparisons."""
    third = Alias("challenger")
    split = {"production": 50, "canary": 25, "challenger": 25}
    await gateway.serve({PRODUCTION: V1, CANARY: V2, third: V3}, split=split)
    for i in range(400):
        fault = "error" if i % 2 else ""
        for alias, version, bucket, how in (
            (PRODUCTION, V1, 25_000 + i, ""),
            (CANARY, V2, i, ""),
            (third, V3, 75_000 + i, fault),
        ):
            gateway.analysis.record(
                Answered(
                    *("sentiment", alias, version, "ok", 200, 0.003, 1, Reason.HASH, bucket),
                    fault=how,
                    split=gateway.split,
                )
            )
    gateway.look()
    reported = document(gateway.analysis)["models"]["sentiment"]

    assert {alias: entry["verdict"] for alias, entry in reported.items()} == {
        "canary": "not_enough_data",
        "challenger": "fail",
    }
    for entry in reported.values():
        faults, _, _, split_check, _ = entry["checks"]
        assert split_check["pair_share"] == 0.75
        assert (faults["production"]["requests"], faults["canary"]["requests"]) == (400, 400)
        assert split_check["expected_share"] == pytest.approx(1 / 3)
    [reported_once] = gateway.facts.of(VerdictChanged)
    assert reported_once.why == reported["challenger"]["why"]
    assert reported_once.why.startswith("Alias challenger failed at least 25 of 50 requests in a row")
    sentences = [check["why"] for check in reported["challenger"]["checks"]]
    assert not [sentence for sentence in sentences if "canary" in sentence]
    assert "alias challenger has 50 % of the keys of these two, 33 % are due." in sentences[-2]


async def test_a_removed_model_is_forgotten(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.models.apply({})
    gateway.look()

    assert document(gateway.analysis) == {"models": {}}
    assert document(gateway.analysis, "sentiment") == {"models": {"sentiment": {}}}


RATE = {
    "check",
    "verdict",
    "judges",
    "why",
    "limit",
    "margin",
    "production",
    "canary",
    "difference",
    "interval",
    "excused",
    "seconds_needed",
    "requests_needed",
    "seconds_until_fail",
    "seconds_to_show_point",
    "needed",
}


async def test_the_document_has_these_names(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(300, PRODUCTION, V1)
    gateway.answer(300, CANARY, V2)
    gateway.look()
    entry = gateway.entry

    assert set(entry) == {
        *("verdict", "why", "production_version", "version", "share", "since_timestamp", "seconds"),
        *("verdict_changed_timestamp", "horizon_timestamp", "judged_up_to_seconds", "gateways"),
        *("comparable", "not_comparable_because", "checks"),
        *("window_seconds", "latency", "scores", "rates"),
    }
    faults, latency, scores, split, cost = entry["checks"]
    assert (scores["check"], scores["outputs"]) == ("scores", [])
    assert set(faults) == RATE
    assert set(faults["canary"]) == {"requests", "events", "rate", "keys"}
    assert set(latency) == RATE | {"edge_seconds", "quantiles_seconds", "quantiles_over_last_edge"}
    assert set(latency["quantiles_seconds"]["canary"]) == {"p50", "p95", "p99"}
    assert latency["quantiles_over_last_edge"]["canary"] == {"p50": False, "p95": False, "p99": False}
    assert set(split) == {
        "check",
        "verdict",
        "judges",
        "why",
        "expected_share",
        "observed_share",
        "pair_share",
    }
    assert set(cost) == {
        *("check", "verdict", "judges", "why", "limit", "change", "ratio", "interval"),
        *("failed_interval", "rows_per_predict"),
        *("production", "canary"),
    }
    assert set(cost["canary"]) == {
        *("predicts", "rows", "left_out", "fixed_seconds", "row_seconds", "seconds", "predict_seconds"),
        *("processors", "peak_memory_bytes"),
    }
    assert len(entry["latency"]["canary"]) == len(entry["latency"]["edges_seconds"]) + 1
    assert entry["latency"]["edges_seconds"] == list(REQUEST_SECONDS)
    assert set(entry["rates"]["canary"]["faults_by_kind"]) == set(FaultKind)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


async def test_no_number_of_the_document_is_infinite_or_none(gateway: Gateway) -> None:
    """Also while there is nothing, little, or only production."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    for act in (
        lambda: None,
        lambda: gateway.answer(1, PRODUCTION, V1),
        lambda: gateway.answer(1, CANARY, V2, fault="error"),
        lambda: gateway.answer(500, CANARY, V2),
    ):
        act()
        gateway.look()
        assert all(map(math.isfinite, numbers(gateway.entry)))


@pytest.mark.parametrize(
    ("seconds", "reported"),
    [(0.2, "1 s"), (42.0, "42 s"), (2400.0, "40 min"), (9000.0, "2 h"), (2e5, "2 days"), (1e9, "years")],
)
def test_times_are_reported_as_people_say_them(seconds: float, reported: str) -> None:
    assert text.duration(seconds) == reported


@pytest.mark.parametrize(
    ("ratio", "reported"),
    [(0.0, "0 %"), (0.033, "3.3 %"), (0.12, "12 %"), (0.0004, "0.04 %"), (1.0, "100 %")],
)
def test_shares_are_reported_with_the_digits_that_matter(ratio: float, reported: str) -> None:
    assert text.percent(ratio) == reported


async def test_of_more_runs_than_others_take_those_that_began_first_are_judged_and_it_says_so(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MOST_RUNS", 1)
    third = Alias("challenger")
    keys = {"split": {"production": 50, "canary": 25, "challenger": 25}}
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, **keys)
    await gateway.serve({PRODUCTION: V1, CANARY: V2, third: V3}, **keys)
    gateway.look()
    reported = document(gateway.analysis)["models"]["sentiment"]

    assert [status.obstacle for status in gateway.analysis.statuses["sentiment"].values()] == [
        "",
        recorder.FULL,
    ]
    assert recorder.FULL in reported["challenger"]["why"]
    await gateway.serve({PRODUCTION: V1, third: V3}, **keys)
    gateway.look()
    gateway.look()
    why = document(gateway.analysis)["models"]["sentiment"]["challenger"]["why"]
    assert why.startswith("Not enough data: no requests of alias challenger")

    await gateway.serve({PRODUCTION: V1, third: V2}, **keys)
    for _ in range(3):
        gateway.look()
        assert all(len(batch.runs) <= 1 for batch in gateway.batches())
    [(_, alias, run)] = gateway.analysis.runs()
    assert (alias, run.versions.version) == (third, V2), "its former run made room for it"


def score_later(gateway: Gateway, number: int, alias: Alias, version: VersionId, score: float) -> None:
    """`number` requests that are answered, and whose scores are read in the cell after that."""
    later = []
    gateway.answer(number, alias, version, bin_index=SCORED_LATER)
    for i in range(number):
        bucket = i * 37 % 50_000 + (0 if alias == CANARY else 50_000)
        counts, [index] = count_and_locate(np.asarray([score]), ScoreSpec(), range(1))
        later.append((counts, ReadScore(bucket, gateway.split, index)))
    gateway.look()
    total = reduce(add, (counts for counts, _ in later))
    read = tuple(one for _, one in later)
    result = ReadResult.READ
    gateway.analysis.record(ScoresRead("sentiment", alias, version, result, number, (total,), read))


@pytest.mark.parametrize(("score", "size", "verdict"), [(0.9, "large", "fail"), (0.2, "none", "pass")])
async def test_scores_that_are_read_after_their_answers_are_judged_as_others(
    gateway: Gateway, score: float, size: str, verdict: str
) -> None:
    """As of versions that run elsewhere; with a part of production's never read."""
    gateway.world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(),)}
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, scores={"on_shift": "fail"})
    gateway.answer(200, PRODUCTION, V1, bin_index=SCORED_LATER)
    for _ in range(6):
        gateway.answer(3000, PRODUCTION, V1, bin_index=SCORED_LATER)  # whoever reads them had no room
        score_later(gateway, 1300, PRODUCTION, V1, 0.2)
        score_later(gateway, 1300, CANARY, V2, score)
        gateway.look()
    gateway.look(60.0)
    check = gateway.check("scores")

    [output] = check["outputs"]
    assert (output["size"], check["verdict"], gateway.entry["verdict"]) == (size, verdict, verdict)
    assert (output["production"]["scores"], output["canary"]["scores"]) == (7800, 7800)
    assert (output["uncounted"], output["production"]["invalid"]) == ("", 0)
    assert output["mean_difference"] == pytest.approx(score - 0.2, abs=0.05)
    [(_, _, run)] = gateway.analysis.runs()
    assert (run.shifts()[0].psi > 0.25) is (size == "large")


async def test_later_scores_of_a_version_that_is_not_served_are_left_out(gateway: Gateway) -> None:
    gateway.world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(),)}
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    score_later(gateway, 100, PRODUCTION, V1, 0.2)
    score_later(gateway, 100, CANARY, V3, 0.2)
    gateway.look()
    gateway.look()

    [output] = gateway.check("scores")["outputs"]
    assert (output["production"]["scores"], output["canary"]["scores"]) == (100, 0)
