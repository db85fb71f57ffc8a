"""The last facts worth telling, for `/v1/state`, and the rule which facts those are."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from router.control.redaction import without_places
from router.core import events
from router.core.ids import Alias, VersionId

PER_REQUEST = frozenset(
    {
        events.Routed,
        events.Answered,
        events.Rejected,
        events.Predicted,
        events.FellBack,
    }
)
"""Facts that are no news: every request reports some of them."""
_MOST_ITEMS = 20


class News:
    """Tells news from repetition: once on the way down, once on the way up, nothing per request.

    It remembers one fact per model, alias or loop, so what it holds is bounded by the configuration.
    """

    def __init__(self) -> None:
        self._unreachable: set[str] = set()
        self._faults: dict[tuple[str, Alias], tuple[VersionId, set[str]]] = {}
        self._splits: dict[str, events.SplitInForce] = {}
        self._problems: tuple[str, ...] | None = None
        self._failing_ticks: dict[str, str] = {}
        self._restarts: dict[str, str] = {}
        """Why each child was last started again; forgotten when the registry answers."""

    def is_news(self, event: events.Event) -> bool:
        """Whether `event` says something the one before it did not; remembers it."""
        if type(event) in PER_REQUEST:
            return False
        match event:
            case events.Polled():
                return self._reachability_changed(event)
            case events.CanaryFaulted():
                return self._is_first_of_its_kind(event)
            case events.SplitInForce():
                changed = self._splits.get(event.model) != event
                self._splits[event.model] = event
                return changed
            case events.ConfigRejected():
                changed = self._problems != event.problems
                self._problems = event.problems
                return changed
            case events.ConfigApplied():
                self._problems = None
            case events.TickFailed():
                changed = self._failing_ticks.get(event.loop) != event.error
                self._failing_ticks[event.loop] = event.error
                return changed
            case events.ChildRestarted():
                # A registry that drips costs an agent at every poll, and would write a line as often.
                changed = self._restarts.get(event.child) != event.reason
                self._restarts[event.child] = event.reason
                return changed
            case events.ModelRemoved():
                self._forget(event.model)
        return True

    def _reachability_changed(self, event: events.Polled) -> bool:
        was_unreachable = event.model in self._unreachable
        if event.error:
            self._unreachable.add(event.model)
        else:
            self._unreachable.discard(event.model)
            self._restarts.clear()
        return was_unreachable != bool(event.error)

    def _is_first_of_its_kind(self, event: events.CanaryFaulted) -> bool:
        version, kinds = self._faults.get((event.model, event.alias), (None, set()))
        if version != event.version:
            kinds = set()
            self._faults[event.model, event.alias] = event.version, kinds
        first = event.kind not in kinds
        kinds.add(event.kind)
        return first

    def _forget(self, model: str) -> None:
        self._unreachable.discard(model)
        self._splits.pop(model, None)
        for key in [key for key in self._faults if key[0] == model]:
            del self._faults[key]


class RecentEvents:
    """Implements `Recorder`: keeps the newest facts that were news."""

    def __init__(self, clock: Callable[[], float], *, size: int = 50) -> None:
        """`clock` gives seconds since 1970; `size` is how many facts are kept."""
        self._clock = clock
        self._news = News()
        self._events: deque[dict[str, Any]] = deque(maxlen=size)

    def record(self, event: events.Event) -> None:
        """Keep one fact, if it is news."""
        if self._news.is_news(event):
            self._events.append({"timestamp": self._clock(), **as_json(event)})

    def events(self) -> list[dict[str, Any]]:
        """JSON-able, oldest first; `timestamp` in seconds since 1970, `event` is the fact's name."""
        return list(self._events)


def as_json(event: events.Event) -> dict[str, Any]:
    """`event` as JSON-able values. Versions are numbers; texts name no path, host or credential."""
    shown: dict[str, Any] = {"event": type(event).__name__}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, VersionId):
            shown.setdefault("model", value.model)
        shown[field.name] = _plain(value)
    return shown


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case VersionId():
            return value.number
        case str():
            return without_places(str(value))
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value[:_MOST_ITEMS]]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return without_places(str(value))
