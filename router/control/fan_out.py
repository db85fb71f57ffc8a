"""One recorder in front of many, and the rule which events say something new."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Protocol, TypeVar

from router.core import events
from router.core.ids import Alias, VersionId
from router.core.outbound_events import NotificationResult, NotificationTried
from router.core.shadow_events import ShadowCompared, ShadowDropped
from router.core.traits import TraitsSeen

PER_REQUEST = frozenset(
    {
        events.Answered,
        events.AnsweredTogether,
        events.Rejected,
        events.Predicted,
        events.FellBack,
        ShadowCompared,
        ShadowDropped,
        TraitsSeen,
    }
)
"""Events that never are news: every request reports some of them, or may."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class AnswerRecorder(events.Recorder, Protocol):
    """Takes the facts of answers as well, which are many."""

    def record_answer(self, answer: events.Answered) -> None:
        """Take it at once, or soon; before whatever `record` gets next."""


class FanOut:
    """Implements `AnswerRecorder`: hands events to several recorders; one that fails stops no other one.

    What is given to `record_answer` is handed on as `AnsweredTogether`, before any other event and in the
    event loop's next turn at the latest. One by one, between the steps of requests, counting takes twice as
    long.
    """

    def __init__(self, *recorders: events.Recorder, deduplicated: Sequence[events.Recorder] = ()) -> None:
        """`recorders` get every event, then `deduplicated` those that say something new, none per request."""
        self._recorders = recorders
        self._deduplicated = tuple(deduplicated)
        self._all = (*recorders, *deduplicated)
        self._deduplicator = EventDeduplicator()
        self._answers: events.AnsweredTogether | None = None
        """What was collected and is not handed on yet."""
        self._is_due = False
        """Whether the event loop will hand on what is collected then."""
        self._recording = False
        self._waiting: deque[events.Event] = deque()
        """Recorded while another event was handed on: every recorder gets the cause before its effect."""
        self._failed: set[tuple[str, str]] = set()

    def record(self, event: events.Event) -> None:
        """Hand on one event, and then what recorders themselves recorded meanwhile."""
        self._hand_on_answers()
        self._record(event)

    def record_answer(self, answer: events.Answered) -> None:
        """Hand it on a little later, with others of its version."""
        answers = self._answers
        if answers is not None and answers.version is answer.version and answers.alias is answer.alias:
            answers.each.append(answer)
            return
        self._hand_on_answers()
        self._answers = events.AnsweredTogether.of(answer, monotonic())
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def add(self, recorder: events.Recorder) -> None:
        """From now on `recorder` gets every event too, before those that get each piece of news once."""
        self._recorders = (*self._recorders, recorder)
        self._all = (*self._recorders, *self._deduplicated)

    def add_deduplicated(self, recorder: events.Recorder) -> None:
        """From now on `recorder` gets each piece of news once, after those that do so already."""
        self._deduplicated = (*self._deduplicated, recorder)
        self._all = (*self._recorders, *self._deduplicated)

    def _end_turn(self) -> None:
        self._is_due = False
        self._hand_on_answers()

    def _hand_on_answers(self) -> None:
        if (answers := self._answers) is not None:
            self._answers = None
            self._record(answers)

    def _record(self, event: events.Event) -> None:
        if self._recording:
            self._waiting.append(event)
            return
        self._recording = True
        try:
            self._hand_on(event)
            while self._waiting:
                self._hand_on(self._waiting.popleft())
        finally:
            self._recording = False

    def _hand_on(self, event: events.Event) -> None:
        news = type(event) not in PER_REQUEST and self._deduplicator.is_news(event)
        for recorder in self._all if news else self._recorders:
            try:
                recorder.record(event)
            except Exception:  # noqa: BLE001 - whatever one recorder raises, the request and the others go on
                self._log_once(type(recorder).__name__, type(event).__name__)

    def _log_once(self, recorder: str, event: str) -> None:
        # For the life of the process: it is a bug, which every request might repeat.
        if (recorder, event) not in self._failed:
            self._failed.add((recorder, event))
            _log.exception("%s can not take %s; said once", recorder, event)


class EventDeduplicator:
    """Separates news from repetition: once on the way down, once on the way up.

    It remembers one event per model, alias, child or loop, so what it holds is bounded by the configuration.
    """

    def __init__(self) -> None:
        self._registry: dict[str, str] = {}
        """How each model's registry fails to answer: unavailable or refused; absent where it answers."""
        self._faults: dict[tuple[str, Alias], tuple[VersionId, set[str]]] = {}
        self._splits: dict[str, events.SplitInForce] = {}
        self._problems: tuple[str, ...] | None = None
        self._failing_loops: dict[str, str] = {}
        """Why the last tick of each loop failed; absent once one succeeded."""
        self._restarts: dict[str, str] = {}
        """Why each child was last started again; forgotten when the registry answers."""
        self._deliveries: dict[str, NotificationResult] = {}
        """How the last try of each receiver ended: delivered, rejected, or retried for all other failures."""

    def is_news(self, event: events.Event) -> bool:
        """Whether `event` says something the one before it did not; remembers it."""
        match event:
            case events.Polled():
                return self._registry_changed(event)
            case events.CanaryFaulted():
                return self._is_first_of_its_kind(event)
            case events.SplitInForce():
                return _changed(self._splits, event.model, event)
            case events.ConfigRejected():
                changed = self._problems != event.problems
                self._problems = event.problems
                return changed
            case events.ConfigApplied():
                self._problems = None
            case events.TickFailed():
                return _changed(self._failing_loops, event.loop, event.error)
            case events.LoopRecovered():
                self._failing_loops.pop(event.loop, None)
            case events.ChildRestarted():
                # A registry that sends a byte a second costs an agent, and would write a line, at every poll.
                return _changed(self._restarts, event.child, event.reason)
            case NotificationTried():
                return self._delivery_changed(event)
            case events.ModelRemoved():
                self._forget(event.model)
        return True

    def _registry_changed(self, event: events.Polled) -> bool:
        failure = "refused" if event.refused else "unavailable" if event.error else ""
        before = self._registry.pop(event.model, "")
        if failure:
            self._registry[event.model] = failure
        else:
            self._restarts.clear()
        return failure != before

    def _delivery_changed(self, event: NotificationTried) -> bool:
        ended = event.result
        if ended not in (NotificationResult.DELIVERED, NotificationResult.REJECTED):
            ended = NotificationResult.RETRIED
        self._deliveries.setdefault(event.receiver, NotificationResult.DELIVERED)
        return _changed(self._deliveries, event.receiver, ended)

    def _is_first_of_its_kind(self, event: events.CanaryFaulted) -> bool:
        version, kinds = self._faults.get((event.model, event.alias), (None, set()))
        if version != event.version:
            kinds = set()
            self._faults[event.model, event.alias] = event.version, kinds
        first = event.kind not in kinds
        kinds.add(event.kind)
        return first

    def _forget(self, model: str) -> None:
        self._registry.pop(model, None)
        self._splits.pop(model, None)
        for key in [key for key in self._faults if key[0] == model]:
            del self._faults[key]


def _changed(known: dict[str, T], key: str, value: T) -> bool:
    """Whether `value` is another than the one that is known; remembers it."""
    changed = known.get(key) != value
    known[key] = value
    return changed
