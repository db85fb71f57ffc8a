"""One request: whom its key gets, who answers, and what happens when the canary does wrong."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace

from router.core.events import CanaryFaulted, FellBack
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import Assignment, Reason
from router.core.score_events import ReadResult
from router.core.scores import SCORED_LATER, ScoreCounts
from router.errors import DeadlineExceeded, ModelNotConfigured, NotReady, WorkerDied
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.dispatch import KNOWN_ANSWERS, AdaptiveTimeout, Dispatcher
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"  # buckets 418 and 62121 under the salt `sentiment`
CRASHED = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
NAN_SCORE = (ScoreCounts((0,) * 20, nan=1),)
ALL_NAN = Answer(PredictStatus.OK, 200, b"[NaN]", "application/json", 1, 0.0, NAN_SCORE, 1)
SHORT = Answer(PredictStatus.OK, 200, b"[1]", "application/json", 2, 0.0, None, 1)
FIVE = replace(SHORT, body=b"[5, 4, 3, 2, 1]", rows=1, answer_rows=5)
MAPPING = replace(SHORT, body=b"{}", answer_rows=None)
REFUSED = Answer(PredictStatus.CLIENT_ERROR, 400, b"{}", "application/json", 0, 0.0)


def body_of(result: object) -> bytes:
    assert isinstance(result, Answer)
    return result.body


async def test_the_key_decides_who_answers(dispatcher: Dispatcher) -> None:
    canary = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    production = await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)

    assert (body_of(canary.result), canary.answered_by.alias, canary.assigned.bucket) == (b"v2", CANARY, 418)
    assert (body_of(production.result), production.answered_by.reason) == (b"v1", Reason.HASH)


@pytest.mark.parametrize(
    ("answer", "kind"), [(CRASHED, "error"), (REFUSED, "error")], ids=["raises", "refuses by its signature"]
)
async def test_what_the_canary_does_wrong_is_answered_by_production_and_counted(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts, answer: Answer, kind: str
) -> None:
    world.answers[V2] = answer
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (body_of(served.result), served.outcome) == (b"v1", "fallback")
    assert (served.assigned.alias, served.answered_by.alias) == (CANARY, PRODUCTION)
    assert facts.of(CanaryFaulted) == [CanaryFaulted("sentiment", CANARY, V2, kind)]
    assert facts.of(FellBack)[0].to_alias == PRODUCTION


async def test_a_request_that_production_refuses_too_is_the_callers_fault(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers = {V1: REFUSED, V2: CRASHED}
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (REFUSED, "client_error")
    assert facts.of(CanaryFaulted) == []


@pytest.mark.parametrize("answer", [ALL_NAN, SHORT], ids=["all NaN", "wrong length"])
async def test_an_answer_that_can_not_be_one_is_answered_by_production_and_counted(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts, answer: Answer
) -> None:
    world.answers[V2] = answer
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (body_of(served.result), served.outcome) == (b"v1", "fallback")
    assert facts.of(CanaryFaulted) == [CanaryFaulted("sentiment", CANARY, V2, "invalid_output")]
    assert facts.of(FellBack)[0].reason == "invalid_output"


async def test_an_invalid_output_where_production_refuses_is_the_callers_fault(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers = {V1: REFUSED, V2: ALL_NAN}
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (REFUSED, "client_error")
    assert facts.of(CanaryFaulted) == []


async def test_an_invalid_output_where_production_crashes_is_a_model_error(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.answers = {V1: CRASHED, V2: SHORT}
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (CRASHED, "model_error")


async def test_the_outcome_is_that_of_the_answer_which_its_caller_gets(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """A refusal of the canary does not make a caller's fault of production's crash."""
    world.answers = {V1: CRASHED, V2: REFUSED}
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (CRASHED, "model_error")


async def test_a_canary_that_answers_nan_where_production_does_too_is_innocent(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers = {V1: ALL_NAN, V2: ALL_NAN}
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.answered_by.alias, served.outcome) == (PRODUCTION, "fallback")
    assert facts.of(CanaryFaulted) == []


async def test_a_model_that_answers_any_length_is_asked_twice_only_once(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """A forecast answers more rows than it was given. Production's own answers show it."""
    world.answers = {V1: SHORT, V2: SHORT}
    for _ in range(3):
        served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.answered_by.alias, served.outcome) == (CANARY, "ok")
    assert len(facts.of(FellBack)) == 1
    assert facts.of(CanaryFaulted) == []


@pytest.mark.parametrize("production_is_first", [True, False])
async def test_a_length_is_wrong_only_where_production_answers_one_item_per_row(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts, *, production_is_first: bool
) -> None:
    """Production answers several rows with one mapping: a canary's list of one has no length to keep to."""
    world.answers = {V1: MAPPING, V2: SHORT}
    if production_is_first:
        await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)
    served = [await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True) for _ in range(3)]

    assert [one.outcome for one in served] == ["ok" if production_is_first else "fallback", "ok", "ok"]
    assert facts.of(CanaryFaulted) == []


async def test_a_canary_that_answers_without_rows_as_well_keeps_to_no_length(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = MAPPING
    await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    world.answers[V2] = SHORT
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.answered_by.alias, served.outcome) == (CANARY, "ok")
    assert facts.of(CanaryFaulted) == []


async def test_where_any_length_is_allowed_a_canary_may_answer_five_for_one(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    """From the change of the setting on, and NaN is no more an answer than before."""
    split = {"production": 50, "canary": 50}
    world.answers[V2] = FIVE
    before = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    serving.apply({"sentiment": settings(split=split, answer_length="any")})
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (before.outcome, served.answered_by.alias, served.outcome) == ("fallback", CANARY, "ok")
    assert len(facts.of(CanaryFaulted)) == 1
    world.answers[V2] = ALL_NAN
    assert (await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)).outcome == "fallback"
    serving.apply({"sentiment": settings(split=split)})
    world.answers[V2] = FIVE
    assert (await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)).outcome == "fallback"


@pytest.mark.parametrize("alias", [PRODUCTION, CANARY])
async def test_where_any_length_is_allowed_no_version_is_at_fault_for_it(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, alias: Alias
) -> None:
    """Production's answers and those that nobody stands in for are judged in the same way."""
    kept = {"split": {"production": 50, "canary": 50}, "fallback": "none", "answer_length": "any"}
    serving.apply({"sentiment": settings(**kept)})
    world.answers = {V1: FIVE, V2: FIVE}
    key = {PRODUCTION: PRODUCTION_KEY, CANARY: CANARY_KEY}[alias]
    assert (await dispatcher.serve("sentiment", key, QUERY, keyed=True)).fault == ""


async def test_without_fallback_an_odd_answer_is_the_callers(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    serving.apply({"sentiment": settings(split={"production": 50, "canary": 50}, fallback="none")})
    world.answers[V2] = ALL_NAN
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (ALL_NAN, "ok")


async def test_a_canary_killed_under_a_request_costs_its_caller_nothing(
    dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V2)[0].frames)
    world.held = False
    world.alive(V2)[0].kill()

    served = await asked
    assert (body_of(served.result), served.outcome) == (b"v1", "fallback")
    assert facts.of(CanaryFaulted)[0].kind == "crash"


async def test_a_hanging_canary_has_its_own_time_and_production_the_rest(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    serving.apply(
        {"sentiment": settings(split={"production": 50, "canary": 50}, canary_timeout_seconds=0.05)}
    )
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V1)[0].frames)
    world.alive(V1)[0].release()

    assert body_of((await asked).result) == b"v1"
    assert facts.of(CanaryFaulted)[0].kind == "timeout"
    assert not world.alive(V2)[0].exited.done(), "the canary's own time never ends its worker"


async def test_production_that_dies_under_a_request_is_reported_and_not_retried(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V1)[0].frames)
    world.alive(V1)[0].kill()

    served = await asked
    assert isinstance(served.result, WorkerDied)
    assert served.outcome == "model_error"


async def test_a_caller_whose_time_is_over_gets_a_timeout(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    serving.apply({"sentiment": settings(timeout_seconds=0.05)})
    world.held = True
    served = await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)

    assert isinstance(served.result, DeadlineExceeded)
    assert served.outcome == "timeout"


async def test_without_fallback_the_canarys_answer_is_the_callers(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    serving.apply({"sentiment": settings(split={"production": 50, "canary": 50}, fallback="none")})
    world.answers[V2] = CRASHED
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.result, served.outcome) == (CRASHED, "model_error")
    assert facts.of(FellBack) == []


async def test_direct_access_never_falls_back(dispatcher: Dispatcher, world: FakeWorld) -> None:
    world.answers[V2] = CRASHED
    served = await dispatcher.serve_direct("sentiment", CANARY, QUERY)

    assert (served.result, served.assigned.reason) == (CRASHED, Reason.DIRECT)


async def test_one_version_under_both_aliases_has_nothing_to_fall_back_to(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld, facts: Facts
) -> None:
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1, CANARY: V1})
    world.answers[V1] = CRASHED
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.assigned.alias, served.assigned.reason) == (CANARY, Reason.SAME_VERSION)
    assert served.outcome == "model_error"
    assert facts.of(CanaryFaulted) == []


async def test_a_missing_canarys_share_goes_to_production(serving: ModelSet, dispatcher: Dispatcher) -> None:
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1})
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (served.assigned.alias, served.assigned.reason) == (PRODUCTION, Reason.CANARY_ABSENT)


async def test_only_a_canary_is_not_ready_and_never_stands_in(models: ModelSet, facts: Facts) -> None:
    models.managers["sentiment"].set_aspired({CANARY: V2})
    await until(lambda: CANARY in models.managers["sentiment"].bound)
    with pytest.raises(NotReady):
        await Dispatcher(models, facts).serve("sentiment", CANARY_KEY, QUERY, keyed=True)


async def test_an_unknown_model_is_refused(dispatcher: Dispatcher) -> None:
    with pytest.raises(ModelNotConfigured):
        await dispatcher.serve("nobody", "k", QUERY, keyed=True)


async def test_in_flight_counts_a_request_once_under_what_its_key_was_given(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V2)[0].frames)
    assert dispatcher.in_flight == {("sentiment", CANARY): 1}
    world.alive(V2)[0].release()
    await asked
    assert dispatcher.in_flight[("sentiment", CANARY)] == 0


async def test_a_request_given_before_a_swap_is_answered_by_the_version_it_was_given(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V1)[0].frames)
    serving.managers["sentiment"].set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: serving.managers["sentiment"].bound[PRODUCTION] == V3)
    world.alive(V1)[0].release()

    served = await asked
    assert (body_of(served.result), served.answered_by.version) == (b"v1", V1)


@pytest.mark.parametrize(
    ("key", "fails", "waits", "body"),
    [(PRODUCTION_KEY, False, V1, b"v1"), (CANARY_KEY, False, V2, b"v2"), (CANARY_KEY, True, V1, b"v1")],
    ids=["production", "canary", "production in the canary's place"],
)
async def test_a_request_is_answered_though_its_model_leaves_the_configuration_meanwhile(
    serving: ModelSet,
    dispatcher: Dispatcher,
    world: FakeWorld,
    key: str,
    fails: bool,
    waits: VersionId,
    body: bytes,
) -> None:
    if fails:
        world.answers[V2] = CRASHED
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", key, QUERY, keyed=True))
    if fails:
        await until(lambda: world.alive(V2)[0].frames)
        world.alive(V2)[0].release()
    await until(lambda: world.alive(waits)[0].frames)
    serving.apply({"other": settings()})
    world.alive(waits)[0].release()

    assert body_of((await asked).result) == body


async def test_a_fact_carries_the_split_that_routed_it_though_another_is_in_force_when_it_ends(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    before = serving.table.models["sentiment"].configured_split
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V2)[0].frames)
    serving.apply({"sentiment": settings(split={"production": 75, "canary": 25})})
    assert serving.table.models["sentiment"].configured_split != before
    world.alive(V2)[0].release()

    assert (await asked).fact(200, 0.1).split is before
    world.held = False
    direct = await dispatcher.serve_direct("sentiment", CANARY, QUERY)
    assert direct.fact(200, 0.1).split is None, "no split decided of it"


def test_a_canary_has_half_the_callers_time_until_production_is_known() -> None:
    patience = AdaptiveTimeout()
    assert patience.seconds(60, None) == 30
    for _ in range(KNOWN_ANSWERS):
        patience.note(0.010)
    assert patience.seconds(60, None) == 1.0
    for _ in range(KNOWN_ANSWERS):
        patience.note(2.0)
    assert patience.seconds(60, None) == pytest.approx(6.0)
    assert patience.seconds(10, None) == 5.0
    assert patience.seconds(10, 0.5) == 0.5


class Offered:
    """Takes answers whose scores are to be read."""

    results: Mapping[ReadResult, int] = {}
    error = ""
    has_chosen = True

    def __init__(self) -> None:
        self.on_chosen: Callable[[], None] = lambda: None
        self.answers: list[tuple[Assignment, bytes]] = []

    def offer(self, asked: Assignment, answer: bytes) -> None:
        self.answers.append((asked, answer))


async def test_good_answers_that_are_scored_later_are_offered_as_what_they_were_asked_as(
    dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """Each of them once, those of production in a canary's place too, and no fault."""
    offered = Offered()
    for worker in world.workers:
        worker.score_reader = offered
    world.answers[V1] = replace(SHORT, body=b"one", answer_rows=None, bin_index=SCORED_LATER)
    world.answers[V2] = replace(world.answers[V1], body=b"two")
    await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)
    served = await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)
    world.answers[V2] = CRASHED
    await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert [(asked.alias, asked.reason, body) for asked, body in offered.answers] == [
        (PRODUCTION, Reason.HASH, b"one"),
        (CANARY, Reason.HASH, b"two"),
        (PRODUCTION, Reason.FALLBACK, b"one"),
    ]
    assert offered.answers[1][0].bucket == 418
    assert served.fact(200, 0.1).bin_index == SCORED_LATER


async def test_a_late_answer_of_production_is_a_fault_whose_score_is_not_compared(
    serving: ModelSet, dispatcher: Dispatcher, world: FakeWorld
) -> None:
    """A canary's late answer is none; were production's read, its slow requests would be in one arm alone."""
    offered = Offered()
    for worker in world.workers:
        worker.score_reader = offered
    serving.apply(
        {"sentiment": settings(split={"production": 50, "canary": 50}, canary_timeout_seconds=1e-9)}
    )
    world.answers[V1] = replace(SHORT, answer_rows=None, bin_index=SCORED_LATER)

    served = await dispatcher.serve("sentiment", PRODUCTION_KEY, QUERY, keyed=True)

    assert (served.outcome, served.fault, served.assigned.bucket) == ("ok", "timeout", 62121)
    assert [(asked.alias, asked.bucket) for asked, _ in offered.answers] == [(PRODUCTION, None)]
