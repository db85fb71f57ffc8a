"""One recorder in front of many."""

import asyncio
import time

import pytest

from router.control.fan_out import FanOut
from router.core.events import Answered, AnsweredTogether, Event, Polled, ReadinessChanged, Rejected
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.outcomes import Outcome, RefusalReason

V1, V2 = VersionId("m", 1), VersionId("m", 2)


def answered(version: VersionId, alias: Alias, code: int = 200) -> Answered:
    return Answered("m", alias, version, Outcome.OK, code, 0.004, 1)


class Broken:
    """A recorder with a bug."""

    def record(self, event: Event) -> None:
        raise ZeroDivisionError


class Remembering:
    """A recorder that keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


def test_one_recorder_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    first, last = Remembering(), Remembering()
    recorder = FanOut(first, Broken(), last)
    fact = ReadinessChanged(ready=True)
    for _ in range(3):
        recorder.record(fact)

    assert first.events == last.events == [fact] * 3
    assert len(caplog.records) == 1
    assert "Broken can not take ReadinessChanged" in caplog.text


def test_what_repeats_itself_and_what_each_request_reports_reaches_only_who_counts() -> None:
    counting, reading = Remembering(), Remembering()
    recorder = FanOut(counting, deduplicated=(reading,))
    facts = [Rejected("m", RefusalReason.TOO_LARGE), *[Polled("m", 1.0, "away")] * 3, Polled("m", 0.1, "")]
    for fact in facts:
        recorder.record(fact)

    assert counting.events == facts
    assert reading.events == [facts[1], facts[-1]]


class Answering:
    """A recorder that records an effect of each cause it gets, while it gets it."""

    def __init__(self) -> None:
        self.recorder: FanOut | None = None

    def record(self, event: Event) -> None:
        if isinstance(event, Polled) and self.recorder is not None:
            self.recorder.record(ReadinessChanged(ready=not event.error))


def test_every_recorder_gets_a_cause_before_what_another_one_recorded_of_it() -> None:
    """The comparison records a verdict that changed while it is given the alias that moved."""
    answering, counting, reading = Answering(), Remembering(), Remembering()
    answering.recorder = recorder = FanOut(answering, counting, deduplicated=(reading,))
    causes = [Polled("m", 1.0, "away"), Polled("m", 0.1, "")]
    for cause in causes:
        recorder.record(cause)

    effects = [ReadinessChanged(ready=False), ReadinessChanged(ready=True)]
    both = [causes[0], effects[0], causes[1], effects[1]]
    assert counting.events == both
    assert reading.events == both


def test_a_recorder_that_is_added_gets_what_is_recorded_from_then_on() -> None:
    first, reading, added = Remembering(), Remembering(), Remembering()
    recorder = FanOut(first, deduplicated=(reading,))
    recorder.record(ReadinessChanged(ready=True))
    recorder.add(added)
    recorder.record(ReadinessChanged(ready=False))

    assert added.events == [ReadinessChanged(ready=False)]
    assert first.events == reading.events == [ReadinessChanged(ready=True), ReadinessChanged(ready=False)]


async def test_answers_are_handed_on_together_by_version_in_order_and_before_what_follows_them() -> None:
    counting, reading = Remembering(), Remembering()
    recorder = FanOut(counting, deduplicated=(reading,))
    first, second = answered(V1, PRODUCTION), answered(V1, PRODUCTION, 500)
    canary, last = answered(V2, CANARY), answered(V1, PRODUCTION, 504)
    for answer in (first, second, canary, last):
        recorder.record_answer(answer)
    fact = ReadinessChanged(ready=True)
    recorder.record(fact)

    together = [
        AnsweredTogether("m", PRODUCTION, V1, [first, second]),
        AnsweredTogether("m", CANARY, V2, [canary]),
        AnsweredTogether("m", PRODUCTION, V1, [last]),
    ]
    assert counting.events == [*together, fact]
    assert reading.events == [fact]


async def test_answers_that_are_handed_on_later_say_when_the_first_of_them_was_given() -> None:
    counting = Remembering()
    recorder = FanOut(counting)
    before = time.monotonic()
    recorder.record_answer(answered(V1, PRODUCTION))
    after = time.monotonic()
    await asyncio.sleep(0.01)

    [together] = counting.events
    assert isinstance(together, AnsweredTogether)
    assert together.collected_at is not None
    assert before <= together.collected_at <= after


async def test_an_answer_is_handed_on_in_the_next_turn_of_the_event_loop_though_nothing_follows_it() -> None:
    counting = Remembering()
    recorder = FanOut(counting)
    for code in (200, 500):
        answer = answered(V1, PRODUCTION, code)
        recorder.record_answer(answer)
        await asyncio.sleep(0)

        assert counting.events.pop() == AnsweredTogether("m", PRODUCTION, V1, [answer])
        assert not counting.events


async def test_what_a_recorder_records_while_it_counts_answers_follows_them() -> None:
    class Judging(Remembering):
        def record(self, event: Event) -> None:
            super().record(event)
            if isinstance(event, AnsweredTogether):
                recorder.record(ReadinessChanged(ready=False))

    judging, counting = Judging(), Remembering()
    recorder = FanOut(judging, counting)
    recorder.record_answer(answered(V1, PRODUCTION))
    recorder.record(ReadinessChanged(ready=True))

    assert [type(event) for event in counting.events] == [AnsweredTogether, *[ReadinessChanged] * 2]
    assert counting.events == judging.events
