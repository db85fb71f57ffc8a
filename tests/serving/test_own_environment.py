"""Versions in Python environments of their own, which are prepared before anything ends for them."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from router.core.events import AliasWithoutVersion, EnvironmentDiffers, LoadRefused, VersionLoaded
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.policy import State
from router.core.routing import Reason
from router.protocol.messages import Query
from router.serving.dispatch import Dispatcher
from router.serving.harness import LOAD_DELAYS
from router.serving.load_gate import LoadGate, LoadLimits
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.serving import virtual_time
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

HALF = {"production": 50, "canary": 50}
CANARY_KEY = "user-2"


@pytest.fixture
async def models(models: ModelSet) -> ModelSet:
    models.apply({"sentiment": settings(split=HALF, environment="own")})
    return models


@pytest.fixture
def manager(models: ModelSet) -> ModelManager:
    return models.managers["sentiment"]


async def failed(manager: ModelManager, version: VersionId) -> None:
    await until(lambda: manager.harnesses[version].state is State.ERROR)


async def test_every_worker_of_a_version_is_loaded_in_its_own_environment(
    serving: ModelSet, manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    """The first one, a replacement, and those of changed settings; the environment is prepared once."""
    places = [(V1, "1" * 12), (V2, "2" * 12)]
    assert sorted(world.environments.loads) == places
    world.alive(V1)[0].kill()
    await until(lambda: len(world.alive(V1)) == 1)
    serving.apply({"sentiment": settings(split=HALF, environment="own", batching_rtol=1e-3)})
    await until(lambda: world.loads.count(V2) == 2 and world.loads.count(V1) == 3)

    assert set(world.environments.loads) == set(places)
    assert sorted(world.environments.prepared) == [V1, V2]
    [loaded] = [event for event in facts.of(VersionLoaded) if event.version == V1]
    assert loaded.environment == world.environments.about(V1)
    assert list(loaded.phase_seconds) == ["fetch", "environment", "load"]


async def test_what_a_version_got_instead_of_what_it_asked_for_is_reported_when_it_is_ready(
    models: ModelSet, manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    """Whoever reads the log at night learns there that an environment is a former one."""
    world.environments.note = "it runs under another Python"
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)

    [loaded] = facts.of(VersionLoaded)
    assert loaded.note == "it runs under another Python"


async def test_a_version_of_the_gateways_environment_has_none_and_needs_none(
    models: ModelSet, manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    models.apply({"sentiment": settings(split=HALF)})
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)

    assert manager.harnesses[V1].environment is None
    assert world.environments.prepared == []
    assert [event.environment for event in facts.of(VersionLoaded)] == [None]


async def test_the_old_version_serves_until_the_next_ones_environment_is_built(
    serving: ModelSet, dispatcher: Dispatcher, manager: ModelManager, world: FakeWorld
) -> None:
    world.environments.slow = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: world.environments.building == 1)
    result = await dispatcher.serve("sentiment", "user-1", Query(b"{}", None), keyed=True)

    assert result.answered_by.version == V1
    assert manager.harnesses[V3].phase == "environment"
    assert manager.bound == {PRODUCTION: V1, CANARY: V2}
    world.environments.slow.set()
    await until(lambda: manager.bound[PRODUCTION] == V3)
    assert manager.harnesses[V3].phase is None


@pytest.mark.parametrize("kind", ["refused", "broken", "index"])
async def test_a_canary_that_can_not_be_built_touches_nothing_of_production(
    models: ModelSet, manager: ModelManager, world: FakeWorld, facts: Facts, kind: str
) -> None:
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    worker = world.alive(V1)
    {"refused": world.environments.refused, "broken": world.environments.broken}.get(kind, set()).add(V2)
    world.environments.index_down = kind == "index"
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await failed(manager, V2)
    result = await Dispatcher(models, facts).serve("sentiment", CANARY_KEY, Query(b"{}", None), keyed=True)

    assert result.answered_by.version == V1
    assert result.assigned.reason is Reason.CANARY_NOT_READY
    assert world.alive(V1) == worker
    assert world.loads == [V1], "nothing of the canary was loaded"
    [refused] = facts.of(LoadRefused)
    assert (refused.phase, refused.by_rule) == ("environment", kind == "refused")
    assert refused.retry_seconds == (None if kind == "refused" else LOAD_DELAYS[0])
    assert manager.harnesses[V2].error == f"environment: {refused.error}"


async def test_what_a_rule_refuses_is_tried_again_when_its_registration_changed_and_not_before(
    models: ModelSet, manager: ModelManager, world: FakeWorld
) -> None:
    world.environments.refused = {V1}
    manager.note_registrations({V1: "READY"})
    manager.set_aspired({PRODUCTION: V1})
    await failed(manager, V1)
    harness = manager.harnesses[V1]
    assert (harness.retry_seconds, harness.seconds_until_load) == (None, None)
    manager.registry_recovered()
    manager.look_for_room()
    manager.note_registrations({V1: "READY"})
    models.apply({"sentiment": settings(split=HALF, environment="own", timeout_seconds=7)})
    await asyncio.sleep(0.01)
    assert world.environments.builds == [V1]
    assert harness.state is State.ERROR

    world.environments.refused.clear()
    manager.note_registrations({V1: "READY, of another place"})
    await until(lambda: manager.bound == {PRODUCTION: V1})
    assert harness.retry_seconds == 0.0


async def test_a_refusal_of_what_changed_meanwhile_is_followed_by_another_try_at_once(
    manager: ModelManager, world: FakeWorld
) -> None:
    world.environments.refused, world.environments.slow = {V1}, asyncio.Event()
    manager.note_registrations({V1: "READY"})
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: world.environments.building == 1)
    manager.note_registrations({V1: "of another place"})
    world.environments.slow.set()
    await until(lambda: len(world.environments.builds) == 2)
    await failed(manager, V1)
    assert manager.harnesses[V1].retry_seconds is None


async def test_an_alias_that_moves_away_ends_the_build_and_back_begins_another(
    manager: ModelManager, world: FakeWorld
) -> None:
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    world.environments.slow = asyncio.Event()
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: world.environments.building == 1)
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: V2 not in manager.harnesses)
    assert world.environments.building == 0
    world.environments.slow.set()
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound.get(CANARY) == V2)
    assert world.environments.builds == [V1, V2, V2]


async def test_in_turn_the_environment_is_there_before_the_old_version_ends(
    models: ModelSet, manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    """A build takes minutes, and may fail; an outage has to be as short as the load."""
    models.apply({"sentiment": settings(split=HALF, environment="own", replace="in_turn")})
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    world.environments.slow, world.environments.refused = asyncio.Event(), {V2}
    manager.set_aspired({PRODUCTION: V2})
    await until(lambda: world.environments.building == 1)
    assert manager.can_answer
    world.environments.slow.set()
    await failed(manager, V2)
    assert manager.can_answer
    assert facts.of(AliasWithoutVersion) == []
    manager.set_aspired({PRODUCTION: V3})
    await until(lambda: manager.bound == {PRODUCTION: V3})
    assert len(facts.of(AliasWithoutVersion)) == 1


async def test_a_start_from_the_cache_finds_environments_without_index_and_registry(
    manager: ModelManager, world: FakeWorld
) -> None:
    world.environments.index_down, world.environments.here = True, {V1, V2}
    manager.set_aspired_from_cache({PRODUCTION: V1, CANARY: V2})
    manager.first_poll_ended()
    await until(lambda: manager.bound == {PRODUCTION: V1, CANARY: V2})
    assert world.environments.builds == []


async def test_requirements_that_are_not_met_in_its_own_environment_are_reported_as_such(
    manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    world.mismatches[V2] = ("numpy==1.26.4 is required and 2.1.0 is installed",)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)
    assert facts.of(EnvironmentDiffers) == [EnvironmentDiffers(V2, world.mismatches[V2], own=True)]


# Random orders, on a clock that jumps


class Situation:
    """One model whose versions have environments of their own, while anything happens to it."""

    def __init__(self, seed: int) -> None:
        self.drawn = random.Random(seed)
        self.facts = Facts()
        self.world = FakeWorld()
        dependencies = VersionDependencies(
            self.world, self.world, self.world.environments, self.facts, LoadLimits(600.0)
        )
        gate = LoadGate(self.world, LoadLimits(600.0), virtual_time.no_files)
        object.__setattr__(dependencies, "gate", gate)
        self.models = ModelSet(dependencies)
        self.in_turn = False
        self.registrations = dict.fromkeys((V1, V2, V3), 0)
        self.apply()
        self.manager = self.models.managers["sentiment"]

    def apply(self) -> None:
        replace = "in_turn" if self.in_turn else "beside"
        self.models.apply({"sentiment": settings(split=HALF, environment="own", replace=replace)})

    def step(self) -> None:
        """Something happens."""
        environments, version = self.world.environments, self.drawn.choice((V1, V2, V3))
        happens: Callable[[], object] = self.drawn.choice(
            (
                lambda: self.manager.set_aspired({**self.manager.aspired, PRODUCTION: version}),
                lambda: self.move_canary(version if self.drawn.random() < 0.7 else None),
                lambda: environments.refused.add(version),
                lambda: environments.refused.discard(version),
                lambda: environments.broken.add(version),
                environments.broken.clear,
                lambda: setattr(environments, "index_down", not environments.index_down),
                lambda: environments.here.discard(version),
                self.slow_down_or_up,
                lambda: self.register(version),
                self.other_mode,
            )
        )
        happens()

    def move_canary(self, version: VersionId | None) -> None:
        named = {a: v for a, v in self.manager.aspired.items() if a == PRODUCTION}
        self.manager.set_aspired(named if version is None else {**named, CANARY: version})

    def slow_down_or_up(self) -> None:
        environments = self.world.environments
        if environments.slow is None:
            environments.slow = asyncio.Event()
        else:
            environments.slow.set()
            environments.slow = None

    def other_mode(self) -> None:
        self.in_turn = not self.in_turn
        self.apply()

    def register(self, version: VersionId) -> None:
        """The registry says something new of `version`."""
        self.registrations[version] += 1
        said = {v: str(n) for v, n in self.registrations.items()}
        self.manager.note_registrations(said)

    def mend(self) -> None:
        """Nothing is in the way any more."""
        environments = self.world.environments
        environments.refused.clear()
        environments.broken.clear()
        environments.index_down = False
        if environments.slow is not None:
            self.slow_down_or_up()

    def check(self) -> None:
        """What holds at any time."""
        for harness in self.manager.harnesses.values():
            if harness.state is State.ERROR and harness.phase == "environment":
                refused = "options are not accepted" in harness.error
                assert (harness.retry_seconds is None) == refused, harness.error
                assert (harness.seconds_until_load is None) == refused
        if PRODUCTION in self.manager.bound and not self.manager.can_answer:
            assert self.facts.of(AliasWithoutVersion), "only in turn does production ever have no worker"


def on_a_jumping_clock(seed: int, story: Callable[[Situation], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        situation = Situation(seed)
        try:
            await story(situation)
        finally:
            await situation.models.close(0.0)
        assert situation.world.environments.building == 0
        assert all(worker.exited.done() for worker in situation.world.workers)

    virtual_time.run(main())


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_in_whatever_order_what_is_named_serves_once_it_can(seed: int) -> None:
    """Refused: not tried again before its registration changed. Failed otherwise: tried again by itself."""

    async def story(situation: Situation) -> None:
        manager = situation.manager
        manager.set_aspired({PRODUCTION: V1})
        for _ in range(40):
            situation.step()
            await virtual_time.settle()
            situation.check()
            await asyncio.sleep(situation.drawn.choice((0.0, 0.0, 1.0, 15.0, 400.0)))
            situation.check()
        situation.mend()
        manager.set_aspired({PRODUCTION: V1, CANARY: V2})
        for version in (V1, V2):
            if version in manager.harnesses and not manager.harnesses[version].loaded:
                situation.register(version)
        await asyncio.sleep(700.0)
        assert manager.bound == {PRODUCTION: V1, CANARY: V2}
        assert manager.can_answer

    on_a_jumping_clock(seed, story)


def test_an_index_out_of_reach_is_asked_again_by_the_ladder_and_a_refusal_never() -> None:
    async def story(situation: Situation) -> None:
        environments = situation.world.environments
        environments.refused, environments.index_down = {V1}, True
        situation.manager.set_aspired({PRODUCTION: V1, CANARY: V2})
        await asyncio.sleep(sum(LOAD_DELAYS[:3]) + 1)
        assert environments.builds.count(V1) == 1
        assert environments.builds.count(V2) == 4
        environments.index_down = False
        await asyncio.sleep(LOAD_DELAYS[3])
        assert situation.manager.bound == {CANARY: V2}

    on_a_jumping_clock(1, story)


def test_two_slow_builds_hold_up_neither_a_download_nor_the_build_of_a_production() -> None:
    async def story(situation: Situation) -> None:
        situation.world.environments.slow = asyncio.Event()
        names = [f"model{n}" for n in range(4)]
        kept = {"sentiment": settings(split=HALF, environment="own")}
        situation.models.apply({**kept, **{name: settings(split=HALF, environment="own") for name in names}})
        managers = situation.models.managers
        for name in names:
            managers[name].set_aspired({CANARY: VersionId(name, 1)})
        situation.manager.first_poll_ended()
        await asyncio.sleep(40.0)  # canaries wait for productions that are to come, for half a minute
        assert len(situation.world.fetches) == 4
        assert situation.world.environments.building == 2
        situation.manager.set_aspired({PRODUCTION: V1})
        await virtual_time.settle()
        assert situation.world.environments.builds[-1] == V1
        situation.mend()
        await virtual_time.settle()
        assert len(situation.world.environments.builds) == 5

    on_a_jumping_clock(1, story)
