"""A plan of a gateway that serves: what it says will move is what moves."""

import math
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from router.analysis.hourly_traffic import HourlyTraffic
from router.control.fan_out import FanOut
from router.control.planner import Planner
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.split import bucket_of
from router.protocol.messages import Query
from router.serving.dispatch import Dispatcher
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, settings
from tests.support.analysis import analysis_of
from tests.support.fakes import FakeWorld
from tests.support.waiting import until

KEYS = [f"user-{number}" for number in range(5_000)]
QUERY = Query(b"{}", None)


class Gateway:
    """Both versions of fakes serve, and what they answer is recorded as in a gateway."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.world = FakeWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})
        self.traffic = HourlyTraffic(lambda: self.now)
        self.recorder = FanOut(self.traffic)
        self.models = ModelSet(
            VersionDependencies(
                self.world, self.world, self.world.environments, self.recorder, LoadLimits(5.0)
            )
        )
        analysis = analysis_of(self.models, self.recorder, lambda: self.now, lambda: self.now)
        self.recorder.add(analysis)
        self.dispatcher = Dispatcher(self.models, self.recorder)
        self.planner = Planner(self.models, analysis, self.traffic)

    def configure(self, canary: float, **keys: Any) -> None:
        split = {"production": 100 - canary, "canary": canary}
        self.models.apply({"sentiment": settings(split=split, **keys)})

    async def ask(self, keys: list[str]) -> dict[str, Alias]:
        """Each key once; whom it was given."""
        given = {}
        for key in keys:
            result = await self.dispatcher.serve("sentiment", key, QUERY, keyed=True)
            self.recorder.record(result.fact(200, 0.01))
            given[key] = result.assigned.alias
            self.now += 0.01
        return given

    def plan(self, percent: str) -> dict[str, Any]:
        return self.planner.plan("sentiment", Decimal(percent)).to_json()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    gateway.configure(5, pins={"canary": ["user-0", "user-1"]})
    manager = gateway.models.managers["sentiment"]
    manager.set_aspired(gateway.world.aspired["sentiment"])
    await until(lambda: len(manager.bound) == 2)
    yield gateway
    await gateway.models.close(0.0)


@pytest.mark.parametrize("percent", ["25", "1.5", "0"])
async def test_buckets_move_exactly_as_planned_and_keys_within_two_percent(
    gateway: Gateway, percent: str
) -> None:
    """5 000 keys, two of them pinned, in about 4 870 buckets."""
    before = await gateway.ask(KEYS)
    plan = gateway.plan(percent)
    gateway.configure(float(percent), pins={"canary": ["user-0", "user-1"]})
    after = await gateway.ask(KEYS)

    moved = [key for key in KEYS if before[key] != after[key]]
    buckets = {bucket_of("sentiment", key) for key in moved}
    assert plan["buckets"]["seen"] == len({bucket_of("sentiment", key) for key in KEYS[2:]})
    assert plan["buckets"]["seen_change_side"] == len(buckets)
    assert plan["buckets"]["change_side"] == abs(round(float(percent) * 1000) - 5_000)
    assert all(plan["buckets"]["first"] <= bucket < plan["buckets"]["end"] for bucket in buckets)
    assert plan["keys"]["seen"]["about"] == pytest.approx(len(KEYS), rel=0.02)
    assert plan["keys"]["change_side"]["about"] == pytest.approx(len(moved), rel=0.02)
    shares = [list(given.values()).count(CANARY) for given in (before, after)]
    rates = [plan["requests_per_second"][when][CANARY] for when in ("now", "then")]
    # Keys are dealt once, by the hash: five standard errors, at 100 requests a second.
    errors = [5 * math.sqrt(max(1, share)) for share in shares]
    assert all(
        abs(50 * rate - share) <= error for rate, share, error in zip(rates, shares, errors, strict=True)
    )


async def test_a_plan_knows_versions_workers_and_verdict(gateway: Gateway) -> None:
    await gateway.ask(KEYS[:200])
    plan = gateway.plan("50")

    assert (plan["model"], plan["share"]["configured"], plan["share"]["planned"]) == ("sentiment", 5.0, 50.0)
    assert (plan["workers"]["version"], plan["workers"]["configured"], plan["workers"]["needed"]) == (2, 1, 1)
    assert [one["code"] for one in plan["against"]] == ["not_enough_data", "leap"]
    assert plan["seconds_until_pass"]["low"] < plan["seconds_until_pass"]["high"]


async def test_a_plan_goes_by_the_models_own_limits(gateway: Gateway) -> None:
    await gateway.ask(KEYS)
    usual = gateway.plan("25")
    wide = {"alpha": 0.05, "faults": {"max_increase": 0.05}, "latency": {"max_increase": 0.2}}
    gateway.configure(5, checks=wide)
    loose = gateway.plan("25")

    for forecast in ("seconds_until_pass", "seconds_until_point_shows"):
        assert loose[forecast]["high"] < usual[forecast]["high"]


async def test_a_model_that_is_not_configured_has_no_plan(gateway: Gateway) -> None:
    with pytest.raises(KeyError):
        gateway.planner.plan("nobody", Decimal(5))
