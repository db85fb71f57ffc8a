"""How the workers of each version ended, counted by cause; for `/v1/state`."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.core import events
from router.core.ids import VersionId
from router.core.redaction import redact

MOST_CAUSES = 20
OTHER = "other"


@dataclass(slots=True)
class _Ends:
    counts: Counter[str] = field(default_factory=Counter)
    last: dict[str, Any] | None = None


class WorkerExitCounts:
    """Implements `Recorder`: counts ends until their version is gone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
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
