"""Workers of one version: deadlines, deaths, and what becomes of the requests in them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from router.core.events import Predicted, WorkerEnded, WorkerReplaced
from router.core.ids import CANARY, PRODUCTION
from router.errors import DeadlineExceeded, NotReady, Overloaded, WorkerDied
from router.protocol.messages import Batching, LoadSpec, Query
from router.serving.pool import request_queue
from router.serving.pool.pool import Pool
from router.serving.pool.supply import REPLACEMENT_DELAYS
from tests.serving.conftest import V1, FakeVersion, pool_of
from tests.support.fakes import Facts, FakeWorker, FakeWorld, ok
from tests.support.waiting import until


@pytest.fixture
def version() -> FakeVersion:
    return FakeVersion({"predict_timeout_seconds": 0.1})


@pytest.fixture
async def pool(world: FakeWorld, facts: Facts, version: FakeVersion) -> AsyncIterator[Pool]:
    pool = pool_of(version, world, facts)
    await pool.start()
    yield pool
    await pool.close(0.0)


def ask(
    pool: Pool, body: bytes = b"{}", seconds: float = 5.0, *, may_wait_for_worker: bool = True
) -> request_queue.PendingRequest:
    expires_at = asyncio.get_running_loop().time() + seconds
    return pool.submit(Query(body, None), PRODUCTION, expires_at, may_wait_for_worker=may_wait_for_worker)


async def running(
    pool: Pool, body: bytes = b"{}", seconds: float = 5.0, *, may_wait_for_worker: bool = True
) -> request_queue.PendingRequest:
    """A request that a worker has, not only the queue: requests of one turn of the loop share a frame."""
    request = ask(pool, body, seconds, may_wait_for_worker=may_wait_for_worker)
    await asyncio.sleep(0)
    return request


async def test_processor_time_does_not_go_back_when_workers_end(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    """Of these three, the sum is less by its last digit when the second and then the third have ended."""
    version.keys["workers"] = 3
    pool.fill()
    await until(lambda: len(pool.slots) == 3)
    for worker, seconds in zip(world.workers, (0.1, 0.2, 0.3), strict=True):
        worker.processor_time.answered(seconds, seconds)
    seen = [pool.processor_time.predict]
    version.keys["workers"] = 1
    for worker in world.workers[1:3]:
        worker.kill()
        await until(lambda worker=worker: worker not in pool.workers)
        seen.append(pool.processor_time.predict)
    closing = asyncio.create_task(pool.close(0.0))
    while not closing.done():
        await asyncio.sleep(0)
        seen.append(pool.processor_time.predict)

    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.6)


async def test_of_answers_in_several_frames_the_first_counts_for_the_rows_of_their_predict(
    pool: Pool, world: FakeWorld, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([replace(ok(V1), predict_rows=rows) for rows in (3, 0, 0)])
    monkeypatch.setattr(world, "answer", lambda *_: next(answers))
    for request in [ask(pool) for _ in range(3)]:
        await request.answer

    assert [event.rows for event in facts.of(Predicted)] == [3, 0, 0]


async def test_requests_that_arrive_in_one_turn_of_the_loop_share_a_frame(
    pool: Pool, world: FakeWorld
) -> None:
    asked = [ask(pool) for _ in range(5)]
    assert all([(await request.answer).status == 200 for request in asked])
    assert [len(frame) for frame in world.workers[0].frames] == [5]


async def test_what_queued_up_while_the_worker_was_busy_is_the_next_frame(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    asked = [await running(pool), *[ask(pool) for _ in range(4)]]
    [worker] = world.workers
    assert [len(frame) for frame in worker.frames] == [1]
    worker.release()
    await until(lambda: len(worker.frames) == 2)
    assert [len(frame) for frame in worker.frames] == [1, 4]
    worker.release_all()
    assert all([(await request.answer).body == b"v1" for request in asked])


async def test_only_the_request_that_ran_too_long_gets_the_deadline(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    endless = await running(pool)
    [worker] = world.workers
    queued = [ask(pool), ask(pool)]
    world.held = False

    with pytest.raises(DeadlineExceeded, match="predict ran longer"):
        await endless.answer
    assert worker.exited.done()
    assert [(await request.answer).body for request in queued] == [b"v1"] * 2


async def test_a_lowered_limit_holds_for_the_predict_that_runs(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["predict_timeout_seconds"] = 60
    world.held = True
    endless = await running(pool)
    version.keys["predict_timeout_seconds"] = 0.05
    pool.settings_changed()

    with pytest.raises(DeadlineExceeded, match=r"ran longer than 0\.05 s"):
        await endless.answer
    assert world.workers[0].exited.done()


async def test_a_lowered_limit_holds_for_a_worker_that_was_let_go(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["predict_timeout_seconds"] = 60
    world.held = True
    endless = await running(pool)
    await pool.replace_workers(LoadSpec(V1, "/cache", None, batches=False))
    version.keys["predict_timeout_seconds"] = 0.05
    pool.settings_changed()

    with pytest.raises(DeadlineExceeded, match=r"ran longer than 0\.05 s"):
        await endless.answer


async def test_a_raised_limit_holds_for_the_predict_that_runs(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    world.held = True
    slow = await running(pool)
    version.keys["predict_timeout_seconds"] = 60
    pool.settings_changed()
    await asyncio.sleep(0.15)
    world.workers[0].release()

    assert (await slow.answer).status == 200


async def test_of_requests_that_share_a_predict_each_is_asked_again_alone_and_one_pays(
    pool: Pool, world: FakeWorld
) -> None:
    """Which of them held the predict up can not be known."""
    world.held = True
    asked = [ask(pool) for _ in range(3)]
    await until(lambda: len(world.workers) == 2 and world.workers[1].frames)
    [first, second] = world.workers
    assert [len(frame) for frame in first.frames] == [3]
    assert [len(frame) for frame in second.frames] == [1]

    second.release()  # the first of them is innocent, and the second one hangs again
    with pytest.raises(DeadlineExceeded):
        await asked[1].answer
    world.held = False
    await until(lambda: len(world.workers) == 3)
    world.workers[2].release_all()
    assert [(await asked[i].answer).body for i in (0, 2)] == [b"v1"] * 2
    assert pool.leases == 0


async def test_a_worker_killed_with_a_shared_predict_costs_no_request(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    asked = [ask(pool) for _ in range(3)]
    await until(lambda: world.workers[0].frames)
    world.held = False
    world.workers[0].kill()

    assert [(await request.answer).body for request in asked] == [b"v1"] * 3
    assert [len(frame) for frame in world.workers[1].frames] == [1, 1, 1]


async def test_a_frame_holds_requests_of_one_alias(pool: Pool, world: FakeWorld) -> None:
    """Its scores are counted once, for that alias."""
    expires_at = asyncio.get_running_loop().time() + 5
    asked = [
        pool.submit(Query(b"{}", None), alias, expires_at)
        for alias in (PRODUCTION, PRODUCTION, CANARY, PRODUCTION)
    ]
    assert all([(await request.answer).status == 200 for request in asked])
    assert [len(frame) for frame in world.workers[0].frames] == [2, 1, 1]


async def test_a_frame_holds_no_more_rows_than_may_share_a_predict(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    """Here a row takes ten bytes. A request that is larger has a frame of its own."""
    version.keys["max_batch_rows"] = 30
    world.answers[V1] = replace(ok(V1), rows=10)
    for _ in range(8):
        await ask(pool, b"x" * 100).answer
    del world.workers[0].frames[:]
    asked = [ask(pool, b"x" * size) for size in (100, 100, 100, 100, 900, 100)]
    assert all([(await request.answer).status == 200 for request in asked])
    assert [len(frame) for frame in world.workers[0].frames] == [3, 1, 1, 1]


@pytest.fixture
def threaded(world: FakeWorld) -> None:
    """Workers that predict three requests side by side, and none together."""
    world.batching, world.threads = Batching(merges=False, why="a fake"), 3


@pytest.mark.usefixtures("threaded")
class TestSideBySide:
    async def test_requests_run_beside_each_other_as_many_as_there_are_threads(
        self, world: FakeWorld, pool: Pool
    ) -> None:
        world.held = True
        asked = [ask(pool) for _ in range(5)]
        [worker] = world.workers
        await until(lambda: worker.frames)
        assert [len(frame) for frame in worker.frames] == [1, 1, 1]
        worker.release()
        await until(lambda: len(worker.frames) == 4)
        assert [len(frame) for frame in worker.frames] == [1] * 4
        world.held = False
        worker.release_all()
        assert all([(await request.answer).status == 200 for request in asked])

    async def test_one_that_runs_too_long_ends_the_worker_and_those_beside_it_are_asked_again(
        self, world: FakeWorld, pool: Pool
    ) -> None:
        world.held = True
        endless = await running(pool)
        await asyncio.sleep(0.05)
        beside = [ask(pool), ask(pool)]
        with pytest.raises(DeadlineExceeded):
            await endless.answer
        world.held = False
        await until(lambda: len(world.workers) == 2)
        world.workers[1].release_all()
        assert [(await request.answer).status for request in beside] == [200, 200]

    async def test_after_a_crash_each_that_ran_is_asked_again_while_nothing_runs_beside_it(
        self, world: FakeWorld, pool: Pool
    ) -> None:
        world.held = True
        asked = [ask(pool) for _ in range(3)]
        await until(lambda: len(world.workers[0].frames) == 3)
        world.workers[0].kill()
        await until(lambda: len(world.workers) == 2 and world.workers[1].frames)
        later = await running(pool)
        assert len(world.workers[1].frames) == 1
        world.workers[1].kill()  # it did it again
        with pytest.raises(WorkerDied):
            await asked[0].answer
        world.held = False
        await until(lambda: len(world.workers) == 3)
        world.workers[2].release_all()
        assert [(await request.answer).status for request in (*asked[1:], later)] == [200] * 3
        assert pool.leases == 0

    async def test_nothing_runs_beside_one_that_may_have_ended_a_worker(
        self, world: FakeWorld, pool: Pool
    ) -> None:
        """Were it to end that one too, it and its neighbour would look alike, and be asked a third time."""
        world.held = True
        asked = [ask(pool) for _ in range(2)]
        await until(lambda: len(world.workers[0].frames) == 2)
        world.workers[0].kill()
        await until(lambda: len(world.workers) == 2 and world.workers[1].frames)
        later = [ask(pool), ask(pool)]
        world.workers[1].release()
        assert (await asked[0].answer).status == 200
        await until(lambda: len(world.workers[1].frames) == 2)
        await asyncio.sleep(0.01)
        assert len(world.workers[1].frames) == 2, "the second one runs, and nothing else"
        world.workers[1].kill()
        with pytest.raises(WorkerDied):
            await asked[1].answer
        world.held = False
        await until(lambda: len(world.workers) == 3)
        world.workers[2].release_all()
        assert [(await request.answer).status for request in later] == [200, 200]
        assert pool.leases == 0

    async def test_one_that_is_to_be_alone_waits_also_when_those_before_it_expired(
        self, world: FakeWorld, pool: Pool
    ) -> None:
        """The worker was chosen for one that may run beside others."""
        world.held = True
        await running(pool)
        hopeless, alone = ask(pool, seconds=0.3), ask(pool)
        alone.isolated = True
        pool.admission.fastest_seconds = 0.5
        with pytest.raises(DeadlineExceeded):
            await hopeless.answer
        await asyncio.sleep(0)
        assert len(world.workers[0].frames) == 1
        world.held = False
        world.workers[0].release()
        await until(lambda: len(world.workers[0].frames) == 2)
        world.workers[0].release_all()
        assert (await alone.answer).status == 200

    async def test_a_worker_that_is_being_ended_gets_nothing_more(self, world: FakeWorld, pool: Pool) -> None:
        """It lives on for a moment."""
        world.held = True
        endless = await running(pool)
        world.workers[0].kill = lambda signal=9: None  # type: ignore[method-assign]
        await asyncio.sleep(0.15)
        later = await running(pool)
        assert len(world.workers[0].frames) == 1
        FakeWorker.kill(world.workers[0])
        with pytest.raises(DeadlineExceeded):
            await endless.answer
        world.held = False
        await until(lambda: len(world.workers) == 2)
        world.workers[1].release_all()
        assert (await later.answer).status == 200


async def test_a_closed_pool_ends_workers_that_were_let_go_and_answers_their_callers(
    pool: Pool, world: FakeWorld
) -> None:
    """They still had a predict to answer when their settings changed."""
    world.held = True
    asked = await running(pool)
    await pool.replace_workers(LoadSpec(V1, "/cache", None, batches=False))
    [old, _] = world.workers
    assert not old.exited.done()
    await pool.close(0.0)

    with pytest.raises(WorkerDied):
        await asked.answer
    assert old.exited.done()
    assert pool.leases == 0


async def test_time_in_a_queue_never_ends_a_worker(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    asked = [ask(pool) for _ in range(4)]
    [worker] = world.workers
    for request in asked:  # each runs for less than the limit, all together for more
        await asyncio.sleep(0.06)
        worker.release()
        await request.answer
    assert not worker.exited.done()


async def test_a_killed_worker_fails_what_ran_and_the_replacement_answers_the_rest(
    pool: Pool, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    ran, queued = await running(pool), ask(pool)
    world.workers[0].kill()
    world.held = False

    with pytest.raises(WorkerDied, match="signal 9"):
        await ran.answer
    assert (await queued.answer).body == b"v1"
    assert [(e.reason, e.detail) for e in facts.of(WorkerEnded)] == [("signal", "signal 9 (SIGKILL)")]
    assert len(facts.of(WorkerReplaced)) == 1


async def test_an_idle_worker_that_dies_is_replaced(pool: Pool, world: FakeWorld) -> None:
    world.workers[0].kill()
    await until(lambda: len(world.alive(V1)) == 1)
    assert (await ask(pool).answer).body == b"v1"


async def test_callers_hear_when_their_time_is_over_and_the_queue_forgets_them(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    ran, queued = await running(pool), ask(pool, seconds=0.01)
    with pytest.raises(DeadlineExceeded):
        await queued.answer
    assert pool.leases == 1

    world.workers[0].release()
    await ran.answer
    assert pool.leases == 0
    assert sum(len(frame) for frame in world.workers[0].frames) == 1


async def test_a_full_queue_refuses_at_once(pool: Pool, world: FakeWorld, version: FakeVersion) -> None:
    version.keys["queue_rows"] = 2
    world.held = True
    await running(pool)
    for _ in range(2):
        ask(pool)
    with pytest.raises(Overloaded) as refused:
        ask(pool)
    assert refused.value.retry_after == 0.0  # nothing is known yet of what a request costs
    assert pool.leases == 3


async def test_who_is_refused_is_asked_back_when_the_queue_is_over(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["queue_rows"] = 2
    pool.admission.learn(3.0, [1], [2])
    world.held = True
    await running(pool)
    for _ in range(2):
        ask(pool)
    with pytest.raises(Overloaded) as refused:
        ask(pool)
    assert refused.value.retry_after == 6.0


async def test_a_queue_is_bounded_in_bytes_too(
    pool: Pool, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_queue, "MAX_QUEUED_BYTES", 100)
    world.held = True
    await running(pool)
    ask(pool, b"x" * 100)
    with pytest.raises(Overloaded):
        ask(pool)


@pytest.fixture
def replacement_delay(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds before each replacement of a worker that ended before its first answer."""
    monkeypatch.setattr("router.serving.pool.supply.REPLACEMENT_DELAYS", (request.param,))


def delayed(seconds: float) -> pytest.MarkDecorator:
    # A mark, not an argument: the pool reads the delays when it is made, so the fixture comes first.
    return pytest.mark.parametrize("replacement_delay", [seconds], indirect=True)


@delayed(0.05)
@pytest.mark.usefixtures("replacement_delay")
async def test_a_worker_that_dies_before_its_first_answer_backs_off(pool: Pool, world: FakeWorld) -> None:
    loop = asyncio.get_running_loop()
    world.workers[0].kill()
    await until(lambda: len(world.workers) == 2)
    started = loop.time()
    world.workers[1].kill()
    await until(lambda: len(world.workers) == 3)
    assert loop.time() - started >= 0.05


@delayed(0.3)
@pytest.mark.usefixtures("replacement_delay")
async def test_one_that_has_answered_is_replaced_without_a_wait(pool: Pool, world: FakeWorld) -> None:
    """Also when those before it died before their first answer."""
    world.workers[0].kill()
    await until(lambda: len(world.workers) == 2)
    assert (await ask(pool).answer).status == 200
    world.workers[1].kill()
    await until(lambda: len(world.workers) == 3, 0.2)


def test_no_worker_is_waited_for_longer_than_two_seconds() -> None:
    assert max(REPLACEMENT_DELAYS) <= 2.0


async def test_a_closed_pool_leaves_no_worker_and_no_waiting_caller(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    asked = [ask(pool), ask(pool)]
    await pool.close(0.0)

    for request in asked:
        with pytest.raises(WorkerDied):
            await request.answer
    assert not world.alive(V1)
    assert pool.leases == 0


async def test_who_gave_up_takes_no_room_in_the_queue(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.keys["queue_rows"] = 2
    world.held = True
    await running(pool)
    for _ in range(500):  # each gives up before the next one comes
        ask(pool).cancel()
    waiting = [ask(pool), ask(pool)]
    assert (pool.queued, pool.leases) == (2, 3)
    world.held = False
    world.workers[0].release_all()
    assert [(await request.answer).status for request in waiting] == [200, 200]
    assert pool.leases == 0


async def test_rows_are_learned_from_what_was_answered(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    """A row takes ten bytes here: a body of 1 000 bytes counts as 100 rows of the queue."""
    version.keys["queue_rows"] = 150
    world.answers[V1] = replace(ok(V1), rows=10)
    for _ in range(8):
        await ask(pool, b"x" * 100).answer
    world.held = True
    await running(pool)
    ask(pool, b"x" * 1000)
    ask(pool, b"x" * 1000)
    with pytest.raises(Overloaded):
        ask(pool)


async def test_one_request_of_any_size_has_room_in_an_empty_queue(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    """Its rows are far over the bound; beside it nothing more has room, and it is answered."""
    version.keys["queue_rows"] = 10
    world.answers[V1] = replace(ok(V1), rows=100)
    for _ in range(8):
        await ask(pool, b"x" * 100).answer
    world.held = True
    ran = await running(pool)
    assert pool.queued == 0
    large = ask(pool, b"x" * 100_000)
    assert (large.rows, pool.queued) == (100_000, 1)
    with pytest.raises(Overloaded):
        ask(pool, b"x")
    world.held = False
    world.workers[0].release_all()
    assert [(await request.answer).status for request in (ran, large)] == [200, 200]


async def test_a_request_whose_time_will_be_over_is_not_predicted_for_nobody(
    pool: Pool, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here no request was ever answered in less than half a second."""
    monkeypatch.setattr(pool.admission, "learn", lambda *_: None)
    pool.admission.fastest_seconds = 0.5
    world.held = True
    await running(pool)
    hopeless, patient = ask(pool, seconds=0.3), ask(pool)
    world.held = False
    world.workers[0].release()

    with pytest.raises(DeadlineExceeded):
        await hopeless.answer
    assert (await patient.answer).status == 200
    assert sum(len(frame) for frame in world.workers[0].frames) == 2


async def test_with_no_worker_alive_only_those_wait_whom_nobody_else_can_answer(
    pool: Pool, world: FakeWorld
) -> None:
    world.held = True
    ran, queued, patient = await running(pool), ask(pool, may_wait_for_worker=False), ask(pool)
    world.held = False
    world.slow_loads = asyncio.Event()
    world.workers[0].kill()

    with pytest.raises(WorkerDied):
        await ran.answer
    with pytest.raises(NotReady):
        await queued.answer
    with pytest.raises(NotReady) as refused:
        ask(pool, may_wait_for_worker=False)
    assert refused.value.retry_after == world.load_seconds  # a load is under way
    world.slow_loads.set()
    assert (await patient.answer).status == 200
    assert pool.leases == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predict is long after 20 ms, and extra workers stay for 50 ms."""
    monkeypatch.setattr("router.serving.pool.upkeep.STUCK_SECONDS", 0.02)
    monkeypatch.setattr("router.serving.pool.upkeep.KEPT_SECONDS", 0.05)
    monkeypatch.setattr("router.serving.pool.upkeep.SURGE_LOOK_SECONDS", 0.005)


@pytest.mark.usefixtures("impatient")
async def test_an_endless_predict_of_production_is_relieved(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.is_production = True
    version.keys["predict_timeout_seconds"] = 5
    world.held = True
    endless = await running(pool)
    [stuck] = world.workers
    world.held = False

    for _ in range(20):
        assert (await ask(pool).answer).status == 200
    assert not endless.answer.done()
    assert len(world.alive(V1)) == 2

    stuck.release_all()
    assert (await endless.answer).status == 200
    assert pool.leases == 0
    await until(lambda: len(world.alive(V1)) == 1)
    assert (await ask(pool).answer).status == 200


@pytest.mark.usefixtures("impatient")
async def test_those_who_share_an_endless_predict_are_asked_again_elsewhere_and_alone(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.is_production = True
    version.keys["predict_timeout_seconds"] = 5
    world.held = True
    asked = [ask(pool), ask(pool)]
    await until(lambda: world.workers[0].frames)
    world.held = False

    assert [(await request.answer).status for request in asked] == [200, 200]
    [stuck, extra] = world.workers
    assert [len(frame) for frame in extra.frames] == [1, 1]
    assert pool.leases == 0
    stuck.release_all()  # at last, and for nobody
    assert (await ask(pool).answer).status == 200


@pytest.mark.usefixtures("impatient")
async def test_two_extra_workers_are_the_most(pool: Pool, world: FakeWorld, version: FakeVersion) -> None:
    version.is_production = True
    version.keys["predict_timeout_seconds"] = 5
    world.held = True
    for _ in range(20):
        ask(pool)
        await asyncio.sleep(0.01)
    await until(lambda: len(world.alive(V1)) == 3)
    await asyncio.sleep(0.1)
    assert len(world.alive(V1)) == 3


@pytest.mark.usefixtures("impatient")
async def test_a_canarys_endless_predict_is_not_relieved(pool: Pool, world: FakeWorld) -> None:
    world.held = True
    for _ in range(3):
        ask(pool)
    await asyncio.sleep(0.08)
    assert len(world.workers) == 1


async def test_production_that_loads_slowly_has_a_spare_that_stands_in_at_once(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.is_production = True
    world.load_seconds = 1.5
    world.workers[0].kill()
    await until(lambda: pool.supply.spare)
    spare = pool.supply.spare
    assert spare is not None
    world.slow_loads = asyncio.Event()  # nothing loads from here on
    world.workers[1].kill()
    await until(lambda: pool.workers == [spare], 0.5)

    assert (await ask(pool).answer).status == 200
    world.slow_loads.set()
    await until(lambda: pool.supply.spare is not None)
    assert pool.supply.spare is not spare


@delayed(0.0)
@pytest.mark.usefixtures("replacement_delay")
async def test_a_spare_that_ends_is_loaded_again_and_one_nobody_needs_goes(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    version.is_production = True
    world.load_seconds = 1.5
    world.workers[0].kill()
    await until(lambda: pool.supply.spare)
    spare = pool.supply.spare
    assert isinstance(spare, FakeWorker)
    spare.kill()
    await until(lambda: pool.supply.spare not in (None, spare))

    version.is_production = False
    pool.fill()
    await until(lambda: len(world.alive(V1)) == 1)
    assert pool.supply.spare is None


async def test_a_canary_and_a_version_that_loads_fast_have_no_spare(
    pool: Pool, world: FakeWorld, version: FakeVersion
) -> None:
    pool.fill()
    version.is_production = True
    pool.fill()
    await asyncio.sleep(0.02)
    assert len(world.workers) == 1
    version.is_production = False
    world.load_seconds = 5.0
    world.workers[0].kill()
    await until(lambda: world.alive(V1))
    await asyncio.sleep(0.02)
    assert len(world.workers) == 2


async def test_a_closed_pool_leaves_no_spare(pool: Pool, world: FakeWorld, version: FakeVersion) -> None:
    version.is_production = True
    world.load_seconds = 1.5
    world.workers[0].kill()
    await until(lambda: pool.supply.spare)
    await pool.close(0.0)
    assert not world.alive(V1)
