"""Workers of one version: deadlines, deaths, and what becomes of the requests in them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.core.events import WorkerEnded, WorkerReplaced
from router.core.ids import PRODUCTION
from router.core.work import LoadSpec, Query
from router.errors import DeadlineExceeded, Overloaded, WorkerDied
from router.serving import tickets
from router.serving.pool import Pool
from tests.serving.conftest import V1, settings
from tests.serving.fakes import Facts, FakeWorld, until


@pytest.fixture
async def pool(world: FakeWorld, facts: Facts) -> AsyncIterator[Pool]:
    limits = settings(predict_timeout_seconds=0.1)
    pool = Pool(LoadSpec(V1, "/cache", None), world, lambda: limits, facts, load_deadline_seconds=lambda: 5.0)
    await pool.start()
    yield pool
    await pool.close(0.0)


def ask(pool: Pool, body: bytes = b"{}", seconds: float = 5.0) -> tickets.Ticket:
    return pool.submit(Query(body, None), PRODUCTION, asyncio.get_running_loop().time() + seconds)


async def test_what_queued_up_while_the_worker_was_busy_is_the_next_frame(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    asked = [ask(pool) for _ in range(5)]
    [worker] = world.workers
    assert [len(frame) for frame in worker.frames] == [1]
    worker.release()
    assert [len(frame) for frame in worker.frames] == [1, 4]
    worker.release_all()
    assert all([(await ticket.answer).body == b"v1" for ticket in asked])


async def test_only_the_request_that_ran_too_long_gets_the_deadline(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    first = ask(pool)
    [worker] = world.workers
    rest = [ask(pool), ask(pool)]
    worker.release()  # the next frame holds both of `rest`, the first of which now hangs
    await first.answer
    world.held = False

    with pytest.raises(DeadlineExceeded, match="predict ran longer"):
        await rest[0].answer
    assert worker.exited.done()
    assert (await rest[1].answer).body == b"v1"


async def test_time_in_a_queue_never_ends_a_worker(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    asked = [ask(pool) for _ in range(4)]
    [worker] = world.workers
    for ticket in asked:  # each runs for less than the limit, all together for more
        await asyncio.sleep(0.06)
        worker.release()
        await ticket.answer
    assert not worker.exited.done()


async def test_a_killed_worker_fails_what_ran_and_the_replacement_answers_the_rest(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    running, queued = ask(pool), ask(pool)
    world.workers[0].kill()
    world.held = False

    with pytest.raises(WorkerDied, match="signal 9"):
        await running.answer
    assert (await queued.answer).body == b"v1"
    assert [(e.reason, e.detail) for e in facts.of(WorkerEnded)] == [("signal", "signal 9 (SIGKILL)")]
    assert len(facts.of(WorkerReplaced)) == 1


async def test_an_idle_worker_that_dies_is_replaced(pool: Pool, world: FakeWorld) -> None:
    world.workers[0].kill()
    await until(lambda: len(world.alive(V1)) == 1)
    assert (await ask(pool).answer).body == b"v1"


async def test_callers_are_told_when_their_time_is_over_and_the_queue_forgets_them(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    running, queued = ask(pool), ask(pool, seconds=0.01)
    with pytest.raises(DeadlineExceeded):
        await queued.answer
    assert pool.leases == 2

    world.workers[0].release()
    await running.answer
    assert pool.leases == 0
    assert sum(len(frame) for frame in world.workers[0].frames) == 1


async def test_a_full_queue_refuses_at_once(
    pool: Pool, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "MAX_QUEUED_REQUESTS", 2)
    world.held = True
    for _ in range(3):  # one runs, two wait
        ask(pool)
    with pytest.raises(Overloaded):
        ask(pool)
    assert pool.leases == 3


async def test_a_queue_is_bounded_in_bytes_too(
    pool: Pool, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "MAX_QUEUED_BYTES", 100)
    world.held = True
    ask(pool)
    ask(pool, b"x" * 100)
    with pytest.raises(Overloaded):
        ask(pool)


async def test_a_worker_that_dies_before_its_first_answer_backs_off(
    pool: Pool, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.serving.pool.REPLACEMENT_BACKOFF_SECONDS", (0.0, 0.05))
    loop = asyncio.get_running_loop()
    world.workers[0].kill()
    await until(lambda: len(world.workers) == 2)
    started = loop.time()
    world.workers[1].kill()
    await until(lambda: len(world.workers) == 3)
    assert loop.time() - started >= 0.05


async def test_a_closed_pool_leaves_no_worker_and_no_waiting_caller(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    asked = [ask(pool), ask(pool)]
    await pool.close(0.0)

    for ticket in asked:
        with pytest.raises(WorkerDied):
            await ticket.answer
    assert not world.alive(V1)
    assert pool.leases == 0
