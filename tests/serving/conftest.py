"""Models in front of a fake world."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.loads import Priority
from router.core.policy import State
from router.protocol.messages import LoadSpec, VersionInfo
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.load_gate import LoadGate, LoadLimits
from router.serving.models import ModelSet
from router.serving.pool.pool import Pool
from router.serving.version_dependencies import VersionDependencies
from router.settings import ModelSettings, Settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

V1, V2, V3 = (VersionId("sentiment", n) for n in (1, 2, 3))


def settings(**keys: object) -> ModelSettings:
    """Settings of the model `sentiment`, as the file would give them."""
    return Settings.model_validate({"models": {"sentiment": keys}}).models["sentiment"]


@dataclass
class FakeVersion:
    """The version that a pool belongs to; tests change it while the pool serves."""

    keys: dict[str, Any] = field(default_factory=dict)
    """Settings of its model, as the file would give them."""
    is_production: bool = False
    load_priority: Priority = Priority.OTHER_ALIAS
    load_deadline_seconds: float = 5.0
    crashes: int = 0
    is_kept: bool = False
    kept_ends: int = 0
    chosen: list[object] = field(default_factory=list)
    """What was to be counted, where that was chosen late."""

    @property
    def settings(self) -> ModelSettings:
        return settings(**self.keys)

    def worker_crashed(self) -> None:
        self.crashes += 1

    def kept_worker_ended(self) -> None:
        self.kept_ends += 1

    def scores_chosen(self, info: VersionInfo) -> None:
        self.chosen.append(info.scores)


def pool_of(version: FakeVersion, world: FakeWorld, facts: Facts, gate: LoadGate | None = None) -> Pool:
    """A pool of V1 that is not started yet, with a gate of its own unless there is one."""
    own_gate = gate or LoadGate(world, LoadLimits(version.load_deadline_seconds))
    return Pool(LoadSpec(V1, "/cache", None), world, facts, version, own_gate)


@pytest.fixture(autouse=True)
def breaches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[VersionId, State, State]]]:
    """Changes of state that no version may make: with one, a test fails. Production logs it."""
    seen: list[tuple[VersionId, State, State]] = []
    monkeypatch.setattr("router.serving.harness.report_breach", lambda *breach: seen.append(breach))
    yield seen
    assert seen == []


@pytest.fixture
def version() -> FakeVersion:
    """The one whose pool a test has."""
    return FakeVersion()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def models(world: FakeWorld, facts: Facts) -> AsyncIterator[ModelSet]:
    """Half of the keys go to the canary; nothing is aspired yet."""
    models = ModelSet(
        VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0), addresses=world)
    )
    models.apply({"sentiment": settings(split={"production": 50, "canary": 50})})
    yield models
    await models.close(0.0)


@pytest.fixture
async def serving(models: ModelSet, world: FakeWorld) -> ModelSet:
    """Both aliases are bound."""
    manager = models.managers["sentiment"]
    manager.set_aspired(world.aspired["sentiment"])
    await until(lambda: len(manager.bound) == 2)
    return models


@pytest.fixture
def in_force(models: ModelSet) -> CapsInForce:
    """The caps of `models`: none."""
    return models._dependencies.caps


@pytest.fixture
async def dispatcher(serving: ModelSet, facts: Facts) -> Dispatcher:
    return Dispatcher(serving, facts)
