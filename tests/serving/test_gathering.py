"""An alias moves to a version of several workers when these are there, for the one before has as many."""

import asyncio

import pytest

from router.core.ids import CANARY, PRODUCTION, ROLLBACK, Alias, VersionId
from router.serving import harness
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool import supply
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import FakeWorld
from tests.support.waiting import until


@pytest.fixture
async def three(serving: ModelSet, world: FakeWorld) -> ModelManager:
    """Each version has three workers."""
    serving.apply({"sentiment": settings(workers=3, split={"production": 50, "canary": 50})})
    await until(lambda: len(world.alive(V1)) == len(world.alive(V2)) == 3)
    return serving.managers["sentiment"]


async def first_worker_of_v3(
    manager: ModelManager,
    world: FakeWorld,
    named: dict[Alias, VersionId] | None = None,
    canary: VersionId = V2,
) -> asyncio.Event:
    """Move production to V3, of which one worker is READY; the others are loaded when the event is set."""
    first, others = asyncio.Event(), asyncio.Event()
    world.slow_loads = first
    manager.set_aspired(named or {PRODUCTION: V3, CANARY: canary})
    await until(lambda: V3 in world.loads)
    world.slow_loads = others
    first.set()
    await until(lambda: len(world.alive(V3)) == 1)
    return others


async def moves_to_v3(manager: ModelManager, world: FakeWorld, workers: int) -> None:
    """Production does, and V3 has that many."""
    await until(lambda: manager.bound[PRODUCTION] == V3)
    assert len(world.alive(V3)) == workers


async def test_production_moves_when_all_workers_of_the_next_version_are_there(
    three: ModelManager, world: FakeWorld
) -> None:
    others = await first_worker_of_v3(three, world)
    three.reconcile()
    assert (three.bound[PRODUCTION], len(world.alive(V1))) == (V1, 3)

    others.set()
    await moves_to_v3(three, world, workers=3)


async def test_production_moves_to_what_is_there_when_a_further_worker_does_not_load(
    three: ModelManager, world: FakeWorld
) -> None:
    others = await first_worker_of_v3(three, world)
    world.broken.add(V3)
    others.set()

    await moves_to_v3(three, world, workers=1)


async def test_production_moves_to_what_is_there_after_a_while(
    three: ModelManager, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "GATHER_SECONDS", 0.05)
    await first_worker_of_v3(three, world)

    await moves_to_v3(three, world, workers=1)


async def test_fewer_workers_in_the_settings_are_not_waited_for(
    serving: ModelSet, three: ModelManager, world: FakeWorld
) -> None:
    await first_worker_of_v3(three, world)
    serving.apply({"sentiment": settings(workers=1, split={"production": 50, "canary": 50})})

    await until(lambda: three.bound[PRODUCTION] == V3)


async def test_while_workers_come_one_by_one_none_is_left_out(
    three: ModelManager, world: FakeWorld, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    monkeypatch.setattr(harness, "GATHER_SECONDS", 0.5 * slack)
    second, third = await first_worker_of_v3(three, world), asyncio.Event()
    await asyncio.sleep(0.2 * slack)
    world.slow_loads = third
    second.set()
    await until(lambda: len(world.alive(V3)) == 2)
    await asyncio.sleep(0.4 * slack)
    assert three.bound[PRODUCTION] == V1
    third.set()

    await moves_to_v3(three, world, workers=3)


async def test_a_version_that_begins_as_canary_gathers_all_the_same(
    three: ModelManager, world: FakeWorld
) -> None:
    """Both aliases are set in one poll, and no canary was bound."""
    three.set_aspired({PRODUCTION: V1})
    await until(lambda: CANARY not in three.bound)
    others = await first_worker_of_v3(three, world, canary=V3)
    await until(lambda: three.bound.get(CANARY) == V3)
    assert three.bound[PRODUCTION] == V1
    others.set()

    await moves_to_v3(three, world, workers=3)


@pytest.mark.parametrize("how", ["it was production", "the registry names it as the one before"])
async def test_a_rollback_takes_the_first_worker(three: ModelManager, world: FakeWorld, how: str) -> None:
    """What serves meanwhile may be bad."""
    named = {PRODUCTION: V3, CANARY: V2}
    if how == "it was production":
        three.set_aspired(named)
        await until(lambda: three.bound[PRODUCTION] == V3 and V1 not in three.harnesses)
        three.set_aspired({PRODUCTION: V1, CANARY: V2})
        await until(lambda: three.bound[PRODUCTION] == V1 and V3 not in three.harnesses)
        world.loads.clear()
    else:
        named |= {ROLLBACK: V3}
    await first_worker_of_v3(three, world, named)

    await moves_to_v3(three, world, workers=1)


async def test_where_nothing_answers_any_more_the_first_worker_is_enough(
    three: ModelManager, world: FakeWorld
) -> None:
    await first_worker_of_v3(three, world)
    for worker in world.alive(V1):
        worker.kill()

    await until(lambda: three.bound[PRODUCTION] == V3)


async def test_production_stays_while_the_next_version_has_lost_its_worker(
    three: ModelManager, world: FakeWorld
) -> None:
    others = await first_worker_of_v3(three, world)
    world.alive(V3)[0].kill()
    await until(lambda: not three.serves(V3))
    three.harnesses[V3].gathers_workers = False  # the time is over
    three.reconcile()
    assert three.bound[PRODUCTION] == V1
    others.set()
    await until(lambda: three.serves(V3))
    three.set_aspired({PRODUCTION: V3, CANARY: V2})  # the next poll

    assert three.bound[PRODUCTION] == V3


async def test_changed_settings_take_over_with_as_many_workers_as_there_were(
    serving: ModelSet, three: ModelManager, world: FakeWorld
) -> None:
    before, others = world.alive(V1), asyncio.Event()
    world.slow_loads = others
    serving.apply({"sentiment": settings(workers=3, nan="null")})
    await until(lambda: world.loads.count(V1) == 4)
    assert [slot.worker for slot in three.harnesses[V1].pool.slots] == before
    others.set()

    await until(lambda: not any(worker in before for worker in world.alive(V1)))
    slots = three.harnesses[V1].pool.slots
    assert (len(slots), world.loads.count(V1)) == (3, 6)


async def test_a_worker_with_changed_settings_takes_over_alone_where_no_other_loads(
    serving: ModelSet, three: ModelManager, world: FakeWorld
) -> None:
    before, first = world.alive(V1), asyncio.Event()
    world.slow_loads = first
    serving.apply({"sentiment": settings(workers=3, nan="null")})
    await until(lambda: world.loads.count(V1) == 4)
    world.slow_loads = second = asyncio.Event()
    first.set()
    await until(lambda: world.loads.count(V1) == 5)
    world.broken.add(V1)
    second.set()

    await until(lambda: len(three.harnesses[V1].pool.slots) == 1)
    assert three.harnesses[V1].pool.slots[0].worker not in before


async def test_workers_that_had_no_room_are_loaded_when_the_version_before_has_made_it(
    three: ModelManager, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "RELOAD_DELAYS", (300.0,))
    others = await first_worker_of_v3(three, world)
    available, world.available = world.available, 0
    others.set()  # the second one is let in already
    await until(lambda: three.bound[PRODUCTION] == V3)
    assert len(world.alive(V3)) == 2
    world.available = available
    three.look_for_room()  # as each poll does

    await until(lambda: len(world.alive(V3)) == 3)


async def test_an_alias_that_moves_back_meanwhile_moves_nothing(
    three: ModelManager, world: FakeWorld
) -> None:
    others = await first_worker_of_v3(three, world)
    three.set_aspired({PRODUCTION: V1, CANARY: V2})
    others.set()

    await until(lambda: V3 not in three.harnesses)
    assert (three.bound[PRODUCTION], len(world.alive(V1))) == (V1, 3)
