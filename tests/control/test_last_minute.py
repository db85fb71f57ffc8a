"""What `/v1/state` says of the last minute: what was refused, by whom, and whether it is worth a warning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control import last_minute
from router.control.alias_watch import AliasWatch
from router.control.fan_out import FanOut
from router.control.last_minute import AliasMinute, GatewayMinute, LastMinute, ModelMinute
from router.core.events import Answered, Event, FellBack, Predicted, Rejected
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.outcomes import FallbackReason, Fault, FaultKind, Outcome, RefusalReason
from router.core.scores import OTHER
from router.errors import Overloaded
from router.protocol.messages import Query
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from router.serving.pool import request_queue
from tests.serving.conftest import V2
from tests.support.fakes import Facts, FakeWorld
from tests.support.sample_events import Clock
from tests.support.status import status_of

ALIASES = (PRODUCTION, CANARY)


def answered(alias: Alias = PRODUCTION, outcome: Outcome = Outcome.OK, fault: Fault = "") -> Answered:
    version = VersionId("m", 1 if alias == PRODUCTION else 2)
    return Answered("m", alias, version, outcome, 200, 0.01, 1, fault=fault)


def counted(*facts: Event) -> LastMinute:
    counts = LastMinute(Clock(1_000.5))
    for fact in facts:
        counts.record(fact)
    return counts


FULL = answered(outcome=Outcome.OVERLOADED)


def test_refused_is_what_got_503_and_passed_on_is_what_production_answered_unseen_by_the_canary() -> None:
    counts = counted(
        *[answered()] * 5,
        *[FULL] * 2,
        answered(outcome=Outcome.MODEL_ERROR, fault=FaultKind.CRASH),
        answered(outcome=Outcome.TIMEOUT, fault=FaultKind.TIMEOUT),
        answered(outcome=Outcome.ABANDONED),
        answered(CANARY),
        FellBack("m", CANARY, PRODUCTION, FallbackReason.OVERLOADED),
        answered(CANARY, Outcome.FALLBACK),
        answered(CANARY, Outcome.FALLBACK, FaultKind.ERROR),
        FellBack("m", CANARY, PRODUCTION, FallbackReason.OVERLOADED),
        answered(CANARY, Outcome.OVERLOADED),
        Predicted("m", CANARY, V2, 0.1, 0.1, 1, 1, ()),
    )

    minute = counts.of("m", ALIASES)
    assert minute.aliases == {PRODUCTION: AliasMinute(10, 2, 0), CANARY: AliasMinute(4, 1, 1)}
    assert (minute.requests, minute.refused) == (14, 3)
    assert counts.of("other", ALIASES).requests == 0


moments = st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans()), max_size=60)


@given(moments, st.floats(0.0, 130.0))
def test_it_is_a_sliding_minute(moments: list[tuple[float, bool]], later: float) -> None:
    """Whole seconds: those of the last 59 are all counted, and none is older than 60."""
    clock = Clock(1_000.5)
    counts, times = LastMinute(clock), []
    for pause, refused in moments:
        clock.now += pause
        counts.record(FULL if refused else answered())
        times.append((clock.now, refused))
    clock.now += later

    minute = counts.of("m", ALIASES).aliases[PRODUCTION]
    for part, some in ((minute.requests, times), (minute.refused, [one for one in times if one[1]])):
        assert part >= sum(clock.now - at <= last_minute.SECONDS - 1 for at, _ in some)
        assert part <= sum(clock.now - at < last_minute.SECONDS for at, _ in some)


def test_what_it_holds_is_bounded_by_the_aliases_of_a_minute() -> None:
    """Also where models come and go: an answer to a model that was removed may be the last thing of it."""
    clock = Clock(1_000.5)
    counts = LastMinute(clock)
    for _ in range(3_000):
        clock.now += 0.1
        counts.record(answered())
        counts.record(FULL)
    [slices] = counts._slices.values()
    assert len(slices) == last_minute.SECONDS

    for number in range(1_000):
        clock.now += 1.0
        counts.record(Answered(f"m{number}", PRODUCTION, VersionId("m", 1), Outcome.OK, 200, 0.1, 1))
    assert len(counts._slices) <= last_minute.SECONDS


def minute_of(alias: Alias, requests: int, refused: int, passed_on: int = 0) -> ModelMinute:
    return ModelMinute({PRODUCTION: AliasMinute(), alias: AliasMinute(requests, refused, passed_on)})


GOT_503 = "and callers got 503"
BUSY = f"more came than are answered in time, {GOT_503}"
PASSED_ON = "its queue was full, or it had no worker; production answered"
LONG_BODIES = "too many long bodies waited to be searched for their key"


@pytest.mark.parametrize(
    ("minute", "refusing", "warning"),
    [
        (minute_of(PRODUCTION, 0, 0), False, ""),
        (minute_of(PRODUCTION, 1000, 10), False, ""),
        (
            minute_of(PRODUCTION, 1000, 11),
            True,
            f"production refused 1.1 % of its requests in the last minute (11 of 1000): {BUSY}",
        ),
        (
            minute_of(Alias("beta"), 6, 1),
            True,
            f"beta refused 16.7 % of its requests in the last minute (1 of 6): {BUSY}",
        ),
        (minute_of(CANARY, 1000, 10, 10), False, ""),
        (
            minute_of(CANARY, 100, 0, 30),
            False,
            f"canary did not take 30 % of its requests in the last minute (30 of 100): {PASSED_ON}",
        ),
        (ModelMinute({PRODUCTION: AliasMinute(990)}, refused_early=10), False, ""),
        (
            ModelMinute({PRODUCTION: AliasMinute(80)}, refused_early=20),
            True,
            f"{LONG_BODIES}: 20 % of its requests in the last minute (20 of 100) reached no alias, {GOT_503}",
        ),
    ],
    ids=[
        "nothing came",
        "1 %",
        "over 1 %",
        "another alias",
        "a canary at 1 % of both",
        "passed on",
        "early, 1 %",
        "early, over 1 %",
    ],
)
def test_over_one_percent_refused_is_a_warning_and_what_production_answered_is_another_one(
    minute: ModelMinute, warning: str, *, refusing: bool
) -> None:
    """The latter hurts nobody, so `status` does not end with 1 for it."""
    assert minute.warnings() == ([warning] if warning else [])
    assert (minute.refusing, GatewayMinute([minute]).refusing) == (refusing, refusing)


def test_a_small_alias_that_refuses_is_not_hidden_by_a_large_one() -> None:
    minute = ModelMinute({PRODUCTION: AliasMinute(100_000), CANARY: AliasMinute(50, 1)})

    assert minute.refusing
    assert [line.split()[0] for line in minute.warnings()] == ["canary"]


def test_requests_refused_before_an_alias_count_for_their_model_and_connections_for_the_gateway() -> None:
    counts = counted(
        *[answered()] * 3,
        Rejected("m", RefusalReason.OVERLOADED),
        Rejected("m", RefusalReason.INVALID_BODY),
        Rejected(OTHER, RefusalReason.OVERLOADED),
        Rejected(OTHER, RefusalReason.OVERLOADED),
        Rejected(OTHER, RefusalReason.MALFORMED),
    )
    model = counts.of("m", ALIASES)
    gateway = counts.of_gateway([model])

    assert (model.requests, model.refused, model.refused_early) == (4, 1, 1)
    assert gateway.to_json() == {"requests": 4, "refused": 1, "connections_refused": 2, "refusing": True}
    assert gateway.warnings() == [
        "2 connections were refused in the last minute: as many as may be were open and busy"
    ]
    assert not GatewayMinute([minute_of(PRODUCTION, 990, 0)], connections_refused=10).refusing


@pytest.mark.parametrize("full", [{CANARY}, {CANARY, PRODUCTION}], ids=["the canary", "both"])
async def test_a_full_queue_is_in_the_state_of_its_model_by_alias(
    serving: ModelSet,
    dispatcher: Dispatcher,
    world: FakeWorld,
    facts: Facts,
    full: set[Alias],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the refusal in the pool to the document."""
    counts = LastMinute(Clock(1_000.5))
    recorder = FanOut(counts, facts)

    def put(self: request_queue.RequestQueue, request: request_queue.PendingRequest, most_rows: int) -> None:
        if request.alias in full:
            raise Overloaded("full")
        original(self, request, most_rows)

    original = request_queue.RequestQueue.put
    monkeypatch.setattr(request_queue.RequestQueue, "put", put)
    for key in ["user-1"] * 3 + ["user-2"] * 2:  # the second one is the canary's
        ended = await dispatcher.serve("sentiment", key, Query(b"{}", None), keyed=True)
        recorder.record(ended.fact(200, 0.01))
    watch = AliasWatch(world, serving, facts, lambda: 1e9)
    state = status_of(serving, watch, facts, world, last_minute=counts).document()

    both = PRODUCTION in full
    model = state["models"]["sentiment"]
    assert model["last_minute"] == {
        "requests": 5,
        "refused": 5 if both else 0,
        "refusing": both,
        "aliases": {
            "production": {"requests": 3, "refused": 3 * both, "passed_on": 0, "refusing": both},
            "canary": {
                "requests": 2, "refused": 2 * both, "passed_on": 2 * (not both), "refusing": both
            },
        },
    }  # fmt: skip
    assert state["last_minute"] == {
        "requests": 5, "refused": 5 * both, "connections_refused": 0, "refusing": both
    }  # fmt: skip
    refuse = ["production refused 100 %", "canary refused 100 %"]
    starts = refuse if both else ["canary did not take 100 %"]
    assert [line.partition(" of its")[0] for line in model["warnings"]] == starts
