"""What a breaker takes out of the split, what gives it back, and what it never touches."""

import asyncio

import pytest

from router.core.caps import CapRecord, Caps, CapTarget
from router.core.events import BreakerClosed, BreakerOpened, CanaryFaulted, SplitInForce
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.routing import Reason
from router.errors import Overloaded
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher, RequestResult
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool import request_queue
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY = "user-2"
CRASHED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
REFUSED = Answer(PredictStatus.CLIENT_ERROR, 400, b"{}", "application/json", 0, 0.0)
SPLIT = {"production": 50, "canary": 50}


@pytest.fixture
def manager(serving: ModelSet) -> ModelManager:
    return serving.managers["sentiment"]


async def ask(dispatcher: Dispatcher, times: int = 1) -> RequestResult:
    for _ in range(times):
        served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    return served


async def break_off(dispatcher: Dispatcher, world: FakeWorld) -> None:
    world.answers[V2] = CRASHED
    await ask(dispatcher, 50)


async def test_a_canary_that_always_fails_loses_its_share_at_its_50th_request_and_not_before(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = CRASHED
    for number in range(1, 51):
        assert (await ask(dispatcher)).assigned.alias == CANARY, f"request {number}"
    after = await ask(dispatcher)

    assigned = after.assigned
    assert (assigned.alias, assigned.reason, after.outcome) == (PRODUCTION, Reason.BREAKER_OPEN, "ok")
    assert len(facts.of(CanaryFaulted)) == 50
    assert facts.of(SplitInForce)[-1].in_force == {PRODUCTION: 1.0, CANARY: 0.0}
    assert facts.of(SplitInForce)[-1].configured[CANARY] == 0.5
    [opened] = facts.of(BreakerOpened)
    assert (opened.alias, opened.version, opened.requests, opened.faults) == (CANARY, V2, 50, 50)


async def test_requests_that_production_fails_too_are_not_held_against_the_canary(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers = {V1: REFUSED, V2: CRASHED}
    assert (await ask(dispatcher, 120)).assigned.alias == CANARY
    assert facts.of(BreakerOpened) == []


async def test_three_crashes_in_a_minute_take_the_share_at_once(
    dispatcher: Dispatcher, manager: ModelManager, world: FakeWorld, facts: Facts
) -> None:
    for _ in range(3):
        await until(lambda: world.alive(V2))
        world.alive(V2)[0].kill()
        await asyncio.sleep(0)

    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN
    assert facts.of(BreakerOpened)[0].why == "it crashed 3 times in 60 s"
    await until(lambda: world.alive(V2))  # it still is kept loaded: a reset must find it ready


async def test_a_worker_ended_for_a_predict_that_ran_too_long_is_no_crash(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    serving.apply({"sentiment": settings(split=SPLIT, predict_timeout_seconds=0.01)})
    world.held = True
    for _ in range(3):
        asked = asyncio.create_task(ask(dispatcher))
        await until(lambda: any(worker.frames for worker in world.alive(V1)))
        world.alive(V1)[0].release_all()
        await asked
        await until(lambda: world.alive(V1) and world.alive(V2))
        world.alive(V1)[0].frames.clear()

    assert facts.of(BreakerOpened) == []


async def test_production_is_never_broken_off(dispatcher: Dispatcher, world: FakeWorld, facts: Facts) -> None:
    world.answers[V1] = CRASHED
    for _ in range(3):
        await until(lambda: world.alive(V1))
        world.alive(V1)[0].kill()
        await asyncio.sleep(0)
    for _ in range(60):
        served = await dispatcher.serve("sentiment", "user-1", QUERY, keyed=True)
        assert (served.assigned.alias, served.assigned.reason) == (PRODUCTION, Reason.HASH)
    assert facts.of(BreakerOpened) == []


async def test_a_canary_on_productions_version_has_no_breaker(
    manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    manager.set_aspired({PRODUCTION: V1, CANARY: V1})
    for _ in range(3):
        await until(lambda: world.alive(V1))
        world.alive(V1)[0].kill()
        await asyncio.sleep(0)

    assert (await ask(dispatcher)).assigned.reason is Reason.SAME_VERSION
    assert facts.of(BreakerOpened) == []


@pytest.mark.parametrize("alias", [PRODUCTION, CANARY])
async def test_a_moved_alias_gives_the_share_back(
    manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld, facts: Facts, alias: Alias
) -> None:
    await break_off(dispatcher, world)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2} | {alias: V3})
    await until(lambda: manager.bound[alias] == V3)

    assert (await ask(dispatcher)).assigned.reason is Reason.HASH
    assert facts.of(BreakerClosed)[0].why == f"{alias} serves sentiment v3"
    assert facts.of(SplitInForce)[-1].in_force[CANARY] == 0.5


async def test_a_changed_split_gives_the_share_back_and_any_other_change_does_not(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    await break_off(dispatcher, world)
    serving.apply({"sentiment": settings(split=SPLIT, timeout_seconds=30)})
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN

    serving.apply({"sentiment": settings(split={"production": 75, "canary": 25})})
    assert (await ask(dispatcher)).assigned.reason is Reason.HASH
    assert [closed.why for closed in facts.of(BreakerClosed)] == ["the split changed"]


async def test_an_operator_gives_the_share_back_and_the_count_starts_anew(
    manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    await break_off(dispatcher, world)
    manager.reset_breakers()
    assert (await ask(dispatcher, 50)).assigned.alias == CANARY
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN


async def test_a_poll_that_changes_nothing_leaves_the_breaker_open(
    manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    await break_off(dispatcher, world)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN


async def test_an_answer_of_before_a_reset_is_not_held_against_what_came_after(
    manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.answers[V2] = CRASHED
    await ask(dispatcher, 49)
    world.held = True
    asked = asyncio.create_task(ask(dispatcher))
    await until(lambda: world.alive(V2)[0].frames[49:])
    manager.reset_breakers()
    world.held = False
    world.alive(V2)[0].release_all()
    await asked

    [(_, view, since)] = manager.breakers.views(V2)
    assert (view.open, view.requests, since) == (False, 0, None)


async def test_a_canary_that_was_full_is_neither_at_fault_nor_innocent(
    manager: ModelManager, dispatcher: Dispatcher, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: request_queue.RequestQueue, request: request_queue.PendingRequest, most_rows: int) -> None:
        if request.alias == CANARY:
            raise Overloaded("full")
        put(self, request, most_rows)

    put = request_queue.RequestQueue.put
    monkeypatch.setattr(request_queue.RequestQueue, "put", full)
    served = await ask(dispatcher, 60)

    assert (served.assigned.alias, served.outcome) == (CANARY, "fallback")
    assert facts.of(CanaryFaulted) == []
    assert manager.breakers.views(V2)[0][1].requests == 0


async def test_what_a_pinned_key_meets_takes_no_share_away(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """A tester sends what nobody else does; production still answers what the canary fails."""
    serving.apply({"sentiment": settings(split=SPLIT, pins={"canary": [CANARY_KEY]})})
    world.answers[V2] = CRASHED
    served = await ask(dispatcher, 60)

    assert (served.assigned.alias, served.assigned.reason) == (CANARY, Reason.PINNED)
    assert (served.outcome, served.reason) == ("fallback", Reason.FALLBACK)
    assert facts.of(BreakerOpened) == []
    assert served.fact(200, 0.1).by_split is False


# By the records of a process before, and of other gateways

OPEN = CapTarget("sentiment", CANARY, 2, breaker=True)


def record(in_force: CapsInForce, share: int | None, counter: int = 1) -> None:
    known = {OPEN: CapRecord(counter, share, "breaker", "it crashed 3 times in 60 s", 7.0)}
    in_force.caps = Caps({**in_force.caps.records, **known})


async def test_a_canary_whose_breaker_was_open_before_a_restart_gets_no_request(
    models: ModelSet, world: FakeWorld, in_force: CapsInForce, facts: Facts
) -> None:
    record(in_force, 0)
    dispatcher = Dispatcher(models, facts)
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)

    assert (await ask(dispatcher, 60)).assigned.reason is Reason.BREAKER_OPEN
    assert not any(worker.frames for worker in world.alive(V2))
    [(_, view, since)] = manager.breakers.views(V2)
    assert (view.open, view.why, since) == (True, "it crashed 3 times in 60 s", 7.0)
    assert facts.of(BreakerOpened) == [], "that was reported when it opened"
    assert facts.of(BreakerClosed) == [], "nor did production, which was bound meanwhile, close it"
    manager.reset_breakers()
    assert [closed.version for closed in facts.of(BreakerClosed)] == [V2]


async def test_a_version_that_comes_back_finds_its_breaker_open_and_another_one_starts_anew(
    manager: ModelManager, dispatcher: Dispatcher, in_force: CapsInForce
) -> None:
    record(in_force, 0)
    manager.caps_changed()
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: manager.bound[CANARY] == V3)
    assert (await ask(dispatcher)).assigned.reason is Reason.HASH

    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound[CANARY] == V2)
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN


async def test_what_opens_and_closes_elsewhere_does_so_here(
    manager: ModelManager, dispatcher: Dispatcher, in_force: CapsInForce, facts: Facts
) -> None:
    record(in_force, 0)
    manager.caps_changed()
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN
    [opened] = facts.of(BreakerOpened)
    assert (opened.version, opened.why) == (V2, "it crashed 3 times in 60 s")
    manager.caps_changed()
    assert len(facts.of(BreakerOpened)) == 1

    record(in_force, None, counter=2)
    manager.caps_changed()
    assert (await ask(dispatcher)).assigned.reason is Reason.HASH
    assert [closed.version for closed in facts.of(BreakerClosed)] == [V2]


async def test_a_breaker_goes_on_counting_while_another_alias_moves(
    serving: ModelSet, manager: ModelManager, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    serving.apply({"sentiment": settings(split={"production": 40, "canary": 50, "challenger": 10})})
    world.answers[V2] = CRASHED
    await ask(dispatcher, 49)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2, Alias("challenger"): V3})
    await until(lambda: len(manager.bound) == 3)

    assert (await ask(dispatcher)).assigned.alias == CANARY
    assert (await ask(dispatcher)).assigned.reason is Reason.BREAKER_OPEN
