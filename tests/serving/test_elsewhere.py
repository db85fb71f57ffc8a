"""The requests of a version that runs elsewhere: each is sent once, and nobody waits for what is gone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.core.events import WorkerEnded
from router.core.ids import PRODUCTION, VersionId
from router.errors import DeadlineExceeded, NotReady, WorkerDied
from router.protocol.messages import Batching, LoadSpec, Query
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.pool import request_queue
from router.serving.pool.pool import Pool
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, FakeVersion, pool_of, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

WHERE = {"http": "http://sentiment-v{version}.models"}
SEPARATE = Batching(merges=False, why="elsewhere")


@pytest.fixture
def version() -> FakeVersion:
    return FakeVersion({"where": WHERE, "predict_timeout_seconds": 0.1}, is_production=True)


@pytest.fixture
async def pool(world: FakeWorld, facts: Facts, version: FakeVersion) -> AsyncIterator[Pool]:
    world.batching, world.threads, world.apart, world.held = SEPARATE, 8, True, True
    pool = pool_of(version, world, facts)
    await pool.start()
    yield pool
    await pool.close(0.0)


async def running(pool: Pool, seconds: float = 5.0, body: bytes = b"{}") -> request_queue.PendingRequest:
    expires_at = asyncio.get_running_loop().time() + seconds
    request = pool.submit(Query(body, None), PRODUCTION, expires_at)
    await asyncio.sleep(0)
    return request


async def test_a_request_that_takes_too_long_is_given_up_alone(pool: Pool, world: FakeWorld) -> None:
    [worker] = world.workers
    late = await running(pool)
    await asyncio.sleep(0.05)
    good = await running(pool)

    with pytest.raises(DeadlineExceeded, match=r"longer than 0.1 s"):
        await late.answer
    world.workers[0].release()  # the late one, for nobody
    worker.release()

    assert (await good.answer).status == 200
    assert worker.given_up == [1]
    assert not worker.exited.done()
    assert pool.leases == 0


async def test_what_the_gateway_asks_by_itself_keeps_no_request_waiting(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    """There is one worker, and what hangs there hangs until predict_timeout_seconds."""
    version.keys["predict_timeout_seconds"] = 5.0
    [worker] = world.workers
    before = await running(pool)
    lone = pool.ask_idle(Query(b"{}", None))
    assert lone is not None
    beside = [await running(pool) for _ in range(6)]
    assert (pool.queued, len(worker.frames)) == (0, 8)
    assert pool.ask_idle(Query(b"{}", None)) is None  # all its connections are in use

    lone.end()

    assert worker.given_up == [2]
    with pytest.raises(WorkerDied):
        await lone.answer
    worker._unanswered.pop(1)
    for _ in range(7):
        worker.release()
    assert [(await request.answer).status for request in (before, *beside)] == [200] * 7
    assert not worker.exited.done()
    assert pool.leases == 0


async def test_many_that_take_too_long_at_once_are_all_given_up(pool: Pool, world: FakeWorld) -> None:
    requests = [await running(pool) for _ in range(8)]

    for request in requests:
        with pytest.raises(DeadlineExceeded):
            await request.answer

    assert sorted(world.workers[0].given_up) == list(range(1, 9))
    assert pool.leases == 0


async def test_a_request_that_fails_by_itself_makes_room_for_the_next(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["predict_timeout_seconds"] = 5.0
    [worker] = world.workers
    requests = [await running(pool) for _ in range(9)]
    assert (pool.queued, len(worker.frames)) == (1, 8)

    worker._unanswered.pop(2)
    worker.on_failed(3, 0, WorkerDied("reset"))

    with pytest.raises(WorkerDied, match="reset"):
        await requests[2].answer
    await until(lambda: len(worker.frames) == 9)
    assert pool.leases == 8
    worker.on_failed(3, 0, WorkerDied("twice"))  # of what is over nothing comes
    assert pool.leases == 8


async def test_when_it_is_lost_nothing_is_asked_again_and_nobody_waits(
    pool: Pool, world: FakeWorld, facts: Facts, version: FakeVersion
) -> None:
    """A local version's other requests would be asked again of the next worker."""
    version.keys["predict_timeout_seconds"] = 5.0
    requests = [await running(pool) for _ in range(10)]
    [worker] = world.workers
    world.slow_loads = asyncio.Event()
    worker.kill()

    for request in requests[:8]:
        with pytest.raises(WorkerDied):
            await request.answer
    for request in requests[8:]:  # they waited in the queue, and were never sent
        with pytest.raises(NotReady):
            await request.answer
    with pytest.raises(NotReady):  # at once, though it may be back soon
        await running(pool)

    world.slow_loads.set()
    await until(lambda: bool(pool.workers))
    assert [frame for one in world.workers[1:] for frame in one.frames] == []
    assert [one.reason for one in facts.of(WorkerEnded)] == ["signal"]


async def test_there_is_one_whatever_the_settings_say_and_none_to_spare(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys.update(workers=4)
    world.load_seconds = 10.0
    pool.settings_changed()
    pool.fill()
    await asyncio.sleep(0.05)

    assert len(world.workers) == 1
    assert pool.supply.spare is None


async def test_its_load_waits_for_no_memory_and_no_other_load(world: FakeWorld, facts: Facts) -> None:
    """What waits ten minutes for an engine must not keep other versions from loading."""
    world.available = 1 << 20
    models = ModelSet(
        VersionDependencies(
            world, world, world.environments, facts, LoadLimits(5.0, side_by_side=1), addresses=world
        )
    )
    models.apply({"sentiment": settings(where=WHERE)})
    manager = models.managers["sentiment"]
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: world.loads == [V1])
    try:
        async with asyncio.timeout(1):
            async with models._dependencies.gate.admitted(
                LoadSpec(VersionId("other", 1), "/cache", None), FakeVersion(), 1
            ):
                pass
        world.slow_loads.set()
        await until(lambda: manager.can_answer)
        manager.set_aspired({PRODUCTION: V2})
        await until(lambda: manager.bound[PRODUCTION] == V2)
    finally:
        await models.close(0.0)
