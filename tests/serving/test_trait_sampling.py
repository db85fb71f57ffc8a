"""Of which requests traits are wanted, and which of them count, as what."""

import asyncio
from itertools import cycle

import pytest
from msgspec.structs import replace

from router.core.ids import CANARY, PRODUCTION
from router.core.outcomes import Outcome
from router.core.traits import SAMPLED_SHARE, TraitsSeen, TraitsWanted
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from router.serving.trait_sampling import TraitSampler
from tests.serving.conftest import V1, V2, settings
from tests.support.fakes import Facts, FakeWorld, ok
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"  # buckets 418 and 62121 under the salt `sentiment`
TRAITS = (2, 8, 15)
GOOD = replace(ok(V2), traits=TRAITS)
RAISED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0, traits=TRAITS)
REFUSED = replace(RAISED, predict_status=PredictStatus.CLIENT_ERROR, status=400)
SHORT = replace(GOOD, rows=2, answer_rows=1)


@pytest.fixture
async def on(serving: ModelSet) -> ModelSet:
    serving.apply({"sentiment": settings(split={"production": 50, "canary": 50}, why="on")})
    return serving


@pytest.fixture
async def drawn(on: ModelSet, facts: Facts) -> Dispatcher:
    """Every second request is drawn, beginning with the first."""
    dispatcher = Dispatcher(on, facts)
    numbers = cycle((0.0, SAMPLED_SHARE))
    dispatcher._traits = TraitSampler(facts, lambda: next(numbers))
    return dispatcher


async def asked(dispatcher: Dispatcher, facts: Facts, key: str = CANARY_KEY) -> list[TraitsSeen]:
    """What is seen of one more request."""
    before = len(facts.of(TraitsSeen))
    await dispatcher.serve("sentiment", key, QUERY, keyed=True)
    return facts.of(TraitsSeen)[before:]


async def test_a_good_answer_counts_where_its_request_was_drawn_and_not_otherwise(
    drawn: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """Though its worker gives traits of it all the same."""
    world.answers[V2] = GOOD

    assert await asked(drawn, facts) == [TraitsSeen(CANARY, V2, 418, 1, TRAITS, 2, fault=False)]
    assert await asked(drawn, facts) == []
    assert [seen.ordinal for seen in await asked(drawn, facts)] == [3], "what was not drawn is counted, too"


@pytest.mark.parametrize("answer", [RAISED, REFUSED, SHORT], ids=["raises", "refuses", "wrong length"])
async def test_a_fault_counts_whether_its_request_was_drawn_or_not(
    drawn: Dispatcher, world: FakeWorld, facts: Facts, answer: Answer
) -> None:
    world.answers[V2] = answer
    for ordinal in (1, 2):
        assert await asked(drawn, facts) == [TraitsSeen(CANARY, V2, 418, ordinal, TRAITS, 2, fault=True)]


@pytest.mark.parametrize("answer", [RAISED, REFUSED], ids=["raises", "refuses"])
async def test_what_production_fails_as_well_is_neither_fault_nor_good(
    drawn: Dispatcher, world: FakeWorld, facts: Facts, answer: Answer
) -> None:
    world.answers = {V1: answer, V2: answer}
    assert [*await asked(drawn, facts), *await asked(drawn, facts)] == []


async def test_without_a_fallback_a_version_that_raises_is_at_fault_as_well(
    on: ModelSet, drawn: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    split = {"production": 50, "canary": 50}
    on.apply({"sentiment": settings(split=split, why="on", fallback="none")})
    world.answers[V2] = RAISED
    assert [seen.fault for seen in await asked(drawn, facts)] == [True]


async def test_of_a_worker_that_ended_the_fault_is_known_and_its_traits_are_not(
    drawn: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    task = asyncio.ensure_future(drawn.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    canary = next(worker for worker in world.workers if worker.version == V2)
    await until(lambda: bool(canary.frames))
    world.held = False
    canary.kill()
    ended = await task

    assert ended.outcome is Outcome.FALLBACK
    assert facts.of(TraitsSeen) == [TraitsSeen(CANARY, V2, 418, 1, None, 2, fault=True)]


async def test_production_is_asked_for_no_traits_not_even_in_the_canarys_place(
    drawn: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = RAISED
    await asked(drawn, facts)
    assert await asked(drawn, facts, PRODUCTION_KEY) == []

    wanted = {
        worker.version: {query.traits for frame in worker.frames for query in frame}
        for worker in world.workers
    }
    assert wanted == {V1: {TraitsWanted.NEVER}, V2: {TraitsWanted.ALWAYS}}


async def test_while_it_is_off_and_of_who_asks_directly_nothing_is_looked_at(
    drawn: Dispatcher, on: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = GOOD
    await drawn.serve_direct("sentiment", CANARY, QUERY)
    on.apply({"sentiment": settings(split={"production": 50, "canary": 50})})

    assert [*await asked(drawn, facts), *await asked(drawn, facts)] == []
    canary = next(worker for worker in world.workers if worker.version == V2)
    assert {query.traits for frame in canary.frames for query in frame} == {TraitsWanted.NEVER}


async def test_a_tenth_is_drawn(on: ModelSet, facts: Facts) -> None:
    sampler = TraitSampler(facts)
    assigned = (await Dispatcher(on, facts).serve("sentiment", CANARY_KEY, QUERY, keyed=True)).assigned
    draws = [sampler.draw(assigned, 418) for _ in range(10_000)]

    drawn = sum(one.wanted is TraitsWanted.ALWAYS for one in draws)
    assert 850 <= drawn <= 1150, "five standard deviations"
    assert [one.ordinal for one in draws[:3]] == [1, 2, 3]
    assert draws[-1].ordinal == 255
    assert assigned.alias != PRODUCTION
