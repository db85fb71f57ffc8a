"""What a person reads of a fleet."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import FleetState
from router.analysis.statistics.records import CELL_SECONDS, Join


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
    """Hosts, those that are waited for included."""
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

    def left_out(self, counted: Collection[str], joining: Iterable[Join], now: Moment) -> list[LeftOut]:
        """All that are not `counted`, those that are `joining` among them."""
        why = {host: why for host, (at, why) in self._found.items() if now.monotonic - at <= self._SECONDS}
        for join in {join.member: join for join in joining}.values():
            seconds = join.since * CELL_SECONDS - now.clock
            said = f"it counts in {seconds:.0f} s" if seconds > 0 else "it joins"
            why[join.host] = f"{said}; {why[join.host]}" if join.host in why else said
        return [LeftOut(host, why[host]) for host in sorted(why) if host not in counted]


def fleet_view(
    state: FleetState,
    now: Moment,
    *,
    waiting: Sequence[Waiting],
    ended: Collection[str],
    joins: Iterable[Join],
    absences: Absences,
) -> FleetView:
    """`ended`: members that ended, by their own word; `joins`: announced, besides those in the state."""
    counted = sorted({join.host for join in state.members if join.member not in ended})
    left_out = absences.left_out(counted, [*state.pending, *joins], now)
    return FleetView(state.sealed.cell, counted, waiting, left_out)
