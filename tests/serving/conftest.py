"""A fleet in front of a fake world."""

from collections.abc import AsyncIterator

import pytest

from router.core.ids import CANARY, PRODUCTION, VersionId
from router.serving.dispatch import Dispatcher
from router.serving.harness import VersionDependencies
from router.serving.models import ModelSet
from router.settings import ModelSettings, Settings
from tests.serving.fakes import Facts, FakeWorld, until

V1, V2, V3 = (VersionId("sentiment", n) for n in (1, 2, 3))


def settings(**keys: object) -> ModelSettings:
    """Settings of the model `sentiment`, as the file would give them."""
    return Settings.model_validate({"models": {"sentiment": keys}}).models["sentiment"]


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def fleet(world: FakeWorld, facts: Facts) -> AsyncIterator[ModelSet]:
    """Half of the keys go to the canary; nothing is aspired yet."""
    fleet = ModelSet(VersionDependencies(world, world, facts, lambda: 5.0))
    fleet.apply({"sentiment": settings(split={"production": 50, "canary": 50})})
    yield fleet
    await fleet.close(0.0)


@pytest.fixture
async def serving(fleet: ModelSet, world: FakeWorld) -> ModelSet:
    """Both aliases are bound."""
    manager = fleet.managers["sentiment"]
    manager.aspire(world.aspired["sentiment"])
    await until(lambda: len(manager.bound) == 2)
    return fleet


@pytest.fixture
async def dispatcher(serving: ModelSet, facts: Facts) -> Dispatcher:
    return Dispatcher(serving, facts)
