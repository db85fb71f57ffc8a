"""One recorder in front of many."""

import pytest

from router.control.fan_out import FanOut
from router.core.events import Event, Polled, ReadinessChanged, Rejected
from router.core.outcomes import RefusalReason


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
