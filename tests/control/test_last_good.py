"""Every change of what serves is recorded, and nothing else."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from router.control.alias_watch import AliasWatch
from router.control.last_known_good import LastKnownGood
from router.control.rollback import RollbackWatch
from router.core.cache_events import LastGoodNotWritten
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.errors import CacheRefused
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until


@dataclass
class Notes:
    """A keeper that writes down what it is given."""

    full: bool = False
    written: list[tuple[Mapping[str, VersionId], Collection[str]]] = field(default_factory=list)
    used: set[VersionId] = field(default_factory=set)

    async def remember(self, model: str, served: Mapping[str, VersionId], pending: Collection[str]) -> None:
        if self.full:
            raise CacheRefused("No space left on device")
        self.written.append((served, pending))

    def retain(self, versions: Collection[VersionId]) -> None:
        self.used = set(versions)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
async def models(models: ModelSet) -> ModelSet:
    names = {"production": "champion", "canary": "challenger"}
    models.apply({"sentiment": settings(split={"production": 50, "canary": 50}, aliases=names)})
    return models


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def rollback(world: FakeWorld, models: ModelSet, facts: Facts) -> RollbackWatch:
    return RollbackWatch(
        world, world.environments, world, models, AliasWatch(world, models, facts, lambda: 1e9), facts
    )


@pytest.fixture
def last_good(
    notes: Notes, world: FakeWorld, models: ModelSet, rollback: RollbackWatch, facts: Facts
) -> LastKnownGood:
    return LastKnownGood(notes, world.environments, models, rollback, facts)


async def test_what_is_bound_is_recorded_once_by_the_registrys_names(
    last_good: LastKnownGood, notes: Notes, models: ModelSet
) -> None:
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await last_good.tick()
    assert notes.written == [], "nothing serves yet"
    await until(lambda: len(manager.bound) == 2)
    await last_good.tick()
    await last_good.tick()

    assert notes.written == [({"champion": V1, "challenger": V2}, set())]


async def test_a_canary_that_does_not_serve_yet_keeps_what_is_recorded_of_it_and_one_that_is_gone_does_not(
    last_good: LastKnownGood, notes: Notes, models: ModelSet, world: FakeWorld
) -> None:
    manager = models.managers["sentiment"]
    world.unfetchable = {V2}
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.ready)
    await last_good.tick()
    manager.set_aspired({PRODUCTION: V1})
    await last_good.tick()

    assert notes.written == [({"champion": V1}, {"challenger"}), ({"champion": V1}, set())]


async def test_what_came_from_the_record_is_not_recorded_before_the_registry_confirms_it(
    last_good: LastKnownGood, notes: Notes, models: ModelSet
) -> None:
    """Else a canary that was refused would be forgotten."""
    manager = models.managers["sentiment"]
    manager.set_aspired_from_cache({PRODUCTION: V1})
    await until(lambda: manager.ready)
    await last_good.tick()
    assert notes.written == []

    manager.set_aspired({PRODUCTION: V1})
    await last_good.tick()

    assert notes.written == [({"champion": V1}, set())]


async def test_a_record_that_can_not_be_written_is_reported_once_and_tried_again(
    last_good: LastKnownGood, notes: Notes, models: ModelSet, facts: Facts
) -> None:
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    notes.full = True
    await last_good.tick()
    await last_good.tick()
    assert facts.of(LastGoodNotWritten) == [LastGoodNotWritten("sentiment", "No space left on device")]
    assert last_good.errors == {"sentiment": "No space left on device"}

    notes.full = False
    await last_good.tick()

    assert notes.written == [({"champion": V1}, set())]
    assert last_good.errors == {}


async def test_copies_and_environments_are_in_use_while_their_version_loads_serves_or_ends(
    last_good: LastKnownGood, notes: Notes, models: ModelSet, world: FakeWorld
) -> None:
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3})
    await last_good.tick()
    assert notes.used == world.environments.retained == {V1, V3}

    world.slow_loads.set()
    await until(lambda: set(manager.harnesses) == {V3})
    await last_good.tick()
    assert notes.used == {V1, V3}, "a rollback goes back to it"

    manager.set_aspired({PRODUCTION: V2})
    await until(lambda: set(manager.harnesses) == {V2})
    await last_good.tick()
    assert notes.used == world.environments.retained == {V2, V3}
