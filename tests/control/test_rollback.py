"""How soon a rollback would serve is known, shown, and reported once when it gets worse."""

import asyncio

import pytest

from router.adapters.log.lines import line_of
from router.control.alias_watch import AliasWatch
from router.control.last_known_good import LastKnownGood
from router.control.rollback import COPY_LOOK_SECONDS, RollbackWatch
from router.core.events import RollbackReadyLost
from router.core.ids import PRODUCTION, ROLLBACK, VersionId
from router.core.policy import State
from router.core.rollback import Readiness, Rollback
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.settings import ModelSettings
from tests.control.test_last_good import Notes
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.sample_events import Clock
from tests.support.status import status_of
from tests.support.waiting import until

NOT_READY, SLOWER, AT_ONCE = Readiness


def kept_for(seconds: float, **keys: object) -> ModelSettings:
    return settings(split={"production": 100}, keep_previous_seconds=seconds, **keys)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1}}, copies={V1, V2, V3})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def models(models: ModelSet) -> ModelSet:
    models.apply({"sentiment": kept_for(3600, workers=2)})
    return models


@pytest.fixture
def manager(models: ModelSet) -> ModelManager:
    return models.managers["sentiment"]


@pytest.fixture
def polls(world: FakeWorld, models: ModelSet, facts: Facts) -> AliasWatch:
    return AliasWatch(world, models, facts, lambda: 1e9)


@pytest.fixture
def watch(world: FakeWorld, models: ModelSet, polls: AliasWatch, facts: Facts, clock: Clock) -> RollbackWatch:
    return RollbackWatch(world, world.environments, world, models, polls, facts, clock)


async def moved(world: FakeWorld, polls: AliasWatch, manager: ModelManager, *path: VersionId) -> None:
    for version in path:
        world.aspired["sentiment"] = {**world.aspired["sentiment"], PRODUCTION: version}
        await polls.tick()
        await until(lambda version=version: manager.bound.get(PRODUCTION) == version)
        await until(lambda version=version: len(world.alive(version)) == manager.settings.workers)


async def test_before_production_has_moved_there_is_nothing_to_go_back_to(
    world: FakeWorld, polls: AliasWatch, manager: ModelManager, watch: RollbackWatch
) -> None:
    assert watch.of(manager) == Rollback(reason="production serves nothing yet")
    await moved(world, polls, manager, V1)
    await watch.tick()
    assert watch.of(manager) == Rollback(reason="what production served before is not known")
    world.aspired["sentiment"][ROLLBACK] = V1
    await polls.tick()
    assert watch.of(manager) == Rollback(reason="previous names the version that production serves")


async def test_what_is_kept_is_ready_at_once_and_shown_with_until_when(
    world: FakeWorld,
    polls: AliasWatch,
    models: ModelSet,
    manager: ModelManager,
    watch: RollbackWatch,
    facts: Facts,
) -> None:
    await moved(world, polls, manager, V1, V2)
    await watch.tick()
    shown = status_of(models, polls, facts, world, rollback=watch).document()["models"]["sentiment"]

    assert (shown["rollback"]["version"], shown["rollback"]["ready"]) == (1, 2)
    assert shown["rollback"]["reason"] == ""
    assert shown["versions"]["1"]["kept_until"] == pytest.approx(shown["rollback"]["until"], abs=1)
    assert shown["versions"]["1"]["aliases"] == []
    assert shown["versions"]["2"]["kept_until"] is None


async def test_a_loss_is_reported_once_and_again_when_it_gets_worse(
    world: FakeWorld, polls: AliasWatch, manager: ModelManager, watch: RollbackWatch, facts: Facts
) -> None:
    await moved(world, polls, manager, V1, V2)
    await watch.tick()
    manager.previous.give_room()
    for _ in range(3):
        await watch.tick()
    why = "1 of 2 workers are loaded: memory was needed"
    assert facts.of(RollbackReadyLost) == [RollbackReadyLost("sentiment", V1, why)]
    assert watch.of(manager).ready is SLOWER

    manager.previous.give_room()
    await until(lambda: V1 not in manager.harnesses)
    world.copies = set()
    for _ in range(3):
        await watch.tick()
    lost = facts.of(RollbackReadyLost)
    assert lost[1:] == [
        RollbackReadyLost("sentiment", V1, "its files are not in the cache: memory was needed")
    ]
    line = line_of(lost[1])
    assert line is not None
    assert (line.values["model"], line.values["version"], line.values["why"]) == ("sentiment", 1, lost[1].why)


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_the_end_of_its_time_is_no_loss_while_its_files_are_here(
    world: FakeWorld,
    polls: AliasWatch,
    models: ModelSet,
    manager: ModelManager,
    watch: RollbackWatch,
    facts: Facts,
    seconds: float,
) -> None:
    await moved(world, polls, manager, V1, V2)
    await watch.tick()
    models.apply({"sentiment": kept_for(seconds, workers=2)})
    await until(lambda: V1 not in manager.harnesses)
    await watch.tick()

    assert watch.of(manager) == Rollback(V1, SLOWER, "it has to be loaded from the cache")
    assert facts.of(RollbackReadyLost) == []


async def test_files_are_looked_for_when_the_version_changes_and_then_once_in_a_while(
    world: FakeWorld,
    polls: AliasWatch,
    manager: ModelManager,
    watch: RollbackWatch,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[VersionId] = []

    async def hold_copy(version: VersionId) -> bool:
        asked.append(version)
        return version in world.copies

    monkeypatch.setattr(world, "hold_copy", hold_copy)
    await moved(world, polls, manager, V1)
    world.aspired["sentiment"][ROLLBACK], world.copies = V3, set()
    await polls.tick()
    assert watch.of(manager).reason == "whether its files are in the cache is not known yet"
    for _ in range(5):
        await watch.tick()
    assert asked == [V3]
    assert watch.of(manager) == Rollback(V3, NOT_READY, "its files are not in the cache")
    world.copies = {V3}
    clock.now += COPY_LOOK_SECONDS
    await watch.tick()

    assert asked == [V3, V3]
    assert watch.of(manager).ready is SLOWER


async def test_a_registry_that_does_not_answer_is_not_asked_for_a_copy(
    world: FakeWorld, polls: AliasWatch, manager: ModelManager, watch: RollbackWatch, facts: Facts
) -> None:
    await moved(world, polls, manager, V1)
    world.aspired["sentiment"][ROLLBACK] = V3
    await polls.tick()
    world.registry_down = True
    await polls.tick()
    await watch.tick()

    assert watch.of(manager).reason == "whether its files are in the cache is not known yet"
    world.registry_down = False
    await polls.tick()
    await watch.tick()
    assert watch.of(manager).ready is SLOWER
    assert facts.of(RollbackReadyLost) == []


async def test_what_a_rollback_goes_back_to_is_recorded_beside_what_serves(
    world: FakeWorld,
    polls: AliasWatch,
    models: ModelSet,
    manager: ModelManager,
    watch: RollbackWatch,
    facts: Facts,
) -> None:
    """So its copy stays in the cache, and a start without the registry knows it."""
    notes = Notes()
    last_good = LastKnownGood(notes, world.environments, models, watch, facts)
    await moved(world, polls, manager, V1, V2)
    await last_good.tick()
    assert notes.written[-1] == ({"production": V2}, {"previous"}), (
        "what stood there stays until it is looked for"
    )
    assert notes.used == {V1, V2}
    await watch.tick()
    await last_good.tick()
    assert notes.written[-1] == ({"production": V2, "previous": V1}, set())

    world.copies = set()
    await moved(world, polls, manager, V3)
    await watch.tick()
    await asyncio.sleep(0)
    await last_good.tick()
    assert notes.written[-1] == ({"production": V3}, set())


async def test_a_version_whose_environment_is_gone_is_not_ready_to_go_back_to_and_that_is_reported(
    world: FakeWorld,
    polls: AliasWatch,
    models: ModelSet,
    manager: ModelManager,
    watch: RollbackWatch,
    facts: Facts,
    clock: Clock,
) -> None:
    models.apply({"sentiment": kept_for(0, environment="own")})
    await moved(world, polls, manager, V1, V2)
    await until(lambda: V1 not in manager.harnesses)
    await watch.tick()
    assert watch.of(manager).ready is SLOWER

    world.environments.here.discard(V1)
    clock.now += COPY_LOOK_SECONDS
    await watch.tick()
    await watch.tick()

    why = "its Python environment has to be built"
    assert (watch.of(manager).ready, watch.of(manager).reason) == (NOT_READY, why)
    assert facts.of(RollbackReadyLost) == [RollbackReadyLost("sentiment", V1, why)]
    assert world.environments.builds == [V1, V2], "a look builds nothing"


async def test_the_state_says_what_environment_a_version_has_and_what_a_load_is_at(
    world: FakeWorld, polls: AliasWatch, models: ModelSet, manager: ModelManager, facts: Facts
) -> None:
    models.apply({"sentiment": kept_for(0, environment="own")})
    world.environments.note = "logged under Python 3.10, which is not here: it runs on the nearest"
    await moved(world, polls, manager, V1)
    world.environments.refused = {V2}
    world.aspired["sentiment"] = {PRODUCTION: V2}
    await polls.tick()
    await until(lambda: manager.harnesses[V2].state is State.ERROR)
    shown = status_of(models, polls, facts, world).document()["models"]["sentiment"]["versions"]

    assert shown["1"]["environment"] == {
        "digest": "1" * 64,
        "python": "3.11.7",
        "pins": "1" * 64,
        "size_bytes": 630_000_000,
        "build_seconds": 6.25,
        "differs": ["scikit-learn 1.5.2, the gateway has 1.7.1"],
        "note": world.environments.note,
    }
    assert (shown["1"]["phase"], shown["2"]["phase"]) == (None, "environment")
    assert (shown["2"]["environment"], shown["2"]["retry_seconds"]) == (None, None)
    assert shown["2"]["error"] == "environment: requirements.txt line 3: options are not accepted"


async def test_a_version_elsewhere_is_asked_whether_it_is_there_for_a_rollback(
    world: FakeWorld,
    polls: AliasWatch,
    models: ModelSet,
    manager: ModelManager,
    watch: RollbackWatch,
    clock: Clock,
) -> None:
    """Who ends it is not this gateway: what says how to serve it may be here, and it be gone."""
    where = {"http": "http://v{version}.models"}
    models.apply({"sentiment": kept_for(0, where=where)})
    await moved(world, polls, manager, V1, V2)
    world.unreachable = {V1}
    await watch.tick()
    assert watch.of(manager) == Rollback(V1, Readiness.NOT_READY, "it does not answer at its address")

    world.unreachable = set()
    await watch.tick()
    assert world.looks == [V1]  # not at every tick
    clock.now += COPY_LOOK_SECONDS
    await watch.tick()

    assert watch.of(manager).ready is Readiness.SLOWER
