"""What nobody waits for is not predicted: callers that hang up, in whatever order things happen."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import pytest

from router.core.breaker import OUTAGE_REQUESTS, BreakerView
from router.core.events import BreakerOpened, CanaryFaulted, FellBack
from router.core.ids import CANARY, PRODUCTION
from router.errors import CallerGone, RequestRefused
from router.protocol.messages import Answer, Batching, PredictStatus, Query
from router.serving.caller import Caller
from router.serving.dispatch import KNOWN_ANSWERS, Dispatcher
from router.serving.models import ModelSet
from router.serving.pool.pool import Pool
from router.serving.pool.request_queue import PendingRequest
from tests.serving.conftest import V1, V2, FakeVersion, pool_of
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"
QUERY = Query(b"{}", None)
CRASHED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
WAITS_FOR_SOMEBODY = 5.0


@pytest.fixture
async def pool(world: FakeWorld, facts: Facts) -> AsyncIterator[Pool]:
    """One worker that predicts one request at a time."""
    world.held, world.batching = True, Batching(merges=False, why="a fake")
    pool = pool_of(FakeVersion(), world, facts)
    await pool.start()
    yield pool
    await pool.close(0.0)


def ask(pool: Pool, body: str = "") -> PendingRequest:
    expires_at = asyncio.get_running_loop().time() + WAITS_FOR_SOMEBODY
    return pool.submit(Query(body.encode(), None), PRODUCTION, expires_at)


def predicted(world: FakeWorld) -> list[str]:
    """Bodies of all requests that a worker got, in their order."""
    return [query.body.decode() for worker in world.workers for frame in worker.frames for query in frame]


async def test_a_worker_learns_of_a_caller_who_hangs_up_while_its_request_runs(
    pool: Pool, world: FakeWorld
) -> None:
    """It may be about to predict that request once more, to see whether requests can share predicts."""
    running = ask(pool)
    [worker] = world.workers
    await until(lambda: worker.frames)
    waiting = ask(pool)
    running.hang_up()
    waiting.hang_up()
    assert worker.hang_ups == [(1, 0)]
    worker.release()


async def test_only_what_somebody_waits_for_follows_the_predict_that_runs(
    pool: Pool, world: FakeWorld
) -> None:
    running = ask(pool, "runs")
    await until(lambda: world.workers[0].frames)
    waiting = [ask(pool, f"gone {number}") for number in range(20)]
    last = ask(pool, "last")
    for request in (running, *waiting):
        request.hang_up()
    assert (pool.queued, pool.leases) == (1, 2), "the last one waits, and the first one still runs"
    world.held = False
    world.workers[0].release_all()

    assert (await last.answer).body == b"v1"
    assert predicted(world) == ["runs", "last"]
    assert pool.leases == 0
    for request in (running, *waiting):
        with pytest.raises(CallerGone):
            await request.answer


async def test_a_request_that_is_handed_out_again_is_not_if_its_caller_hung_up(
    pool: Pool, world: FakeWorld
) -> None:
    """A worker died with three requests in one predict: each of them is asked once more, alone."""
    world.workers[0].batching = Batching(merges=True, why="a fake")
    asked = [ask(pool, str(number)) for number in range(3)]
    await until(lambda: world.workers[0].frames)
    asked[1].hang_up()
    world.held = False
    world.workers[0].kill()

    assert [(await asked[number].answer).status for number in (0, 2)] == [200, 200]
    assert predicted(world) == ["0", "1", "2", "0", "2"]
    assert pool.leases == 0
    with pytest.raises(CallerGone):
        await asked[1].answer


async def test_while_callers_hang_up_on_what_waits_the_newest_is_next_and_else_the_oldest(
    pool: Pool, world: FakeWorld
) -> None:
    asked = [ask(pool, "runs")]
    await until(lambda: world.workers[0].frames)
    asked += [ask(pool, body) for body in ("old", "impatient", "new")]
    [worker] = world.workers
    asked[2].hang_up()
    for number in range(2, 4):
        worker.release()
        await until(lambda n=number: len(worker.frames) == n)
    assert predicted(world) == ["runs", "new", "old"]

    # The queue was empty: from here on nobody is known to be impatient.
    asked += [ask(pool, body) for body in ("first", "second")]
    world.held = False
    worker.release_all()
    await until(lambda: pool.leases == 0)
    assert predicted(world) == ["runs", "new", "old", "first", "second"]
    with pytest.raises(CallerGone):
        await asked[2].answer


async def test_one_caller_in_many_that_hangs_up_changes_nobodys_turn(pool: Pool, world: FakeWorld) -> None:
    asked = [ask(pool, str(number)) for number in range(10)]
    [worker] = world.workers
    for number in range(1, 7):
        await until(lambda n=number: len(worker.frames) == n)
        worker.release()
    await until(lambda: len(worker.frames) == 7)
    asked[9].hang_up()
    world.held = False
    worker.release_all()
    await until(lambda: pool.leases == 0)
    assert predicted(world) == [str(number) for number in range(9)]
    with pytest.raises(CallerGone):
        await asked[9].answer


@dataclass
class _Asked:
    request: PendingRequest
    body: str
    sent_before: int | None = None
    """How often a worker had got it when its caller hung up; None while it waits."""


@pytest.mark.parametrize("merges", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("seed", range(40))
async def test_in_whatever_order_things_happen_nothing_is_predicted_after_its_caller_hung_up(
    world: FakeWorld, facts: Facts, seed: int, merges: bool
) -> None:
    """Random orders of requests, hang-ups, answers and deaths, with leases that all come back."""
    random = Random(seed)
    world.held, world.batching = True, Batching(merges=merges, why="a fake")
    world.threads = random.choice((1, 3))
    version = FakeVersion({"workers": random.choice((1, 2))}, is_production=True)
    pool = pool_of(version, world, facts)
    await pool.start()
    asked: list[_Asked] = []
    for step in range(120):
        alive = [worker for worker in world.alive(V1) if worker._unanswered]
        match random.choice(("ask", "ask", "ask", "hang up", "hang up", "answer", "answer", "die", "turn")):
            case "ask":
                asked.append(_Asked(ask(pool, str(step)), str(step)))
            case "hang up" if waiting := [one for one in asked if not one.request.abandoned]:
                one = random.choice(waiting)
                one.request.hang_up()
                one.sent_before = predicted(world).count(one.body)
            case "answer" if alive:
                random.choice(alive).release()
            case "die" if alive and random.random() < 0.3:
                random.choice(alive).kill()
            case _:
                await asyncio.sleep(0)
    world.held = False

    async def answer_all() -> None:
        while pool.leases:
            for worker in world.alive(V1):
                worker.release_all()
            await asyncio.sleep(0.001)

    async with asyncio.timeout(WAITS_FOR_SOMEBODY):
        await answer_all()
    results = await asyncio.gather(*(one.request.answer for one in asked), return_exceptions=True)
    sent = Counter(predicted(world))
    for one, result in zip(asked, results, strict=True):
        if one.sent_before is None:
            assert isinstance(result, (Answer, RequestRefused)), result
            assert not isinstance(result, CallerGone)
        else:
            assert isinstance(result, CallerGone)
            assert sent[one.body] == one.sent_before, "it was predicted for nobody"
    assert (pool.leases, pool.queued) == (0, 0)
    await pool.close(0.0)


async def test_a_canary_whose_caller_hung_up_is_not_answered_by_production(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """Neither when it fails afterwards, nor as a fault of it."""
    world.held, caller = True, Caller()
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True, caller=caller))
    await until(lambda: world.alive(V2)[0].frames)
    caller.hang_up()
    served = await asked
    world.answers[V2] = CRASHED
    world.alive(V2)[0].release()

    assert (served.outcome, served.fault, served.assigned.alias) == ("abandoned", "", CANARY)
    assert facts.of(FellBack) == facts.of(CanaryFaulted) == []
    assert world.alive(V1)[0].frames == []
    assert dispatcher.in_flight[("sentiment", CANARY)] == 0


async def test_a_canary_that_fails_as_its_caller_hangs_up_is_not_answered_by_production(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """Both in one turn of the loop, the failure first."""
    world.held, caller = True, Caller()
    world.answers[V2] = CRASHED
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True, caller=caller))
    await until(lambda: world.alive(V2)[0].frames)
    world.alive(V2)[0].release()
    caller.hang_up()

    assert (await asked).outcome == "abandoned"
    assert facts.of(FellBack) == []
    assert world.alive(V1)[0].frames == []


async def test_production_that_answers_for_a_canary_is_dropped_with_its_caller(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """It waits for production's only worker. What the canary did wrong is nobody's fault: nobody knows."""
    world.held, caller = True, Caller()
    ahead = asyncio.create_task(dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V1)[0].frames)
    world.answers[V2] = CRASHED
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True, caller=caller))
    await until(lambda: world.alive(V2)[0].frames)
    world.alive(V2)[0].release()
    pool = serving.managers["sentiment"].harnesses[V1].pool
    await until(lambda: pool.queued == 1)
    caller.hang_up()
    served = await asked
    world.alive(V1)[0].release()

    assert (served.outcome, served.fault, served.excused) == ("abandoned", "", False)
    assert (await ahead).outcome == "ok"
    assert facts.of(CanaryFaulted) == []
    assert len(world.alive(V1)[0].frames) == 1
    breaker = serving.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    assert breaker.view().requests == 0


@pytest.mark.parametrize("way", ["by key", "alias", "version"])
async def test_a_caller_that_is_gone_already_has_nothing_predicted(
    dispatcher: Dispatcher, world: FakeWorld, way: str
) -> None:
    caller = Caller()
    caller.hang_up()
    match way:
        case "by key":
            served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True, caller=caller)
        case "alias":
            served = await dispatcher.serve_direct("sentiment", CANARY, QUERY, caller=caller)
        case _:
            served = await dispatcher.serve_version("sentiment", 2, QUERY, caller=caller)
    assert served.outcome == "abandoned"
    assert not any(worker.frames for worker in world.workers)


async def test_what_production_was_not_given_time_for_does_not_shorten_a_canarys_time(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """A canary's time follows from how long production takes; of abandoned requests nobody knows that."""
    before = dispatcher.canary_timeout(serving.managers["sentiment"])
    world.held = True
    for _ in range(300):
        caller = Caller()
        asked = asyncio.create_task(
            dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True, caller=caller)
        )
        await asyncio.sleep(0)
        caller.hang_up()
        assert (await asked).outcome == "abandoned"
    assert dispatcher.canary_timeout(serving.managers["sentiment"]) == before


async def hang_up_after(dispatcher: Dispatcher, key: str, seconds: float, turns: int) -> None:
    """As many callers of a version that does not answer, one after the other."""
    for _ in range(turns):
        caller = Caller()
        asked = asyncio.create_task(dispatcher.serve("sentiment", key, QUERY, keyed=True, caller=caller))
        await asyncio.sleep(seconds)
        caller.hang_up()
        await asked


async def learn(dispatcher: Dispatcher, turns: int = KNOWN_ANSWERS) -> None:
    for _ in range(turns):
        await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)


def breaker_of(serving: ModelSet) -> BreakerView:
    breaker = serving.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    return breaker.view()


async def test_a_canary_that_hangs_is_broken_off_also_where_its_callers_hang_up_before_its_time_limit(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """It would keep its share for ever, and these callers would never get an answer."""
    await learn(dispatcher)
    world.held = True
    await hang_up_after(dispatcher, CANARY_KEY, 0.01, OUTAGE_REQUESTS)

    assert breaker_of(serving).open
    assert "callers who hung up included" in facts.of(BreakerOpened)[0].why
    world.held = False
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    assert (served.outcome, served.reason) == ("ok", "breaker_open")


@pytest.mark.parametrize("why", ["production is not known", "callers of production hang up too", "at once"])
async def test_callers_who_hang_up_say_nothing_of_a_canary_where(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, why: str
) -> None:
    """Production's would not have had their answer either, or nobody knows."""
    await learn(dispatcher, 150)
    world.held = True
    if why == "callers of production hang up too":
        await hang_up_after(dispatcher, PRODUCTION_KEY, 0.0, 50)
    world.held = False
    if why == "at once":
        await learn(dispatcher, 50)
        dispatcher._timeout_of("sentiment")._waited.value = 1.0
    world.held = True
    await hang_up_after(dispatcher, CANARY_KEY, 0.01, OUTAGE_REQUESTS)

    view = breaker_of(serving)
    assert (view.open, view.requests) == (False, 0)


async def test_a_canary_that_took_its_callers_time_and_failed_is_at_fault_when_they_leave(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """Production is asked, and has no time left to answer."""
    await learn(dispatcher)
    world.held, world.answers[V2], caller = True, CRASHED, Caller()
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True, caller=caller))
    await until(lambda: world.alive(V2)[0].frames)
    await asyncio.sleep(0.01)
    world.alive(V2)[0].release()
    await until(lambda: len(world.alive(V1)[0].frames) > KNOWN_ANSWERS)
    caller.hang_up()

    assert (await asked).outcome == "abandoned"
    assert (breaker_of(serving).requests, breaker_of(serving).faults) == (1, 1)
