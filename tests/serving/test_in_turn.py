"""Versions that can not be beside each other: what is replaced ends before the next one is loaded."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from router.core.events import AliasBound, AliasWithoutVersion, LoadRefused, WorkerEnded
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.memory import MIB
from router.core.policy import State
from router.core.routing import Reason
from router.core.split import BUCKETS
from router.errors import NotReady
from router.processes.process import Exit
from router.protocol.messages import Answer, LoadSpec, PredictStatus, Query
from router.serving import harness as harnesses
from router.serving.dispatch import Dispatcher
from router.serving.load_gate import LoadLimits
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool import supply, upkeep
from router.serving.pool.pool import Pool
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, V3, FakeVersion, pool_of, settings
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"
HALF = {"production": 50, "canary": 50}
CRASHED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)


@dataclass
class OnePort(FakeWorld):
    """Each worker of the versions in `bind` holds the one port there is, and takes a while to end."""

    bind: set[VersionId] = field(default_factory=lambda: {V1, V3})
    beside: list[str] = field(default_factory=list)
    """Loads that met another one, which is what must not be."""
    loading: set[object] = field(default_factory=set)
    drawn: random.Random = field(default_factory=lambda: random.Random(1))

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        if spec.version not in self.bind:
            return await super().load(spec, deadline_seconds=deadline_seconds)
        holding = [worker.version for worker in self.workers if self.holds(worker)]
        if holding or self.loading:
            self.beside.append(f"{spec.version} beside {holding or 'a load'}")
        load = object()
        self.loading.add(load)
        try:
            await asyncio.sleep(0.001 * self.drawn.random())
            worker = await super().load(spec, deadline_seconds=deadline_seconds)
        finally:
            self.loading.discard(load)
        self.slow_to_end(worker)
        return worker

    def slow_to_end(self, worker: FakeWorker) -> None:
        loop, end = asyncio.get_running_loop(), worker._end

        def later(how: Exit) -> None:
            loop.call_later(0.002 * self.drawn.random(), end, how)

        async def closed(grace_seconds: float = 1.0) -> Exit:
            later(Exit(0))
            return await asyncio.shield(worker.exited)

        worker._end = later  # type: ignore[method-assign]
        worker.close = closed  # type: ignore[method-assign]

    def holds(self, worker: FakeWorker) -> bool:
        return worker.version in self.bind and not worker.exited.done()


@pytest.fixture
def world() -> OnePort:
    return OnePort(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})


@pytest.fixture
async def models(world: OnePort, facts: Facts) -> AsyncIterator[ModelSet]:
    """V1 is production, V2 the canary; production's versions hold one port."""
    models = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0)))
    models.apply({"sentiment": settings(split=HALF, replace="in_turn")})
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)
    yield models
    await models.close(0.0)
    assert world.beside == []


@pytest.fixture
def manager(models: ModelSet) -> ModelManager:
    return models.managers["sentiment"]


async def test_production_ends_before_the_next_version_is_loaded_and_the_outage_is_reported(
    models: ModelSet, manager: ModelManager, world: OnePort, facts: Facts
) -> None:
    dispatcher = Dispatcher(models, facts)
    [old] = world.alive(V1)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: V3 in world.loads)

    assert old.exited.done()
    assert facts.of(AliasWithoutVersion) == [AliasWithoutVersion("sentiment", PRODUCTION, V1, V3)]
    assert (manager.can_answer, manager.out_of_service, models.ready) == (False, {PRODUCTION}, False)
    assert manager.bound[PRODUCTION] == V1, "production is never unbound"
    refused = await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)
    assert isinstance(refused.result, NotReady)
    canary = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    assert canary.answered_by.alias == CANARY
    assert V1 in models.versions, "its files are kept: it may have to come back"

    world.slow_loads.set()
    await until(lambda: manager.can_answer)
    assert manager.bound[PRODUCTION] == V3
    served = await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)
    assert served.answered_by.version == V3


async def test_a_canary_that_fails_while_production_is_out_is_neither_at_fault_nor_sound(
    models: ModelSet, manager: ModelManager, world: OnePort, facts: Facts
) -> None:
    """Whether production could have answered is not known."""
    dispatcher = Dispatcher(models, facts)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: V3 in world.loads)
    world.answers[V2] = CRASHED

    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    assert isinstance(served.result, NotReady)
    breaker = manager.breakers.of(CANARY, V2)
    assert breaker is not None
    assert breaker.view().requests == 0
    world.slow_loads.set()
    await until(lambda: manager.can_answer)


async def test_requests_that_run_are_answered_before_the_version_ends(
    models: ModelSet, manager: ModelManager, world: OnePort
) -> None:
    world.held = True
    loop = asyncio.get_running_loop()
    pending = manager.serving(V1).submit(QUERY, PRODUCTION, loop.time() + 5)
    [old] = world.alive(V1)
    await until(lambda: old.frames)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.harnesses[V1].state is State.DRAINING)
    with pytest.raises(NotReady, match="is being replaced, in turn"):
        manager.serving(V1)
    assert V3 not in world.loads
    old.release()

    assert (await pending.answer).body == b"v1"
    await until(lambda: manager.bound[PRODUCTION] == V3)


async def test_files_that_do_not_come_are_no_outage(manager: ModelManager, world: OnePort) -> None:
    [old] = world.alive(V1)
    world.unfetchable.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.harnesses[V3].state is State.ERROR)

    assert manager.can_answer
    assert not old.exited.done()
    assert manager.harnesses[V3].retry_seconds == harnesses.LOAD_DELAYS[0]


async def test_if_the_next_one_does_not_load_the_old_one_is_loaded_again_and_serves(
    models: ModelSet, manager: ModelManager, world: OnePort, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try would be the next outage: there is none before somebody changed something."""
    monkeypatch.setattr(harnesses, "LOAD_DELAYS", (0.005,))
    world.broken.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: world.loads.count(V1) == 2 and manager.can_answer)
    await asyncio.sleep(0.05)

    assert manager.bound[PRODUCTION] == V1
    assert world.loads.count(V3) == 1
    refused = manager.harnesses[V3]
    assert (refused.state, refused.retry_seconds) == (State.ERROR, None)
    assert facts.of(LoadRefused)[-1].retry_seconds is None
    assert [bound.new for bound in facts.of(AliasBound) if bound.alias == PRODUCTION] == [V1, V1]

    world.broken.clear()
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.bound[PRODUCTION] == V3 and manager.can_answer)


async def test_where_neither_loads_both_are_tried_with_pauses_until_one_does(
    manager: ModelManager, world: OnePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harnesses, "LOAD_DELAYS", (0.02,))
    world.broken |= {V1, V3}
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: world.loads.count(V3) >= 3 and world.loads.count(V1) >= 3)
    assert len(world.loads) < 60
    world.broken.discard(V3)

    await until(lambda: manager.bound[PRODUCTION] == V3 and manager.can_answer)


async def test_changed_settings_and_another_mode_try_again_at_once(
    models: ModelSet, manager: ModelManager, world: OnePort
) -> None:
    world.broken.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: world.loads.count(V1) == 2 and manager.can_answer)
    models.apply({"sentiment": settings(split=HALF, replace="in_turn", nan="null")})
    await until(lambda: world.loads.count(V3) == 2 and manager.can_answer)
    world.broken.clear()
    world.bind.clear()
    models.apply({"sentiment": settings(split=HALF, nan="null")})

    await until(lambda: manager.bound[PRODUCTION] == V3)


async def test_an_alias_that_moves_back_while_the_old_version_drains_reloads_nothing(
    manager: ModelManager, world: OnePort
) -> None:
    world.held = True
    pending = manager.serving(V1).submit(QUERY, PRODUCTION, asyncio.get_running_loop().time() + 5)
    [old] = world.alive(V1)
    await until(lambda: old.frames)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.harnesses[V1].state is State.DRAINING)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    old.release()

    assert (await pending.answer).body == b"v1"
    assert manager.can_answer
    assert world.loads == [V1, V2]


async def test_a_canary_is_out_of_the_split_while_it_is_replaced_and_production_has_its_share(
    models: ModelSet, manager: ModelManager, world: OnePort, facts: Facts
) -> None:
    dispatcher = Dispatcher(models, facts)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: not world.alive(V2) and V3 in world.loads)

    assert manager.out_of_service == {CANARY}
    routes = models.table.models["sentiment"]
    assert routes.split_in_force.shares()[PRODUCTION] == BUCKETS
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    assert (served.answered_by.version, served.reason) == (V1, Reason.CANARY_NOT_READY)
    world.bind.clear()
    world.slow_loads.set()
    await until(lambda: models.table.models["sentiment"].split_in_force.shares().get(CANARY) == BUCKETS / 2)
    assert manager.bound[CANARY] == V3
    world.beside.clear()  # two aliases of which each holds the port: that is not what a turn is about


async def test_a_promotion_of_a_canary_that_serves_is_no_outage(
    manager: ModelManager, world: OnePort, facts: Facts
) -> None:
    manager.set_aspired({PRODUCTION: V2})
    await until(lambda: manager.bound == {PRODUCTION: V2})
    assert facts.of(AliasWithoutVersion) == []
    assert manager.can_answer


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_happens_in_whatever_order_no_two_workers_are_ever_beside_each_other(
    facts: Facts, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aliases move, workers die or grow, settings change, loads fail; in the end the version named serves."""
    monkeypatch.setattr(harnesses, "LOAD_DELAYS", (0.003,))
    monkeypatch.setattr(supply, "REPLACEMENT_DELAYS", (0.001,))
    monkeypatch.setattr(supply, "RELOAD_DELAYS", (0.002,))
    monkeypatch.setattr(upkeep, "MEMORY_LOOK_SECONDS", 0.002)
    drawn = random.Random(seed)
    world = OnePort(load_seconds=5.0, bind={V1, V2, V3}, drawn=drawn)
    models = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0)))
    keys = {"split": {"production": 100}, "replace": "in_turn", "worker_memory_mib": 64}
    models.apply({"sentiment": settings(**keys)})
    manager = models.managers["sentiment"]
    for _ in range(40):
        alive = [worker for worker in world.workers if not worker.exited.done()]
        match drawn.choice(("move", "move", "kill", "grow", "break", "mend", "settings")):
            case "move":
                manager.set_aspired({PRODUCTION: drawn.choice((V1, V2, V3))})
            case "kill" if alive:
                alive[-1].kill()
            case "grow" if alive:
                alive[-1].grown_bytes = 65 * MIB
            case "break":
                world.broken.add(drawn.choice((V1, V2, V3)))
            case "mend":
                world.broken.clear()
            case "settings":
                keys["batching_rtol"] = drawn.choice((1e-9, 1e-6, 1e-3))
                models.apply({"sentiment": settings(**keys)})
        await asyncio.sleep(drawn.choice((0.0, 0.0, 0.001, 0.004)))

    world.broken.clear()
    manager.set_aspired({PRODUCTION: V1})
    manager.set_aspired({PRODUCTION: V3})
    await until(lambda: manager.bound.get(PRODUCTION) == V3 and manager.can_answer, 5.0)
    await models.close(0.0)
    assert world.beside == []


# One version's workers


@pytest.fixture
def version() -> FakeVersion:
    return FakeVersion({"replace": "in_turn", "worker_memory_mib": 64}, is_production=True)


@pytest.fixture
async def pool(world: OnePort, facts: Facts, version: FakeVersion) -> AsyncIterator[Pool]:
    world.load_seconds = 5.0
    pool = pool_of(version, world, facts)
    await pool.start()
    yield pool
    await pool.close(0.0)
    assert world.beside == []


async def test_there_is_no_spare_and_no_extra_worker(
    pool: Pool, world: OnePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "SURGE_LOOK_SECONDS", 0.002)
    monkeypatch.setattr(upkeep, "STUCK_SECONDS", 0.005)
    world.held = True
    expires_at = asyncio.get_running_loop().time() + 5
    running, waiting = (pool.submit(QUERY, PRODUCTION, expires_at) for _ in range(2))
    await asyncio.sleep(0.05)

    assert world.loads == [V1]
    assert pool.supply.spare is None
    world.held = False
    world.workers[0].release_all()
    await running.answer
    await waiting.answer


async def test_changed_settings_load_the_new_worker_after_the_old_one_has_ended(
    pool: Pool, world: OnePort
) -> None:
    [old] = world.workers
    changed = LoadSpec(V1, "/cache", None, batches=False)
    await pool.replace_workers(changed)

    assert old.exited.done()
    assert pool.supply.spec == changed
    assert [worker.exited.done() for worker in world.workers] == [True, False]


async def test_settings_with_which_it_does_not_load_bring_the_old_worker_back(
    pool: Pool, world: OnePort
) -> None:
    former, load = pool.supply.spec, world.load

    async def picky(spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        if not spec.batches:
            raise NotReady("not so")
        return await load(spec, deadline_seconds=deadline_seconds)

    world.load = picky  # type: ignore[method-assign]
    with pytest.raises(NotReady):
        await pool.replace_workers(LoadSpec(V1, "/cache", None, batches=False))

    await until(lambda: pool.can_answer)
    assert pool.supply.spec == former


async def test_one_that_grew_ends_first_and_requests_wait_for_the_next(
    pool: Pool, world: OnePort, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = world.workers
    old.grown_bytes = 65 * MIB
    await until(lambda: old not in pool.workers)
    pending = pool.submit(QUERY, PRODUCTION, asyncio.get_running_loop().time() + 5)

    assert (await pending.answer).status == 200
    assert old.exited.done()
    [end] = facts.of(WorkerEnded)
    assert end.detail == "it grew by 65 MiB after it was READY, the limit is 64; another joins after it"


async def test_a_second_worker_that_can_not_be_beside_the_first_waits_longer_each_time(
    pool: Pool, world: OnePort, version: FakeVersion
) -> None:
    """`workers: 2` asks for it; each load fails, as its port is taken."""
    load = world.load

    async def taken(spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        world.loads.append(spec.version)
        raise NotReady("address in use")

    world.load = taken  # type: ignore[method-assign]
    version.keys["workers"] = 2
    pool.fill()
    await until(lambda: pool.supply.retry_seconds == supply.RELOAD_DELAYS[0])
    await until(lambda: pool.supply.retry_seconds == supply.RELOAD_DELAYS[1], 5.0)
    assert pool.can_answer
    assert world.loads == [V1, V1, V1]
    world.load = load  # type: ignore[method-assign]
