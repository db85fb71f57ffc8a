"""What a person reads of a fleet."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import FleetState
from router.analysis.statistics.records import CELL_SECONDS, Join
from router.core.ids import GatewayId

_SHOWN_DIGITS = 4
"""Of a process's id, where its host alone does not name it."""


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
    _BESIDE_SECONDS = 60.0
    """So long beside another one of its host that counts: that may be its successor."""
    _MOST = 256

    def __init__(self) -> None:
        self._found: dict[GatewayId, tuple[float, str]] = {}
        self._ended: dict[GatewayId, tuple[float, str]] = {}
        """Of those that will not come back; whoever is of their host now may be their successor."""

    def note(self, gateway: GatewayId, why: str, now: Moment) -> None:
        """`gateway` does not count."""
        self._note(self._found, gateway, why, now)

    def note_end(self, gateway: GatewayId, why: str, now: Moment) -> None:
        """It does not count, and is no more."""
        self._found.pop(gateway, None)
        self._note(self._ended, gateway, why, now)

    def _note(
        self, known: dict[GatewayId, tuple[float, str]], gateway: GatewayId, why: str, now: Moment
    ) -> None:
        known.pop(gateway, None)
        known[gateway] = now.monotonic, why
        while len(known) > self._MOST:
            del known[next(iter(known))]

    def left_out(self, counted: Collection[GatewayId], joining: Iterable[Join], now: Moment) -> list[LeftOut]:
        """All that are not `counted`, those that are `joining` among them. Several of one host have the
        beginning of their ids behind it."""
        since, lately = now.monotonic - self._SECONDS, now.monotonic - self._BESIDE_SECONDS
        hosts = {gateway.host for gateway in counted}
        why = {
            gateway: why
            for gateway, (at, why) in self._found.items()
            if at >= (lately if gateway.host in hosts else since)
        }
        for join in {join.member: join for join in joining}.values():
            seconds = join.since * CELL_SECONDS - now.clock
            said = f"it counts in {seconds:.0f} s" if seconds > 0 else "it joins"
            gateway = gateway_of(join)
            why[gateway] = f"{said}; {why[gateway]}" if gateway in why else said
        hosts |= {gateway.host for gateway in why}
        why |= {g: why for g, (at, why) in self._ended.items() if at >= since and g.host not in hosts}
        absent = [gateway for gateway in why if gateway not in counted]
        names = Counter(gateway.host for gateway in {*counted, *absent})
        shown = {
            gateway: gateway.host
            if names[gateway.host] == 1
            else f"{gateway.host} ({gateway.process[:_SHOWN_DIGITS]})"
            for gateway in absent
        }
        return [LeftOut(shown[one], why[one]) for one in sorted(absent, key=lambda one: shown[one])]


def gateway_of(join: Join) -> GatewayId:
    """The process whose membership it is."""
    return GatewayId(join.process, join.host)


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
    counted = [gateway_of(join) for join in state.members if join.member not in ended]
    left_out = absences.left_out(counted, [*state.pending, *joins], now)
    return FleetView(state.sealed.cell, sorted(one.host for one in counted), waiting, left_out)
