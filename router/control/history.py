"""What `/v1/state` shows of the past: recent events, how workers ended, since when each alias serves."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from router.core import events, state_events
from router.core.ids import Alias, VersionId
from router.core.redaction import redact
from router.core.version_environment import VersionEnvironment

MOST_CAUSES = 20
"""How many causes of a version's worker exits are counted by themselves."""
OTHER = "other"
_MOST_ITEMS = 20

WallClock = Callable[[], float]
"""Gives seconds since 1970, such as `time.time`."""


class RecentEvents:
    """Implements `Recorder`: keeps the newest events. It filters none, so it stands behind a `FanOut`."""

    def __init__(self, clock: WallClock, *, size: int = 50) -> None:
        """`size` is how many events are kept."""
        self._clock = clock
        self._events: deque[dict[str, Any]] = deque(maxlen=size)

    def record(self, event: events.Event) -> None:
        """Keep one event, unless another one says what it means: who changed the routes and why, and that
        nothing is durable."""
        if isinstance(event, events.RoutesChanged | state_events.StateWriteFailed):
            return
        self._events.append({"timestamp": self._clock(), **as_json(event)})

    def events(self) -> list[dict[str, Any]]:
        """JSON-able, oldest first; `timestamp` in seconds since 1970, `event` is the event's name."""
        return list(self._events)


def as_json(event: events.Event) -> dict[str, Any]:
    """`event` as JSON-able values. Versions are numbers; texts name no path, host or credential."""
    shown: dict[str, Any] = {"event": type(event).__name__}
    for own in fields(event):
        value = getattr(event, own.name)
        if isinstance(value, VersionId):
            shown.setdefault("model", value.model)
        shown[own.name] = _plain(value)
    return shown


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case VersionId():
            return value.number
        case VersionEnvironment():
            return value.short
        case str():
            return redact(str(value))
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value[:_MOST_ITEMS]]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return redact(str(value))


@dataclass(slots=True)
class _Ends:
    counts: Counter[str] = field(default_factory=Counter)
    last: dict[str, Any] | None = None


class WorkerExitCounts:
    """Implements `Recorder`: how the workers of each version ended, by cause, until the version is gone."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._ends: dict[VersionId, _Ends] = {}

    def record(self, event: events.Event) -> None:
        """Count the end of a worker."""
        match event:
            case events.WorkerEnded(version, reason, detail):
                ends = self._ends.setdefault(version, _Ends())
                cause = cause_of(reason, detail)
                if cause not in ends.counts and len(ends.counts) >= MOST_CAUSES:
                    cause = OTHER
                ends.counts[cause] += 1
                ends.last = {
                    "cause": cause,
                    "detail": redact(detail),
                    "timestamp": self._clock(),
                }
            case events.VersionGone(version):
                self._ends.pop(version, None)
            case events.ModelRemoved(model):
                self._ends = {version: ends for version, ends in self._ends.items() if version.model != model}

    def of(self, version: VersionId) -> dict[str, Any]:
        """JSON-able: `counts` by cause, and the `last` one with its time in seconds since 1970, or None."""
        ends = self._ends.get(version, _Ends())
        return {"counts": dict(ends.counts), "last": ends.last}


def cause_of(reason: str, detail: str) -> str:
    """`exit code 3` or `signal 11 (SIGSEGV)` where it ended by itself, else the reason."""
    return detail.partition(";")[0] if reason in ("exit", "signal") else reason


class BoundTimes:
    """Implements `Recorder`: since when each alias serves its version."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._since: dict[tuple[str, Alias], tuple[VersionId, float]] = {}

    def record(self, event: events.Event) -> None:
        """Note when an alias began to serve another version."""
        match event:
            case events.AliasBound(model=model, alias=alias, new=new):
                # The same version is reported again when it is named anew, which is no beginning.
                if self._since.get((model, alias), (None, 0.0))[0] != new:
                    self._since[model, alias] = new, self._clock()
            case events.AliasUnbound(model=model, alias=alias):
                self._since.pop((model, alias), None)
            case events.ModelRemoved(model):
                self._since = {key: since for key, since in self._since.items() if key[0] != model}

    def of(self, model: str, alias: Alias) -> float | None:
        """Seconds since 1970; None while the alias serves nothing."""
        since = self._since.get((model, alias))
        return since[1] if since else None
