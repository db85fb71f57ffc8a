"""The last events that say something new, for `/v1/state`."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from router.core import events
from router.core.ids import VersionId
from router.core.redaction import redact

_MOST_ITEMS = 20


class RecentEvents:
    """Implements `Recorder`: keeps the newest events. It filters none, so it stands behind a `FanOut`."""

    def __init__(self, clock: Callable[[], float], *, size: int = 50) -> None:
        """`clock` gives seconds since 1970; `size` is how many events are kept."""
        self._clock = clock
        self._events: deque[dict[str, Any]] = deque(maxlen=size)

    def record(self, event: events.Event) -> None:
        """Keep one event."""
        self._events.append({"timestamp": self._clock(), **as_json(event)})

    def events(self) -> list[dict[str, Any]]:
        """JSON-able, oldest first; `timestamp` in seconds since 1970, `event` is the event's name."""
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
            return redact(str(value))
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value[:_MOST_ITEMS]]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return redact(str(value))
