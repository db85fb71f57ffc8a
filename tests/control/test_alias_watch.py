"""Polls become wishes; silence changes nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.control.alias_watch import AliasWatch
from router.control.status import Status
from router.core.events import AliasAspired, Polled
from router.core.ids import PRODUCTION
from router.serving.dispatch import Dispatcher
from router.serving.fleet import Fleet
from router.serving.harness import Workshop
from tests.serving.conftest import V1, V2, settings
from tests.serving.fakes import Facts, FakeWorld, until


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1}, "other": {}})


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def fleet(world: FakeWorld, facts: Facts) -> AsyncIterator[Fleet]:
    fleet = Fleet(Workshop(world, world, facts, lambda: 5.0))
    fleet.apply({"sentiment": settings(), "other": settings()})
    yield fleet
    await fleet.close(0.0)


@pytest.fixture
def watch(world: FakeWorld, fleet: Fleet, facts: Facts) -> AliasWatch:
    return AliasWatch(world, fleet, facts, lambda: 1_000_000.0)


def document(fleet: Fleet, watch: AliasWatch, facts: Facts) -> Status:
    return Status(
        worker_ends=lambda _: {},
        version="0",
        fleet=fleet,
        dispatcher=Dispatcher(fleet, facts),
        alias_watch=watch,
        config=lambda: {"digest": "3f9c", "error": None},
        events=list,
        stopping=lambda: False,
        traffic=lambda _: (200, 150),
    )


async def test_what_a_poll_names_is_loaded_and_bound(watch: AliasWatch, fleet: Fleet) -> None:
    await watch.tick()
    await until(lambda: fleet.managers["sentiment"].bound == {PRODUCTION: V1})
    assert watch.last_success == {"sentiment": 1_000_000.0, "other": 1_000_000.0}


async def test_a_failed_poll_leaves_everything_as_it_was_and_is_told(
    watch: AliasWatch, fleet: Fleet, world: FakeWorld, facts: Facts
) -> None:
    await watch.tick()
    await until(lambda: fleet.managers["sentiment"].ready)
    world.registry_down = True
    await watch.tick()

    assert fleet.managers["sentiment"].bound == {PRODUCTION: V1}
    assert watch.errors["sentiment"] == "connection refused"
    assert facts.of(Polled)[-1].error == "connection refused"
    state = document(fleet, watch, facts).document()
    assert state["registry"] == {
        "reachable": False,
        "last_success_timestamp": 1_000_000.0,
        "error": "connection refused",
    }
    world.registry_down = False
    await watch.tick()
    assert watch.errors == {}


async def test_a_model_without_production_is_told_once_and_shown(
    watch: AliasWatch, fleet: Fleet, facts: Facts
) -> None:
    await watch.tick()
    await watch.tick()

    told = [fact for fact in facts.of(AliasAspired) if fact.model == "other"]
    assert told == [AliasAspired("other", PRODUCTION, None, None)]
    model = document(fleet, watch, facts).document()["models"]["other"]
    assert model["warnings"][0].startswith("the registry names no version as production")
    assert model["ready"] is False


async def test_a_production_that_the_registry_no_longer_names_is_stale_and_pending(
    watch: AliasWatch, fleet: Fleet, world: FakeWorld, facts: Facts
) -> None:
    await watch.tick()
    await until(lambda: fleet.managers["sentiment"].ready)
    world.aspired["sentiment"] = {}
    await watch.tick()

    alias = document(fleet, watch, facts).document()["models"]["sentiment"]["aliases"]["production"]
    assert alias == {"name": "production", "aspired": None, "bound": 1, "pending": True, "stale": True}


async def test_a_production_whose_model_the_registry_no_longer_has_is_stale_until_it_has_it_again(
    watch: AliasWatch, fleet: Fleet, world: FakeWorld, facts: Facts
) -> None:
    """Unlike a registry that says nothing: this one said that what serves is not there."""
    await watch.tick()
    await until(lambda: fleet.managers["sentiment"].ready)

    def stale() -> bool:
        models = document(fleet, watch, facts).document()["models"]
        told: bool = models["sentiment"]["aliases"]["production"]["stale"]
        return told

    wish = world.aspired.pop("sentiment")
    await watch.tick()
    assert stale()
    assert fleet.managers["sentiment"].bound == {PRODUCTION: V1}
    world.registry_down = True
    await watch.tick()
    assert stale()
    world.registry_down, world.aspired["sentiment"] = False, wish
    await watch.tick()
    assert not stale()


async def test_an_answer_about_a_model_that_was_removed_meanwhile_is_dropped(
    watch: AliasWatch, fleet: Fleet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = fleet.managers["sentiment"]
    poll = world.poll

    async def slow(model: str, aliases: dict[str, str]) -> object:
        answer = await poll(model, aliases)
        fleet.apply({"other": settings()})
        return answer

    monkeypatch.setattr(world, "poll", slow)
    await watch.tick()

    assert manager.aspired == {}
    assert V2 not in world.loads


async def test_models_are_polled_in_turn_so_that_a_poll_is_not_charged_with_the_others(
    watch: AliasWatch, world: FakeWorld, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that hangs takes each model's time; ten models are ten polls, and none of them is long."""
    poll, under_way, most = world.poll, 0, 0

    async def counted(model: str, aliases: dict[str, str]) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await poll(model, aliases)

    monkeypatch.setattr(world, "poll", counted)
    await watch.tick()

    assert most == 1
    assert {fact.model for fact in facts.of(Polled)} == {"sentiment", "other"}


async def test_the_state_warns_when_most_requests_carry_no_key(
    watch: AliasWatch, fleet: Fleet, facts: Facts
) -> None:
    model = document(fleet, watch, facts).document()["models"]["sentiment"]
    assert model["keyless_share"] == 0.75
    assert "carry no key" in model["warnings"][0]
