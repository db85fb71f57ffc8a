"""Workers that outgrow their limit, and spares that have no room."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.core.events import WorkerEnded
from router.core.ids import PRODUCTION
from router.core.memory import MIB
from router.errors import WorkerDied
from router.protocol.messages import Query
from router.serving.pool import upkeep
from router.serving.pool.pool import Pool
from router.serving.pool.request_queue import PendingRequest
from tests.serving.conftest import V1, FakeVersion, pool_of
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

LIMIT_MIB = 64


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come every 5 ms."""
    monkeypatch.setattr(upkeep, "MEMORY_LOOK_SECONDS", 0.005)


@pytest.fixture
def version() -> FakeVersion:
    return FakeVersion({"worker_memory_mib": LIMIT_MIB}, is_production=True)


@pytest.fixture
async def pool(world: FakeWorld, facts: Facts, version: FakeVersion) -> AsyncIterator[Pool]:
    pool = pool_of(version, world, facts)
    await pool.start()
    yield pool
    await pool.close(0.0)


def ask(pool: Pool) -> PendingRequest:
    return pool.submit(Query(b"{}", None), PRODUCTION, asyncio.get_running_loop().time() + 5.0)


async def looks(number: int = 8) -> None:
    await asyncio.sleep(number * 0.005)


def memory_ends(facts: Facts) -> list[str]:
    return [event.detail for event in facts.of(WorkerEnded) if event.reason == "memory"]


async def test_another_worker_joins_before_the_one_that_grew_goes(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.slow_loads = asyncio.Event()
    [old] = world.workers
    old.grown_bytes = (LIMIT_MIB + 1) * MIB
    await until(lambda: len(world.loads) == 2)
    await looks()
    assert pool.workers == [old], "it went before another had joined"
    assert (await ask(pool).answer).status == 200
    world.slow_loads.set()
    await until(old.exited.done)

    assert len(pool.workers) == 1
    assert (await ask(pool).answer).status == 200
    assert memory_ends(facts) == [
        "it grew by 65 MiB after it was READY, the limit is 64; another joined first"
    ]


async def test_the_request_that_runs_is_answered_by_the_worker_that_goes(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    running = ask(pool)
    [old] = world.workers
    old.grown_bytes = 10 * LIMIT_MIB * MIB
    await until(lambda: len(world.workers) == 2)
    queued = ask(pool)  # goes to the one that joined
    await looks()
    assert not old.exited.done()
    world.workers[1].release()
    assert (await queued.answer).status == 200
    old.release()

    assert (await running.answer).status == 200
    await until(old.exited.done)


async def test_a_leak_is_recycled_as_often_as_it_takes_and_no_request_notices(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.leak = MIB
    for _ in range(1000):
        assert (await ask(pool).answer).status == 200
        await asyncio.sleep(0.0003)
    assert len(memory_ends(facts)) >= 3
    assert len(facts.of(WorkerEnded)) == len(memory_ends(facts))


async def test_a_version_that_needs_more_than_its_limit_is_not_recycled_in_a_loop(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    """All of its workers are over it from their first answer on."""
    world.grows_at_once = 2 * LIMIT_MIB * MIB
    for _ in range(60):
        assert (await ask(pool).answer).status == 200
        await asyncio.sleep(0.003)
    assert len(world.loads) == 2
    assert len(memory_ends(facts)) == 1


async def test_one_that_cannot_be_replaced_serves_on_and_is_tried_later(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.broken.add(V1)
    [old] = world.workers
    old.grown_bytes = 10 * LIMIT_MIB * MIB
    await until(lambda: pool.supply.last_error)
    await looks()

    assert len(world.loads) == 2
    assert (await ask(pool).answer).status == 200
    assert memory_ends(facts) == []
    assert not old.exited.done()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predict is a long one at once."""
    monkeypatch.setattr("router.serving.pool.upkeep.RUNAWAY_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_a_predict_that_takes_twice_the_limit_is_ended_after_another_has_joined(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    world.slow_loads = asyncio.Event()
    running = ask(pool)
    [old] = world.workers
    old.grown_bytes = 3 * LIMIT_MIB * MIB
    await looks()
    assert not old.exited.done(), "it was ended before another had joined"
    world.slow_loads.set()

    with pytest.raises(WorkerDied, match="worker_memory_mib"):
        await running.answer
    assert len(pool.workers) == 1
    [report] = memory_ends(facts)
    assert "another joined first, and this one was ended in a predict of" in report


async def test_without_a_limit_nobody_looks_and_one_that_is_set_holds_at_once(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["worker_memory_mib"] = None
    [old] = world.workers
    old.grown_bytes = 10 * LIMIT_MIB * MIB
    await looks(20)
    assert pool.workers == [old]
    assert pool._recycler._looking is None
    version.keys["worker_memory_mib"] = LIMIT_MIB
    pool.fill()  # as after a reload
    await until(old.exited.done)


async def test_a_spare_takes_the_place_at_once(pool: Pool, world: FakeWorld) -> None:
    world.load_seconds = 5.0
    world.workers[0].kill()
    await until(lambda: pool.supply.spare)
    spare = pool.supply.spare
    world.slow_loads = asyncio.Event()  # nothing loads from here on
    [old] = pool.workers
    assert isinstance(old, FakeWorker)
    old.grown_bytes = 2 * LIMIT_MIB * MIB
    await until(old.exited.done)

    assert pool.workers == [spare]
    world.slow_loads.set()


async def test_one_that_dies_while_another_comes_is_counted_as_what_it_was(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.slow_loads = asyncio.Event()
    [old] = world.workers
    old.grown_bytes = 2 * LIMIT_MIB * MIB
    await until(lambda: len(world.loads) == 2)
    old.kill(11)
    world.slow_loads.set()
    await until(lambda: len(world.alive(V1)) == 1 == len(pool.workers))

    assert [event.reason for event in facts.of(WorkerEnded)] == ["signal"]


async def test_a_pool_that_closes_ends_and_reports_those_that_were_leaving(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    running = ask(pool)
    [old] = world.workers
    old.grown_bytes = 2 * LIMIT_MIB * MIB
    await until(lambda: len(world.workers) == 2)
    reported_by_then: list[int] = []
    old.exited.add_done_callback(lambda _: reported_by_then.append(len(memory_ends(facts))))
    await pool.close(0.0)

    with pytest.raises(WorkerDied):
        await running.answer
    assert not world.alive(V1)
    assert pool.leases == 0
    await until(lambda: reported_by_then)
    assert reported_by_then == [len(memory_ends(facts))] == [1], "after its version is gone it is too late"


async def test_there_is_no_spare_where_memory_is_short_and_it_says_so(pool: Pool, world: FakeWorld) -> None:
    world.load_seconds, world.available = 5.0, 199 * MIB
    world.workers[0].kill()
    await until(lambda: pool.supply.spare_skipped_because)
    await until(lambda: len(world.alive(V1)) == 1)
    assert pool.supply.spare is None
    assert (
        pool.supply.spare_skipped_because
        == "no memory for a spare worker: 199 MiB are available, a worker takes 100"
    )

    world.available = 200 * MIB
    pool.fill()
    await until(lambda: pool.supply.spare)
    assert pool.supply.spare_skipped_because == ""
    world.available = 100 * MIB  # what the spare took
    pool.fill()
    await looks()
    assert pool.supply.spare is not None
    world.available = 40 * MIB
    pool.fill()
    await until(lambda: pool.supply.spare is None)
    await until(lambda: len(world.alive(V1)) == 1)
    assert "40 MiB are available" in pool.supply.spare_skipped_because
