"""What a person reads of a fleet."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gateway for which the next cell waits."""

    host: str
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A gateway whose evidence does not count now."""

    host: str
    why: str
    """Completes "gw-1: …"."""


@dataclass(frozen=True, slots=True)
class FleetView:
    """Whose evidence counts now."""

    horizon: int | None
    """Newest sealed cell; None while there is no state yet."""
    counted: Sequence[str]
    """The host of each, those that are waited for included; several may be of one host."""
    waiting: Sequence[Waiting]
    """Those that keep the next cell from being sealed, though it has been over for more than two cells."""
    left_out: Sequence[LeftOut]


class Absences:
    """Why gateways do not count, as it was found last; bounded, for one hour."""

    _SECONDS = 3600.0
    _MOST = 256

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, str]] = {}

    def note(self, host: str, why: str, now: float) -> None:
        """`host` does not count, seconds of a monotonic clock."""
        self._found.pop(host, None)
        self._found[host] = now, why
        while len(self._found) > self._MOST:
            del self._found[next(iter(self._found))]

    def left_out(
        self, counted: Sequence[str], joining: Sequence[tuple[str, float]], now: float
    ) -> list[LeftOut]:
        """All that are not `counted`; `joining`: hosts, and in how many seconds each will be."""
        why = {host: why for host, (at, why) in self._found.items() if now - at <= self._SECONDS}
        for host, seconds in joining:
            said = f"it counts in {max(0.0, seconds):.0f} s" if seconds > 0 else "it joins"
            why[host] = f"{said}; {why[host]}" if host in why else said
        return [LeftOut(host, why[host]) for host in sorted(why) if host not in counted]
