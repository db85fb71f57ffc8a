"""Polls become wishes; silence changes nothing."""

import asyncio

import pytest

from router.control import alias_watch
from router.control.alias_watch import AliasWatch, until_next_poll
from router.control.history import BoundTimes
from router.control.status import Status, TrafficCounts
from router.core.cache_events import LastGoodRefused, ServingFromCache
from router.core.events import AliasAspired, AliasBound, Polled
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.policy import State
from router.errors import ModelUnknown, RegistryRefused, RegistryUnavailable
from router.serving.load_gate import LoadLimits
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.status import status_of
from tests.support.waiting import until


def test_polls_lie_up_to_a_fifth_closer_or_further_apart_than_configured() -> None:
    """Evenly, so that the mean is what is configured."""
    assert until_next_poll(5.0, 0.0) == pytest.approx(4.0)
    assert until_next_poll(5.0, 0.5) == pytest.approx(5.0)
    assert until_next_poll(5.0, 1.0) == pytest.approx(6.0)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1}, "other": {}})


@pytest.fixture
async def models(models: ModelSet) -> ModelSet:
    models.apply({"sentiment": settings(), "other": settings()})
    return models


@pytest.fixture
def watch(world: FakeWorld, models: ModelSet, facts: Facts) -> AliasWatch:
    return AliasWatch(world, models, facts, lambda: 1_000_000.0)


def document(models: ModelSet, watch: AliasWatch, facts: Facts, world: FakeWorld) -> Status:
    received = dict.fromkeys(models.managers, 200)
    counts = TrafficCounts(received=received, keyless=dict.fromkeys(received, 150))
    bound = BoundTimes(lambda: 5.0)
    for event in facts.of(AliasBound):
        bound.record(event)
    return status_of(models, watch, facts, world, traffic=counts, bound_times=bound)


async def test_what_a_poll_names_is_loaded_and_bound(watch: AliasWatch, models: ModelSet) -> None:
    await watch.tick()
    await until(lambda: models.managers["sentiment"].bound == {PRODUCTION: V1})
    assert watch.last_success == {"sentiment": 1_000_000.0, "other": 1_000_000.0}


async def test_a_failed_poll_leaves_everything_as_it_was_and_is_reported(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)
    world.registry_down = True
    await watch.tick()

    assert models.managers["sentiment"].bound == {PRODUCTION: V1}
    assert watch.errors["sentiment"] == "connection refused"
    assert facts.of(Polled)[-1].error == "connection refused"
    state = document(models, watch, facts, world).document()
    assert state["registry"] == {
        "reachable": False,
        "last_success_timestamp": 1_000_000.0,
        "error": "connection refused",
    }
    world.registry_down = False
    await watch.tick()
    assert watch.errors == {}


async def test_a_model_without_production_is_reported_once_and_shown(
    watch: AliasWatch, models: ModelSet, facts: Facts, world: FakeWorld
) -> None:
    await watch.tick()
    await watch.tick()

    reported = [fact for fact in facts.of(AliasAspired) if fact.model == "other"]
    assert reported == [AliasAspired("other", PRODUCTION, None, None)]
    model = document(models, watch, facts, world).document()["models"]["other"]
    assert model["warnings"][0].startswith("the registry names no version as production")
    assert model["ready"] is False


async def test_a_production_that_the_registry_no_longer_names_is_stale_and_pending(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)
    world.aspired["sentiment"] = {}
    await watch.tick()

    alias = document(models, watch, facts, world).document()["models"]["sentiment"]["aliases"]["production"]
    assert alias == {
        "name": "production",
        "aspired": None,
        "bound": 1,
        "bound_timestamp": 5.0,
        "pending": True,
        "gate": None,
        "stale": True,
    }


async def test_a_production_whose_model_the_registry_no_longer_has_is_stale_until_it_has_it_again(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    """Unlike a registry that says nothing: this one said that what serves is not there."""
    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)

    def stale() -> bool:
        shown = document(models, watch, facts, world).document()["models"]
        reported: bool = shown["sentiment"]["aliases"]["production"]["stale"]
        return reported

    wish = world.aspired.pop("sentiment")
    await watch.tick()
    assert stale()
    assert models.managers["sentiment"].bound == {PRODUCTION: V1}
    world.registry_down = True
    await watch.tick()
    assert stale()
    world.registry_down, world.aspired["sentiment"] = False, wish
    await watch.tick()
    assert not stale()


async def test_an_answer_about_a_model_that_was_removed_meanwhile_is_dropped(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = models.managers["sentiment"]
    poll = world.poll

    async def slow(model: str, aliases: dict[str, str], **_: float) -> object:
        answer = await poll(model, aliases)
        models.apply({"other": settings()})
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

    async def counted(model: str, aliases: dict[str, str], *, deadline_seconds: float) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await poll(model, aliases, deadline_seconds=deadline_seconds)

    monkeypatch.setattr(world, "poll", counted)
    await watch.tick()

    assert most == 1
    assert {fact.model for fact in facts.of(Polled)} == {"sentiment", "other"}


async def test_the_state_warns_when_most_requests_carry_no_key(
    watch: AliasWatch, models: ModelSet, facts: Facts, world: FakeWorld
) -> None:
    model = document(models, watch, facts, world).document()["models"]["sentiment"]
    assert model["keyless_share"] == 0.75
    assert "carry no key" in model["warnings"][0]


async def test_a_start_without_the_registry_serves_what_served_last_until_it_answers(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.registry_down = True
    world.recorded = {"sentiment": {PRODUCTION: V1, CANARY: V2}}
    manager = models.managers["sentiment"]
    await watch.tick()
    await watch.tick()
    await until(lambda: manager.bound == {PRODUCTION: V1, CANARY: V2})
    assert facts.of(ServingFromCache) == [ServingFromCache("sentiment", world.recorded["sentiment"])]
    assert facts.of(AliasAspired) == []
    state = document(models, watch, facts, world).document()
    assert [state["serving_from_cache"], state["models"]["other"]["serving_from_cache"]] == [True, False]
    assert "has not answered since the start" in state["models"]["sentiment"]["warnings"][0]

    world.registry_down = False
    world.aspired["sentiment"] = {PRODUCTION: V1, CANARY: V3}
    await watch.tick()
    await until(lambda: manager.bound == {PRODUCTION: V1, CANARY: V3})

    assert world.loads == [V1, V2, V3], "an equal version was loaded again"
    assert not document(models, watch, facts, world).document()["serving_from_cache"]
    assert AliasAspired("sentiment", PRODUCTION, None, V1) in facts.of(AliasAspired)


async def test_a_registry_that_went_away_later_is_no_start_from_the_cache(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)
    world.registry_down = True
    world.recorded = {"sentiment": {PRODUCTION: V3}}
    await watch.tick()

    assert models.managers["sentiment"].aspired == {PRODUCTION: V1}


async def test_a_registry_that_knows_no_such_model_has_answered(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(model: str, aliases: object, **_: float) -> object:
        raise ModelUnknown(model)

    world.recorded = {"sentiment": {PRODUCTION: V1}}
    monkeypatch.setattr(world, "poll", unknown)
    await watch.tick()

    assert models.managers["sentiment"].aspired == {}


async def test_a_registry_that_refuses_is_not_one_that_has_not_answered(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By permission or by its schema. What served last serves, and what is reported names the refusal."""

    async def refused(model: str, aliases: object, **_: float) -> object:
        raise RegistryRefused("PERMISSION_DENIED")

    monkeypatch.setattr(alias_watch, "SILENCE_SECONDS", -1.0)
    world.recorded = {"sentiment": {PRODUCTION: V1}}
    monkeypatch.setattr(world, "poll", refused)
    await watch.tick()
    await until(lambda: models.managers["sentiment"].bound == {PRODUCTION: V1})

    assert [(fact.model, fact.refused, fact.error) for fact in facts.of(Polled)] == [
        ("sentiment", True, "PERMISSION_DENIED"),
        ("other", True, "PERMISSION_DENIED"),
    ]
    model = document(models, watch, facts, world).document()["models"]["sentiment"]
    assert model["registry_refused"]
    assert model["warnings"][0] == (
        "the registry refuses to be read since the start: what served last serves"
    )

    monkeypatch.undo()
    await watch.tick()
    assert not document(models, watch, facts, world).document()["models"]["sentiment"]["registry_refused"]


async def test_a_model_that_was_deleted_leaves_what_serves(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(model: str, aliases: object, **_: float) -> object:
        raise ModelUnknown(f"there is no {model}")

    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)
    monkeypatch.setattr(world, "poll", unknown)
    await watch.tick()

    assert models.managers["sentiment"].bound == {PRODUCTION: V1}
    assert watch.errors["sentiment"] == "there is no sentiment"


async def test_what_the_cache_could_not_give_is_asked_of_the_registry_at_once(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """Not after the pause of up to five minutes that follows failed loads."""
    world.registry_down = True
    world.recorded = {"sentiment": {PRODUCTION: V1}}
    world.unfetchable = {V1}
    manager = models.managers["sentiment"]
    await watch.tick()
    await until(lambda: manager.harnesses[V1].state is State.ERROR)
    world.unfetchable.clear()
    world.registry_down = False

    await watch.tick()

    await until(lambda: manager.bound == {PRODUCTION: V1})


async def fails(manager: ModelManager, version: VersionId) -> None:
    await until(lambda: version in manager.harnesses and manager.harnesses[version].state is State.ERROR)


async def let_fail(world: FakeWorld) -> None:
    """Let the fetch that waits fail, and the next one be good."""
    assert world.slow_fetches is not None
    first, second, before = world.slow_fetches, asyncio.Event(), len(world.fetches)
    world.slow_fetches = second
    first.set()
    await until(lambda: len(world.fetches) > before)
    world.unfetchable.clear()
    second.set()


async def test_a_version_whose_registration_changes_is_tried_again_at_once(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """Such as PENDING, then READY: the pause after a failed try is up to five minutes."""
    world.registered, world.unfetchable = {V1: "PENDING_REGISTRATION"}, {V1}
    manager = models.managers["sentiment"]
    await watch.tick()
    await fails(manager, V1)
    await watch.tick()
    assert len(world.fetches) == 1, "nothing changed, and yet it was asked for again"
    world.registered.clear()
    world.unfetchable.clear()

    await watch.tick()

    await until(lambda: manager.bound == {PRODUCTION: V1})


async def test_a_registration_that_changed_between_the_poll_and_the_fetch_counts_as_changed(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """What the first look after a failure sees may be the news already."""
    world.registered, world.unfetchable = {V1: "PENDING_REGISTRATION"}, {V1}
    manager = models.managers["sentiment"]
    await watch.tick()
    world.registered.clear()
    await fails(manager, V1)
    world.unfetchable.clear()

    await watch.tick()

    await until(lambda: manager.bound == {PRODUCTION: V1})


async def test_a_version_that_was_made_anew_in_the_registry_is_tried_again_at_once(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """Its files, which did not load, are others now."""
    world.registered, world.broken = {V1: "READY 0123"}, {V1}
    manager = models.managers["sentiment"]
    await watch.tick()
    await fails(manager, V1)
    world.registered, world.broken = {V1: "READY 4567"}, set()

    await watch.tick()

    await until(lambda: manager.bound == {PRODUCTION: V1})


async def test_a_registration_that_can_not_be_read_ends_no_pause(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(versions: object, **_: float) -> object:
        raise RegistryUnavailable("connection reset")

    world.unfetchable = {V1}
    await watch.tick()
    await fails(models.managers["sentiment"], V1)
    monkeypatch.setattr(world, "registrations", away)
    await watch.tick()
    monkeypatch.undo()
    await watch.tick()

    assert world.fetches == [(V1, False)]
    assert watch.errors == {}


async def test_a_version_that_had_no_room_is_loaded_when_there_is_some(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """Though the registry says nothing new, or nothing at all."""
    manager = models.managers["sentiment"]
    await watch.tick()
    await until(lambda: manager.ready)
    world.available, world.aspired["sentiment"] = 0, {PRODUCTION: V1, CANARY: V2}
    await watch.tick()
    await fails(manager, V2)
    world.registry_down = True
    await watch.tick()
    assert manager.harnesses[V2].failures == 1, "there is no room yet"
    world.available = 1 << 40

    await watch.tick()

    await until(lambda: manager.bound == {PRODUCTION: V1, CANARY: V2})


async def test_versions_that_serve_are_not_asked_about_beside_their_aliases(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll is one read as long as nothing is new."""
    await watch.tick()
    await until(lambda: models.managers["sentiment"].ready)
    asked: list[object] = []

    async def counted(versions: object, **_: float) -> object:
        asked.append(versions)
        return {}

    monkeypatch.setattr(world, "registrations", counted)
    await watch.tick()

    assert asked == []


async def test_a_fetch_of_the_outage_that_fails_after_the_registrys_answer_is_repeated_at_once(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """It was begun by the rule of the outage, so its failure says nothing about the registry."""
    world.registry_down, world.slow_fetches = True, asyncio.Event()
    world.recorded, world.unfetchable = {"sentiment": {PRODUCTION: V1}}, {V1}
    manager = models.managers["sentiment"]
    await watch.tick()
    await until(lambda: world.fetches)
    world.registry_down = False
    await watch.tick()
    assert len(world.fetches) == 1

    await let_fail(world)

    await until(lambda: manager.bound == {PRODUCTION: V1})


@pytest.mark.parametrize("ended", [True, False])
async def test_a_fetch_that_failed_without_the_registry_is_repeated_when_it_answers_again(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, *, ended: bool
) -> None:
    """Also of a gateway that served before: the registry went away between its poll and the fetch."""
    manager = models.managers["sentiment"]
    await watch.tick()
    await until(lambda: manager.ready)
    world.slow_fetches, world.unfetchable = asyncio.Event(), {V2}
    world.aspired["sentiment"] = {PRODUCTION: V2}
    await watch.tick()
    world.registry_down = True
    await watch.tick()
    if ended:
        world.slow_fetches.set()
        await fails(manager, V2)
        world.unfetchable.clear()
    world.registry_down = False
    await watch.tick()
    if not ended:
        await let_fail(world)

    await until(lambda: manager.bound == {PRODUCTION: V2})


async def test_a_version_that_does_not_load_waits_out_its_pause_when_the_registry_answers_again(
    watch: AliasWatch, models: ModelSet, world: FakeWorld
) -> None:
    """Its files are here, so the registry's silence was not the reason."""
    world.broken = {V1}
    await watch.tick()
    await fails(models.managers["sentiment"], V1)
    world.registry_down = True
    await watch.tick()
    world.registry_down = False
    await watch.tick()

    assert models.managers["sentiment"].harnesses[V1].state is State.ERROR
    assert world.loads == [V1]


async def test_a_torn_record_is_reported_once_and_shown_until_the_registry_answers(
    watch: AliasWatch, models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.registry_down = world.torn_record = True
    await watch.tick()
    await watch.tick()
    assert [fact.model for fact in facts.of(LastGoodRefused)] == ["sentiment", "other"]
    model = document(models, watch, facts, world).document()["models"]["sentiment"]
    assert "the record is torn" in model["warnings"][0]

    world.registry_down = False
    await watch.tick()

    assert watch.refused_records == {}


class SilentRegistry(FakeWorld):
    """Answers nothing in time, and counts who asked."""

    asked: list[str]

    async def poll(self, model: str, aliases: object, *, deadline_seconds: float | None = None) -> object:
        self.asked.append(model)
        raise RegistryUnavailable("no answer")


async def test_after_one_silence_the_rest_of_a_tick_is_not_asked_and_comes_first_in_the_next(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_watch, "SILENCE_SECONDS", -1.0)
    world = SilentRegistry()
    world.asked = []
    models = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0)))
    models.apply({name: settings() for name in ("a", "b", "c")})
    watch = AliasWatch(world, models, facts, lambda: 0.0)

    await watch.tick()
    assert world.asked == ["a"]
    assert watch.errors == dict.fromkeys("abc", "no answer")
    await watch.tick()
    assert world.asked == ["a", "b"]

    monkeypatch.setattr(alias_watch, "SILENCE_SECONDS", 60.0)
    await watch.tick()
    assert world.asked == ["a", "b", "c", "a", "b"], "a registry that refuses at once is asked about all"
    await models.close(0.0)


async def test_when_a_ticks_time_is_over_the_rest_comes_first_in_the_next(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow registry that answers well is no reason to mark anybody as failed."""
    monkeypatch.setattr(alias_watch, "TICK_SECONDS", 0.05)
    world = FakeWorld(aspired={name: {} for name in "abc"})
    asked: list[str] = []

    async def slow(model: str, aliases: object, *, deadline_seconds: float) -> object:
        asked.append(model)
        assert deadline_seconds > 0.05 / 2
        await asyncio.sleep(0.06)
        return {}

    monkeypatch.setattr(world, "poll", slow)
    models = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0)))
    models.apply({name: settings() for name in "abc"})
    watch = AliasWatch(world, models, facts, lambda: 0.0)
    for _ in range(3):
        await watch.tick()

    assert asked == ["a", "b", "c"]
    assert watch.errors == {}
    await models.close(0.0)
