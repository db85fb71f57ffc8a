"""What a canary's predicts cost is compared at production's, said, and judged where the operator asks."""

import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from router.analysis.cost_tally import SHOWN_SECONDS
from router.analysis.criteria import Criteria
from router.analysis.document import document
from router.analysis.run_key import subject_of, unpack_subject
from router.analysis.version_costs import (
    ALL_OF_FIRST,
    FIRST_SECONDS,
    LATER_EVERY,
    LONGEST_SECONDS,
    MOST_BLOCKS,
    PRESENT_SECONDS,
    VersionCosts,
)
from router.core.events import Predicted, VerdictChanged
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from tests.analysis.gateways import Gateway
from tests.serving.conftest import V1, V2, V3

SIZES = (1, 1, 2, 3)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    yield gateway
    await gateway.models.close(0.0)


def predict(gateway: Gateway, alias: Alias, version: VersionId, rows: int, cost: float) -> None:
    worked = cost * (0.001 + 0.0001 * rows)
    fact = Predicted("sentiment", alias, version, 2 * worked, 0.0, rows, 1, (), worked)
    gateway.facts.record(fact)


def predict_both(gateway: Gateway, times: float, looks: int = 12) -> None:
    """A minute: production shares predicts among ten times as many rows, the canary costs `times` as much."""
    dice = random.Random(1)
    for _ in range(looks):
        for _ in range(10):
            for rows in SIZES:
                predict(gateway, PRODUCTION, V1, 10 * rows, dice.uniform(0.9, 1.1))
                predict(gateway, CANARY, V2, rows, times * dice.uniform(0.9, 1.1))
        gateway.look()


async def pass_all(gateway: Gateway) -> None:
    gateway.answer(200, PRODUCTION, V1)
    for _ in range(30):
        gateway.answer(100, PRODUCTION, V1)
        gateway.answer(100, CANARY, V2)
        gateway.look()


@pytest.mark.parametrize(
    ("times", "change", "verdict"), [(1.0, "", "pass"), (2.0, "dearer", "fail"), (0.5, "cheaper", "pass")]
)
async def test_a_change_is_said_and_fails_nobody(
    gateway: Gateway, times: float, change: str, verdict: str
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, times)
    await pass_all(gateway)

    cost = gateway.check("cost")
    assert cost["ratio"] == pytest.approx(times, rel=0.1)
    assert (cost["change"], cost["verdict"], cost["judges"]) == (change, verdict, False)
    assert cost["rows_per_predict"] == 17.5
    assert cost["production"]["seconds"] == pytest.approx(0.00275, rel=0.02)
    assert cost["canary"]["predict_seconds"]["p50"] == pytest.approx(times * 0.0023, rel=0.2)
    assert gateway.entry["verdict"] == "pass"
    assert (" times as much processor time as production" in gateway.entry["why"]) is bool(change)
    assert gateway.analysis.cost_of(V1)["row_seconds"] == pytest.approx(0.0001, rel=0.1)


async def test_where_the_operator_says_how_much_a_dearer_canary_fails_and_it_is_reported(
    gateway: Gateway,
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, checks={"cost": {"max_increase": 0.5}})
    predict_both(gateway, 2.0)

    assert (gateway.check("cost")["verdict"], gateway.entry["verdict"]) == ("fail", "fail")
    assert gateway.entry["why"].startswith("The canary takes 2")
    assert gateway.entry["verdict_changed_timestamp"] > gateway.entry["since_timestamp"]
    [reported] = gateway.facts.of(VerdictChanged)
    assert reported.verdict == "fail"
    assert reported.why.startswith("The canary takes 2")


async def test_a_canary_that_failed_by_its_cost_does_not_pass_in_the_same_comparison(
    gateway: Gateway,
) -> None:
    """An interval that touches the limit now and then is no news, neither to a person nor to an alert."""
    dear = {"cost": {"max_increase": 0.5}}
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, checks=dear)
    predict_both(gateway, 2.0)
    failed = gateway.check("cost")
    assert failed["failed_interval"][0] > 1.5
    for _ in range(20):
        predict_both(gateway, 1.0)
    await pass_all(gateway)

    cost = gateway.check("cost")
    assert cost["interval"][0] < 1.5
    assert (cost["verdict"], cost["failed_interval"]) == ("fail", failed["failed_interval"])
    assert gateway.entry["verdict"] == "fail"
    took = "The canary took {:.3g} to {:.3g} times as much processor time".format(*failed["failed_interval"])
    assert cost["why"].startswith(f"{took} as production when it failed, and 1.")
    assert [event.verdict for event in gateway.facts.of(VerdictChanged)] == ["fail"], "and that is said once"

    await gateway.serve({PRODUCTION: V1, CANARY: V3}, checks=dear)
    gateway.look(20.0)
    assert (gateway.check("cost")["verdict"], gateway.check("cost")["failed_interval"]) == (
        "not_enough_data",
        None,
    )


async def test_what_does_not_judge_goes_up_and_down_with_its_interval(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, 2.0)
    assert gateway.check("cost")["verdict"] == "fail"
    for _ in range(20):
        predict_both(gateway, 0.5)

    assert gateway.check("cost")["verdict"] != "fail"
    assert gateway.check("cost")["failed_interval"] is None


async def test_where_cost_judges_nothing_passes_before_it_is_known(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2}, checks={"cost": {"max_increase": 0.5}})
    await pass_all(gateway)
    assert gateway.entry["verdict"] == "not_enough_data"
    assert gateway.entry["why"].startswith("Not enough data: the processor time of few predicts is known")

    predict_both(gateway, 1.1)
    await pass_all(gateway)
    assert (gateway.check("cost")["verdict"], gateway.entry["verdict"]) == ("pass", "pass")


async def test_all_of_the_traffic_would_need_what_production_and_canary_predict_now(
    gateway: Gateway,
) -> None:
    """700 rows in 5 s of production, 70 of the canary, at 17.5 rows: 8.8 predicts a second."""
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, 2.0, looks=24)

    cost = gateway.check("cost")
    assert cost["production"]["processors"] == pytest.approx(8.8 * 0.00275, rel=0.1)
    assert cost["canary"]["processors"] == pytest.approx(2 * 8.8 * 0.00275, rel=0.15)


async def test_another_canary_is_compared_from_its_begin(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, 2.0)
    await gateway.serve({PRODUCTION: V1, CANARY: V3})
    gateway.look(20.0)

    assert gateway.check("cost")["ratio"] is None
    assert gateway.check("cost")["production"]["predicts"] == 0


async def test_what_is_said_of_a_version_is_learned_every_few_seconds_and_not_at_every_look(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, 1.0)
    before = gateway.analysis.cost_of(V1)
    predict(gateway, PRODUCTION, V1, 10, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(VersionCosts, "of", None)
        assert gateway.analysis.cost_of(V1) == before

    gateway.look(SHOWN_SECONDS)
    assert gateway.analysis.cost_of(V1)["predicts"] == before["predicts"] + 1


async def test_a_model_that_leaves_is_forgotten(gateway: Gateway) -> None:
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    predict_both(gateway, 2.0)
    gateway.models.apply({})
    gateway.look()

    assert document(gateway.analysis)["models"] == {}
    assert gateway.analysis.cost_of(V1)["predicts"] == 0


def test_without_a_limit_a_run_has_the_key_that_it_had_before_cost_was_there() -> None:
    """Computed by the release before: evidence of it goes on."""
    versions = VersionId("sentiment", 7), VersionId("sentiment", 8)
    subject = subject_of(CANARY, *versions, "salt", [], Criteria())

    assert subject.key == "85302a0823783dd0c9680ae121fd8506"
    assert b"max_cost_increase" not in subject.pack()


def test_another_limit_is_another_run_and_travels_whole() -> None:
    versions = VersionId("sentiment", 7), VersionId("sentiment", 8)
    subjects = [
        subject_of(CANARY, *versions, "salt", [], criteria)
        for criteria in (Criteria(), Criteria(max_cost_increase=0.5), Criteria(max_cost_increase=1.0))
    ]

    assert len({subject.key for subject in subjects}) == 3
    assert [unpack_subject(subject.pack()) for subject in subjects] == subjects


def test_a_limit_of_another_gateway_is_read_with_suspicion() -> None:
    subject = subject_of(CANARY, V1, V2, "salt", [], Criteria(max_cost_increase=0.5))
    for odd in (0.0, -1.0, float("inf"), "x"):
        parts = msgspec.msgpack.decode(subject.pack())
        parts[5]["max_cost_increase"] = odd
        with pytest.raises(ValueError, match=r".+"):
            unpack_subject(msgspec.msgpack.encode(parts))


# Stretches of time


def test_stretches_grow_until_the_oldest_go() -> None:
    costs, now = VersionCosts(0.0), 0.0
    costs.follow({1}, now)
    while now < 12 * 3600:
        costs.take(1, 1, 0.001, 0.001, now)
        now += 2.0

    assert 0.5 * LONGEST_SECONDS * MOST_BLOCKS <= 2 * costs.of(1).predicts <= LONGEST_SECONDS * MOST_BLOCKS
    assert costs.rows_per_second(now) == pytest.approx(0.5, rel=0.05)


def test_soon_after_the_begin_there_are_stretches_enough() -> None:
    costs = VersionCosts(0.0)
    costs.follow({1, 2}, 0.0)
    for turn in range(100):
        now = turn * 6 * FIRST_SECONDS / 100
        for version in (1, 2):
            costs.take(version, 1 + turn % 3, 0.001, 0.001 * (1 + turn % 3), now)

    assert costs.compare(1, 2).ratio == pytest.approx(1.0)
    assert costs.rows_per_second(5.0) is None
    assert costs.rows_per_second(PRESENT_SECONDS) == pytest.approx(399 / PRESENT_SECONDS, rel=0.02)


def test_what_raised_or_is_not_bound_does_not_count() -> None:
    costs = VersionCosts(0.0)
    costs.follow({1}, 0.0)
    costs.take(1, 3, 0.001, 0.0, 1.0)
    costs.take(1, 0, 0.001, 0.001, 1.0)
    costs.take(2, 1, 0.001, 0.001, 1.0)

    assert (costs.of(1).predicts, costs.of(2).predicts) == (0, 0)


def test_of_very_many_predicts_a_part_is_looked_at_and_all_rows_count() -> None:
    costs = VersionCosts(0.0)
    costs.follow({1}, 0.0)
    for _ in range(3 * ALL_OF_FIRST):
        costs.take(1, 2, 0.001, 0.001, 1.0)

    assert costs.of(1).predicts == ALL_OF_FIRST + 2 * ALL_OF_FIRST // LATER_EVERY
    assert costs.rows_per_second(10.0) == 0.6 * ALL_OF_FIRST
