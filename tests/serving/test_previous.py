"""The version that production left stays loaded for a rollback, and goes when anything else needs room."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from router.core.events import VersionDraining, VersionLoaded, WorkerReplaced
from router.core.ids import CANARY, PRODUCTION, ROLLBACK, VersionId
from router.core.memory import Room
from router.core.policy import State
from router.core.routing import assign_version
from router.core.scores import ScoreSpec
from router.protocol.messages import LoadSpec, Query
from router.serving.load_gate import LoadLimits
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from router.settings import ModelSettings
from tests.serving.conftest import V1, V2, V3, settings
from tests.serving.virtual_time import run, settle
from tests.support.examples import examples
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)
V4 = VersionId("sentiment", 4)


@dataclass
class Tight(FakeWorld):
    """What workers hold is no longer available."""

    total: int = 1 << 40

    def room(self) -> Room:
        used = sum(worker.ready.total for worker in self.workers if not worker.exited.done())
        return Room(max(0, self.total - used), f"memory.max of {self.total >> 20} MiB")


@pytest.fixture
def world() -> Tight:
    return Tight()


@pytest.fixture
def start(models: ModelSet) -> Callable[..., ModelManager]:
    """A model of those settings that keeps what production left for an hour, unless they say otherwise."""

    def made(**keys: object) -> ModelManager:
        models.apply({"sentiment": kept_for(3600, **keys)})
        return models.managers["sentiment"]

    return made


def kept_for(seconds: float, **keys: object) -> ModelSettings:
    return settings(**{"keep_previous_seconds": seconds, "split": {"production": 50, "canary": 50}, **keys})


async def moved(manager: ModelManager, world: FakeWorld, *path: VersionId) -> None:
    """Production has served each of them, one after the other, and each has all its workers."""
    for version in path:
        manager.set_aspired({PRODUCTION: version})
        await until(lambda version=version: manager.bound.get(PRODUCTION) == version)
        await until(lambda version=version: len(world.alive(version)) == manager.settings.workers)


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_rollback_binds_what_production_left_without_a_load_and_in_the_same_turn(
    start: Callable[..., ModelManager], world: Tight, facts: Facts, workers: int
) -> None:
    manager = start(workers=workers)
    await moved(manager, world, V1, V2)
    assert manager.previous.version == manager.previous.kept == V1
    assert len(world.alive(V1)) == workers

    manager.set_aspired({PRODUCTION: V1})

    assert manager.bound == {PRODUCTION: V1}
    assert manager.can_answer
    assert world.loads.count(V1) == workers
    assert len(world.alive(V1)) == workers
    await until(lambda: not world.alive(V2))
    assert [event.version for event in facts.of(VersionDraining)] == [V2], "what was bad goes"
    assert manager.previous.version is None


async def test_what_is_kept_has_no_route_no_breaker_and_is_the_first_that_the_kernel_ends(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start()
    await moved(manager, world, V1, V2)

    [worker] = world.alive(V1)
    assert manager.breakers.views(V1) == []
    assert V1 not in manager.bound.values()
    assert not worker.is_last
    manager.set_aspired({PRODUCTION: V1})
    assert worker.is_last


async def test_it_goes_when_its_time_is_over(start: Callable[..., ModelManager], world: Tight) -> None:
    manager = start(keep_previous_seconds=0.1)
    await moved(manager, world, V1, V2)
    assert world.alive(V1)

    await until(lambda: not world.alive(V1))
    await until(lambda: V1 not in manager.harnesses)
    assert manager.previous.version == V1, "a rollback goes there all the same, with a load"


@pytest.mark.parametrize("keys", [{"keep_previous_seconds": 0}, {"replace": "in_turn"}])
async def test_a_reload_that_keeps_nothing_lets_it_go_at_once(
    start: Callable[..., ModelManager], world: Tight, keys: dict[str, object]
) -> None:
    manager = start()
    await moved(manager, world, V1, V2)
    manager.apply_settings(kept_for(3600, **keys))

    assert manager.harnesses[V1].state is State.DRAINING
    await until(lambda: not world.alive(V1))


async def test_of_three_versions_one_after_the_other_the_last_that_was_left_is_kept(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start()
    await moved(manager, world, V1, V2, V3)

    assert manager.previous.kept == V2
    await until(lambda: set(manager.harnesses) == {V2, V3})
    assert not world.alive(V1)


async def test_what_the_alias_names_is_kept_and_else_what_production_left(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    """An alias that nobody moved along names a version that is long gone."""
    manager = start()
    await moved(manager, world, V1, V2)
    manager.set_aspired({PRODUCTION: V3, ROLLBACK: V1})
    await until(lambda: manager.bound[PRODUCTION] == V3)
    assert (manager.previous.version, manager.previous.kept) == (V1, V1)
    await until(lambda: not world.alive(V2))

    manager.set_aspired({PRODUCTION: V4, ROLLBACK: V2})
    await until(lambda: manager.bound[PRODUCTION] == V4)
    assert (manager.previous.version, manager.previous.kept) == (V2, V3)
    assert world.loads.count(V2) == 1, "nothing is loaded in order to be kept"
    manager.set_aspired({PRODUCTION: V4, ROLLBACK: V4})
    assert manager.previous.version is None


async def test_a_promotion_that_moves_one_alias_after_the_other_keeps_what_production_left(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    """Each of its writes may be what a poll sees."""
    manager = start()
    both = {PRODUCTION: V1, CANARY: V2}
    for named in (both, {**both, ROLLBACK: V1}, {**both, ROLLBACK: V1, PRODUCTION: V2}):
        manager.set_aspired(named)
        await until(lambda: manager.bound == manager.aspired)
    manager.set_aspired({PRODUCTION: V2, ROLLBACK: V1})

    assert manager.previous.version == manager.previous.kept == V1
    assert world.alive(V1)
    assert world.loads == [V1, V2]


async def test_a_version_that_serves_a_canary_is_not_kept_beside_but_counts_as_loaded(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start(keep_previous_seconds=0)
    await moved(manager, world, V1)
    manager.set_aspired({PRODUCTION: V2, CANARY: V1})
    await until(lambda: manager.bound == {PRODUCTION: V2, CANARY: V1})

    assert (manager.previous.version, manager.previous.kept) == (V1, None)
    assert manager.previous.workers_of(V1) is not None


@pytest.mark.parametrize(("total", "kept"), [(7, 2), (6, 2), (5, 1), (4, 0)])
async def test_a_canary_that_needs_the_memory_takes_the_further_workers_first_and_then_the_last_one(
    start: Callable[..., ModelManager], world: Tight, total: int, kept: int
) -> None:
    """All its workers where memory allows, else one, else none; production keeps its own meanwhile."""
    world.total = 7 * world.worker_bytes
    manager = start(workers=2)
    await moved(manager, world, V1, V2)
    world.total = total * world.worker_bytes
    manager.set_aspired({PRODUCTION: V2, CANARY: V3})
    await until(lambda: len(world.alive(V3)) == 2)

    assert len(world.alive(V1)) == kept
    assert manager.previous.lost_because(V1) == ("" if kept == 2 else "memory was needed")
    assert len(world.alive(V2)) == 2
    assert world.loads.count(V1) == world.loads.count(V2) == world.loads.count(V3) == 2


async def test_with_one_worker_left_as_many_are_loaded_beside_it_after_the_rollback(
    start: Callable[..., ModelManager], world: Tight, facts: Facts
) -> None:
    manager = start(workers=3)
    await moved(manager, world, V1, V2)
    manager.previous.give_room()
    await until(lambda: len(world.alive(V1)) == 1)
    assert world.loads.count(V1) == 3
    manager.set_aspired({PRODUCTION: V1})
    assert manager.bound == {PRODUCTION: V1}
    assert manager.can_answer

    await until(lambda: len(world.alive(V1)) == 3)
    assert facts.of(WorkerReplaced) == [], "no worker had ended by itself"


async def test_production_that_needs_the_memory_for_its_further_workers_gets_it(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    world.total = 4 * world.worker_bytes
    manager = start(workers=3)
    await moved(manager, world, V1, V2)

    assert len(world.alive(V2)) == 3
    assert len(world.alive(V1)) == 1


async def test_a_spare_gets_the_memory_of_what_is_kept(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    world.load_seconds = 5.0  # so that production wants a spare
    world.total = 4 * world.worker_bytes + world.worker_bytes // 2
    manager = start(workers=2)
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: len(world.alive(V1)) == 3)
    manager.set_aspired({PRODUCTION: V2})
    await until(lambda: manager.bound[PRODUCTION] == V2 and len(world.alive(V1)) <= 2)
    manager.look_for_room()  # that of the former spare has come free

    await until(lambda: len(world.alive(V2)) == 3)
    assert manager.harnesses[V2].pool.supply.spare is not None
    assert len(world.alive(V1)) == 1


async def test_where_nothing_is_left_for_what_serves_to_grow_it_goes_step_by_step(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start(workers=2)
    await moved(manager, world, V1, V2)
    manager.look_for_room()
    assert len(world.alive(V1)) == 2
    world.total = 4 * world.worker_bytes + world.worker_bytes // 4

    manager.look_for_room()
    await until(lambda: len(world.alive(V1)) == 1)
    manager.look_for_room()
    assert len(world.alive(V1)) == 1, "that was enough"
    world.total = 3 * world.worker_bytes

    def is_gone() -> bool:
        manager.look_for_room()  # as each tick of the loop does
        return not world.alive(V1)

    await until(is_gone)


async def test_a_worker_that_ends_is_not_replaced_and_without_one_nothing_is_kept(
    start: Callable[..., ModelManager], world: Tight, facts: Facts
) -> None:
    manager = start(workers=2)
    await moved(manager, world, V1, V2)
    world.alive(V1)[0].kill()
    await until(lambda: len(manager.harnesses[V1].pool.workers) == 1)
    manager.harnesses[V1].ensure_workers()
    await asyncio.sleep(0.01)
    assert world.loads.count(V1) == 2

    world.alive(V1)[0].kill()
    await until(lambda: V1 not in manager.harnesses)
    assert manager.previous.kept is None
    assert manager.previous.lost_because(V1) == "its last worker ended"
    assert world.loads.count(V1) == 2
    assert facts.of(WorkerReplaced) == []
    manager.set_aspired({PRODUCTION: V1})
    assert manager.bound == {PRODUCTION: V2}, "bound to a version without a worker"
    await until(lambda: manager.bound == {PRODUCTION: V1})


async def test_requests_that_run_when_production_moves_are_answered_by_the_version_they_were_given(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start()
    await moved(manager, world, V1)
    world.held = True
    ends_at = asyncio.get_running_loop().time() + 5
    first = manager.serving(V1).submit(QUERY, PRODUCTION, ends_at)
    await until(lambda: world.alive(V1)[0].frames)
    second = manager.serving(V1).submit(QUERY, PRODUCTION, ends_at)
    await moved(manager, world, V2)
    assert manager.previous.kept == V1
    [worker] = world.alive(V1)
    worker.release()
    assert (await first.answer).body == b"v1"

    world.held = False
    worker.kill()
    assert (await second.answer).body == b"v1", "by a worker that was loaded for what still waited"
    await until(lambda: not world.alive(V1))


async def test_changed_settings_load_no_workers_of_what_is_kept_until_it_serves_again(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start()
    await moved(manager, world, V1, V2)
    manager.apply_settings(kept_for(3600, nan="null"))
    await until(lambda: manager.harnesses[V2].pool.supply.spec.nan_is_null)
    assert world.loads.count(V1) == 1
    workers = manager.previous.workers_of(V1)
    assert workers is not None
    assert workers.outdated

    manager.set_aspired({PRODUCTION: V1})
    assert manager.bound == {PRODUCTION: V1}
    await until(lambda: manager.harnesses[V1].pool.supply.spec.nan_is_null)
    assert world.loads.count(V1) == 2


async def test_another_choice_of_production_loads_no_workers_of_what_is_kept(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(1),)}
    manager = start()
    await moved(manager, world, V1, V2)
    await asyncio.sleep(0.01)
    assert world.loads == [V1, V2]

    manager.set_aspired({PRODUCTION: V2, CANARY: V1})
    assert manager.bound == {PRODUCTION: V2, CANARY: V1}
    await until(lambda: world.loads == [V1, V2, V1])


async def test_what_is_being_loaded_for_production_ends_when_it_is_kept(
    start: Callable[..., ModelManager], world: Tight, facts: Facts
) -> None:
    manager = start(workers=2)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2 and len(world.alive(V2)) == len(world.alive(V1)) == 2)
    world.slow_loads = asyncio.Event()
    world.alive(V1)[0].kill()
    await until(lambda: world.loads.count(V1) == 3)
    manager.set_aspired({PRODUCTION: V2})
    assert manager.previous.kept == V1
    world.slow_loads.set()
    await asyncio.sleep(0.01)

    assert len(world.alive(V1)) == 1
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: len(world.alive(V1)) == 2)
    assert len(facts.of(VersionLoaded)) == 2


async def test_a_model_that_leaves_the_configuration_leaves_nothing_kept(
    start: Callable[..., ModelManager], models: ModelSet, world: Tight
) -> None:
    await moved(start(), world, V1, V2)
    assert models.versions == {V1, V2}
    models.apply({"other": settings()})
    await until(lambda: not world.alive(V1) and not world.alive(V2))

    await until(lambda: models.versions == set())


async def test_all_models_come_down_to_one_kept_worker_before_one_loses_its_last(
    models: ModelSet, world: Tight
) -> None:
    models.apply({name: kept_for(3600, workers=2) for name in ("a", "b")})
    for name in ("a", "b"):
        models.managers[name].first_poll_ended()
    for name in ("a", "b"):
        await moved(models.managers[name], world, VersionId(name, 1), VersionId(name, 2))
    world.total = 8 * world.worker_bytes
    models.managers["a"].set_aspired({PRODUCTION: VersionId("a", 2), CANARY: VersionId("a", 3)})
    await until(lambda: len(world.alive(VersionId("a", 3))) == 2)

    assert [len(world.alive(VersionId(name, 1))) for name in ("a", "b")] == [1, 1]
    assert all(len(world.alive(VersionId(name, 2))) == 2 for name in ("a", "b"))


async def test_what_a_rollback_goes_back_to_is_in_use_though_it_is_not_loaded(
    start: Callable[..., ModelManager], models: ModelSet
) -> None:
    manager = start(keep_previous_seconds=0)
    manager.set_aspired({PRODUCTION: V2, ROLLBACK: V1})
    await until(lambda: manager.ready)

    assert models.versions == {V1, V2}
    routes = models.table.models["sentiment"]
    assert set(routes.bound) | routes.aspired == {PRODUCTION}
    assert assign_version(routes, 1) is None


async def test_the_record_of_what_served_names_what_a_rollback_goes_back_to(
    start: Callable[..., ModelManager], world: Tight
) -> None:
    manager = start(warm_up="required")
    manager.set_aspired_from_cache({PRODUCTION: V2, ROLLBACK: V1})
    await until(lambda: manager.ready)

    assert manager.aspired == {PRODUCTION: V2}
    assert manager.previous.version == V1
    assert manager.has_served(V1), "its warm-up would hold a rollback"
    assert world.loads == [V2]


@dataclass
class Watched(Tight):
    """Notes loads of versions that are kept."""

    manager: ModelManager | None = None
    in_vain: list[VersionId] = field(default_factory=list)

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        assert self.manager is not None
        if spec.version == self.manager.previous.kept:
            self.in_vain.append(spec.version)
        await asyncio.sleep(0.5)
        return await super().load(spec, deadline_seconds=deadline_seconds)


VERSIONS = st.sampled_from((V1, V2, V3))
POLLS = st.dictionaries(st.sampled_from((CANARY, ROLLBACK)), VERSIONS, max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), VERSIONS, POLLS),
        st.tuples(st.just("kill"), VERSIONS, st.booleans()),
        st.tuples(st.just("room"), st.integers(2, 7), st.none()),
        st.tuples(st.just("keep"), st.sampled_from((0.0, 20.0)), st.sampled_from((1, 2))),
        st.tuples(st.just("wait"), st.sampled_from((0.2, 3.0, 30.0)), st.none()),
    ),
    min_size=5,
    max_size=25,
)


@tried(max_examples=examples(80), deadline=None)
@given(STEPS)
def test_whatever_happens_one_version_is_kept_at_most_and_what_serves_gets_all_its_workers(
    steps: list[tuple[str, Any, Any]],
) -> None:
    run(play(steps))


async def play(steps: list[tuple[str, Any, Any]]) -> None:
    world, facts = Watched(load_seconds=2.0), Facts()
    models = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(600.0)))
    keys = {"load_memory_mib": 100, "workers": 2}
    models.apply({"sentiment": kept_for(20.0, **keys)})
    manager = world.manager = models.managers["sentiment"]
    for version in (V1, V2):
        manager.set_aspired({PRODUCTION: version})
        await asyncio.sleep(2)
    assert manager.previous.kept_workers == 2
    for what, first, second in steps:
        match what:
            case "poll":
                manager.set_aspired({PRODUCTION: first, **second})
            case "kill":
                for worker in world.alive(first)[: None if second else 1]:
                    worker.kill()
            case "room":
                world.total = first * world.worker_bytes + world.worker_bytes // 2
            case "keep":
                models.apply({"sentiment": kept_for(first, **keys | {"workers": second})})
            case "wait":
                await asyncio.sleep(first)
        manager.look_for_room()
        await settle()
        wanted = {*manager.aspired.values(), *manager.bound.values()}
        ready = {version for version, harness in manager.harnesses.items() if harness.state is State.READY}
        assert ready - wanted <= {manager.previous.kept}
        assert PRODUCTION in manager.bound
    assert world.in_vain == [], "loaded though nobody asks for it"

    world.total = 1 << 40
    manager.look_for_room()
    await asyncio.sleep(700)
    assert manager.bound == manager.aspired
    assert manager.previous.kept is None, "its time is over"
    for version in set(manager.bound.values()):
        assert len(manager.harnesses[version].pool.workers) == manager.settings.workers
    assert set(manager.harnesses) == set(manager.bound.values())
    await models.close(0.0)
