"""What must not leave a version without workers, a worker without an owner, or a model without its series."""

import asyncio

import pytest

from router.core.events import LoadRefused, ModelRemoved
from router.core.ids import CANARY, PRODUCTION
from router.core.policy import State
from router.protocol.messages import LoadSpec, Query
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

HALF = {"production": 50, "canary": 50}


@pytest.fixture
def out_of_descriptors(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Loads raise what no contract names, until this is undone."""

    async def load(spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(world, "load", load)
    return monkeypatch


async def test_a_load_that_fails_in_an_unforeseen_way_is_reported_and_tried_again(
    models: ModelSet, facts: Facts, out_of_descriptors: pytest.MonkeyPatch
) -> None:
    out_of_descriptors.setattr("router.serving.harness.LOAD_DELAYS", (0.01,))
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: facts.of(LoadRefused))
    assert "Too many open files" in facts.of(LoadRefused)[0].error

    out_of_descriptors.undo()
    await until(lambda: manager.bound == {PRODUCTION: V1})


async def test_a_version_that_did_not_load_is_fetched_afresh(
    models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.serving.harness.LOAD_DELAYS", (0.01,))
    world.broken.add(V1)
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: len(world.fetches) >= 2)
    world.broken.clear()
    await until(lambda: manager.bound == {PRODUCTION: V1})

    assert world.fetches[:2] == [(V1, False), (V1, True)]


async def test_a_replacement_that_fails_in_an_unforeseen_way_comes_later(
    serving: ModelSet, world: FakeWorld, out_of_descriptors: pytest.MonkeyPatch
) -> None:
    pool = serving.managers["sentiment"].serving(V1).pool
    world.alive(V1)[0].kill()
    await until(lambda: "Too many open files" in pool.supply.last_error)

    out_of_descriptors.undo()
    await until(lambda: world.alive(V1))
    assert pool.supply.last_error == ""


async def test_a_model_that_is_put_back_while_it_retires_keeps_its_routes_and_its_series(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    former = serving.managers["sentiment"]
    world.held = True
    now = asyncio.get_running_loop().time()
    running = former.serving(V1).submit(Query(b"{}", None), PRODUCTION, now + 5)
    [busy] = world.alive(V1)
    world.slow_loads = asyncio.Event()
    former.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: V3 in world.loads)

    serving.apply({"other": settings()})
    serving.apply({"sentiment": settings(split=HALF)})
    world.slow_loads.set()
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)
    busy.release()
    await running.answer
    await until(lambda: not former.harnesses or all(h.state is State.GONE for h in former.harnesses.values()))
    await asyncio.sleep(0.01)

    assert serving.table.models["sentiment"].bound == {PRODUCTION: V1, CANARY: V2}
    assert [fact.model for fact in facts.of(ModelRemoved)] == ["other"]


async def test_closing_ends_a_model_that_still_retires(serving: ModelSet, world: FakeWorld) -> None:
    world.held = True
    now = asyncio.get_running_loop().time()
    serving.managers["sentiment"].serving(V1).submit(Query(b"{}", None), PRODUCTION, now + 60)
    serving.apply({"other": settings()})

    await asyncio.wait_for(serving.close(0.0), 2.0)
    assert not world.alive(V1)


async def test_scores_that_change_while_a_version_loads_are_counted_once_it_serves(
    models: ModelSet, world: FakeWorld
) -> None:
    world.slow_loads = asyncio.Event()
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: V1 in world.loads)
    models.apply({"sentiment": settings(split=HALF, scores={"range": [0, 2]})})
    world.slow_loads.set()

    await until(lambda: manager.bound == {PRODUCTION: V1})
    await until(lambda: manager.serving(V1).pool.supply.spec.scores == manager.settings.scores.outputs)


async def test_of_two_changes_of_scores_the_last_one_holds(serving: ModelSet, world: FakeWorld) -> None:
    manager = serving.managers["sentiment"]
    world.slow_loads = asyncio.Event()
    serving.apply({"sentiment": settings(split=HALF, scores={"range": [0, 10]})})
    serving.apply({"sentiment": settings(split=HALF, scores={"range": [0, 20]})})
    world.slow_loads.set()

    await until(lambda: manager.serving(V1).pool.supply.spec.scores == manager.settings.scores.outputs)
    await until(lambda: len(world.alive(V1)) == 1)


async def test_a_version_let_go_while_its_scores_change_leaves_no_worker(
    serving: ModelSet, world: FakeWorld
) -> None:
    world.slow_loads = asyncio.Event()
    serving.apply({"sentiment": settings(split=HALF, scores={"range": [0, 2]})})
    await until(lambda: world.loads.count(V2) == 2)
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1})
    world.slow_loads.set()

    await until(lambda: V2 not in serving.managers["sentiment"].harnesses)
    assert not world.alive(V2)
