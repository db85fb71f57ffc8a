"""What an answer says of the version its key was given: fault, excuse, bin, and the batch to blame."""

import asyncio

import pytest
from msgspec.structs import replace

from router.core.events import FellBack
from router.core.scores import ScoreCounts
from router.protocol.messages import Answer, Batching, PredictStatus, Query
from router.serving.dispatch import Dispatcher, RequestResult
from router.serving.models import ModelSet
from router.serving.pool.worker_slot import STALL_SECONDS, StallTracker
from tests.serving.conftest import V1, V2, settings
from tests.support.fakes import Facts, FakeWorld, ok
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"  # buckets 418 and 62121 under the salt `sentiment`
RAISED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
REFUSED = Answer(PredictStatus.CLIENT_ERROR, 400, b"{}", "application/json", 0, 0.0)
ALL_NAN = Answer(
    PredictStatus.OK,
    200,
    b"[NaN]",
    "application/json",
    1,
    0.0,
    (ScoreCounts((0,) * 20, nan=1),),
    1,
    bin_index=3,
)
ODD = Answer(PredictStatus.OK, 200, b"[1]", "application/json", 2, 0.0, None, 1)


async def ask(dispatcher: Dispatcher, key: str) -> RequestResult:
    return await dispatcher.serve("sentiment", key, QUERY, keyed=True)


CASES = {
    "both answer": (ok(V1), ok(V2), "", "", False),
    "the canary raises": (ok(V1), RAISED, "", "error", False),
    "the canary refuses what production answers": (ok(V1), REFUSED, "", "error", False),
    "both refuse": (REFUSED, REFUSED, "", "", False),
    "both raise": (RAISED, RAISED, "error", "error", True),
    "the canary answers NaN": (ok(V1), ALL_NAN, "", "invalid_output", False),
    "both answer NaN": (ALL_NAN, ALL_NAN, "invalid_output", "invalid_output", True),
    "the canary answers another length": (ok(V1), ODD, "", "invalid_output", False),
}


@pytest.mark.parametrize(
    ("production", "canary", "fault", "canary_fault", "excused"), CASES.values(), ids=CASES
)
async def test_a_fault_has_one_name_whoever_commits_it(
    dispatcher: Dispatcher,
    world: FakeWorld,
    production: Answer,
    canary: Answer,
    fault: str,
    canary_fault: str,
    excused: bool,
) -> None:
    world.answers = {V1: production, V2: canary}
    given_to_canary = await ask(dispatcher, CANARY_KEY)
    given_to_production = await ask(dispatcher, PRODUCTION_KEY)

    assert (given_to_production.fault, given_to_production.excused) == (fault, False)
    assert (given_to_canary.fault, given_to_canary.excused) == (canary_fault, excused)
    assert given_to_canary.blamed_batch is given_to_production.blamed_batch is None


async def test_a_first_answer_of_another_length_is_a_fault_of_production_and_the_next_is_its_way(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.answers[V1] = ODD
    assert [(await ask(dispatcher, PRODUCTION_KEY)).fault for _ in range(3)] == ["invalid_output", "", ""]


async def test_the_bin_is_that_of_the_version_the_key_was_given(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.answers = {V1: replace(ok(V1), bin_index=4), V2: replace(ok(V2), bin_index=7)}
    bin_indexes = [(await ask(dispatcher, key)).bin_index for key in (PRODUCTION_KEY, CANARY_KEY)]
    world.answers[V2] = RAISED

    assert bin_indexes == [4, 7]
    assert (await ask(dispatcher, CANARY_KEY)).bin_index is None, (
        "production's answer says nothing of the canary"
    )


async def test_production_that_is_later_than_a_canary_may_be_counts_as_too_late(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """Or a canary that is as slow as production would be called worse."""
    split = {"production": 50, "canary": 50}
    serving.apply({"sentiment": settings(split=split, canary_timeout_seconds=0.05)})
    world.held = True
    asked = asyncio.create_task(ask(dispatcher, PRODUCTION_KEY))
    await asyncio.sleep(0.08)
    world.alive(V1)[0].release()
    served = await asked

    assert (served.outcome, served.fault, served.blamed_batch) == ("ok", "timeout", None)


async def test_a_canarys_timeout_is_excused_where_production_takes_as_long(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    split = {"production": 50, "canary": 50}
    serving.apply({"sentiment": settings(split=split, canary_timeout_seconds=0.05)})
    world.held = True
    asked = asyncio.create_task(ask(dispatcher, CANARY_KEY))
    await until(lambda: world.alive(V1)[0].frames)
    await asyncio.sleep(0.08)
    world.alive(V1)[0].release()
    served = await asked

    assert (served.outcome, served.fault, served.excused) == ("fallback", "timeout", True)


async def test_who_waits_for_a_predict_that_hangs_names_it_and_who_hangs_alone_names_none(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    split = {"production": 50, "canary": 50}
    serving.apply({"sentiment": settings(split=split, canary_timeout_seconds=0.1)})
    world.held = True
    culprit = asyncio.create_task(ask(dispatcher, CANARY_KEY))
    await until(lambda: world.alive(V2)[0].frames)
    victims = [asyncio.create_task(ask(dispatcher, CANARY_KEY)) for _ in range(5)]
    await until(lambda: len(facts.of(FellBack)) == 6)
    world.held = False
    world.alive(V1)[0].release_all()

    alone, others = await culprit, [await victim for victim in victims]
    assert (alone.fault, alone.blamed_batch) == ("timeout", None)
    assert {one.fault for one in others} == {"timeout"}
    [batch] = {one.blamed_batch for one in others}
    assert batch is not None


async def test_who_shares_a_predict_that_hangs_names_it(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    split = {"production": 50, "canary": 50}
    serving.apply({"sentiment": settings(split=split, canary_timeout_seconds=0.1)})
    world.held = True
    asked = [asyncio.create_task(ask(dispatcher, CANARY_KEY)) for _ in range(4)]
    await until(lambda: len(facts.of(FellBack)) == 4)
    assert len(world.alive(V2)[0].frames[0]) == 4
    world.held = False
    world.alive(V1)[0].release_all()

    batches = {(await one).blamed_batch for one in asked}
    assert len(batches) == 1
    assert batches != {None}


def test_side_by_side_a_process_that_says_nothing_is_named_once() -> None:
    """One of them may hold the interpreter; the others did nothing wrong."""
    silence = StallTracker(number=0)
    silence.begin(10.0)
    silence.end(7, 10.01)
    assert silence.since(10.01, 10.01 + STALL_SECONDS * 2) == 7, "it lasts"
    assert silence.since(10.0, 12.0) == 7
    silence.end(8, 12.0)
    silence.end(9, 12.001)
    assert silence.since(10.02, 12.002) == 7, "it is just over, and who waited names the same one"
    assert silence.since(11.999, 12.4) is None, "most of its time was later"


async def test_a_version_without_room_was_never_asked(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    serving.apply({"sentiment": settings(split={"production": 50, "canary": 50}, queue_rows=1)})
    world.held, world.batching = True, Batching(merges=False, why="a fake")
    waiting = [asyncio.create_task(ask(dispatcher, CANARY_KEY)) for _ in range(2)]
    await until(lambda: world.alive(V2)[0].frames)
    refused = asyncio.create_task(ask(dispatcher, CANARY_KEY))
    await until(lambda: world.alive(V1)[0].frames)
    world.alive(V1)[0].release_all()
    served = await refused

    assert (served.outcome, served.fault) == ("fallback", "")
    for task in waiting:
        task.cancel()
