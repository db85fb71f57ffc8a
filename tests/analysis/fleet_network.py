"""Gateways that exchange evidence over a network that loses, repeats, delays and reorders messages."""

import random
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from router.analysis.fleet import Fleet, SealedCell
from router.analysis.fleet_clocks import Moment
from router.analysis.fleet_messages import Have, News
from router.analysis.statistics.records import (
    CELL_SECONDS,
    ArmRecord,
    Batch,
    Ranges,
    Record,
    RunCell,
    cell_of,
)
from router.core.ids import GatewayId

KEY = "ab" * 16
RANGES = Ranges((5_000, 100_000), (0, 5_000))
START = 1_000_000.0
"""Seconds since 1970 at which a network begins."""
_Message = TypeVar("_Message", Have, News)


def observed(requests: int, *, faults: int = 0, number: int = 1) -> dict[str, tuple[int, RunCell]]:
    """One run, with so many requests to the canary."""
    record = Record(RANGES, None, canary=ArmRecord(requests=requests, faults=faults))
    return {KEY: (number, RunCell(compares=True, began_with=RANGES, records=[record]))}


def sent(message: _Message) -> _Message:
    """As it comes out at the other end, read strictly."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))


@dataclass
class Gateway:
    """One process."""

    fleet: Fleet
    host: str
    process: str
    ahead: float
    """Seconds by which its clock is."""
    started_at: float
    asks_after: float
    is_up: bool = True
    is_started: bool = False
    is_halted: bool = False
    ends_at: float | None = None
    owned: dict[tuple[str, int], Batch] = field(default_factory=dict)
    """What it observed that counts, by member and cell."""
    written: list[Batch] = field(default_factory=list)
    """The same in order, with the cell that was running, as its disk has it."""
    sealed: list[SealedCell] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)
    takeovers: int = 0
    next_cell: int = 0

    def moment(self, at: float) -> Moment:
        return Moment(at - START, at + self.ahead)


class Network:
    """Time passes in steps of half a second; each gateway asks others every two seconds."""

    def __init__(self, seed: int, *, loss: float = 0.0, late: float = 0.0, repeated: float = 0.0) -> None:
        self.chance = random.Random(seed)
        self.loss, self.late, self.repeated = loss, late, repeated
        self.at = START
        self.gateways: list[Gateway] = []
        self.cuts: list[set[str]] = []
        """Hosts that reach each other, where not all do."""
        self.deaf: set[str] = set()
        """Hosts that can ask others, and that nobody can ask."""
        self.requests = 20
        self.restarts: dict[str, Gateway] = {}
        """By process: the one whose state directory it has."""
        self._on_the_way: list[tuple[float, Gateway, News, Moment]] = []

    def start(self, host: str, *, ahead: float = 0.0) -> Gateway:
        """A new process at `host`."""
        process = f"{self.chance.getrandbits(64):016x}"
        fleet = Fleet(GatewayId(process, host), Moment(self.at - START, self.at + ahead))
        gateway = Gateway(fleet, host, process, ahead, self.at, self.chance.choice([0.0, 0.5, 1.0, 1.5]))
        gateway.next_cell = cell_of(self.at + ahead)
        self.gateways.append(gateway)
        return gateway

    def kill(self, gateway: Gateway) -> None:
        """It has written what it observed of the running cell, which nobody else has."""
        gateway.is_up = False
        if gateway.fleet.first_cell is not None and gateway.next_cell >= gateway.fleet.first_cell:
            gateway.written.append(Batch(gateway.process, gateway.next_cell, observed(1)))

    def stop(self, gateway: Gateway) -> None:
        """A clean stop, which lets others ask for 5 s more."""
        now = gateway.moment(self.at)
        self._observe(gateway, upto=now.cell + 1)
        gateway.fleet.leave()
        gateway.ends_at = self.at + 5.0

    def up(self) -> list[Gateway]:
        return [one for one in self.gateways if one.is_up]

    def run(self, seconds: float) -> None:
        until = self.at + seconds
        while self.at < until:
            self.at += 0.5
            self._step()

    def _step(self) -> None:
        for gateway in self.up():
            if gateway.ends_at is not None and self.at >= gateway.ends_at:
                gateway.is_up = False
        arriving = [one for one in self._on_the_way if one[0] <= self.at]
        self._on_the_way = [one for one in self._on_the_way if one[0] > self.at]
        self.chance.shuffle(arriving)
        for _, gateway, news, asked in arriving:
            if gateway.is_up and not gateway.is_halted:
                self._take(gateway, news, asked)
        for gateway in self.up():
            if gateway.is_halted:
                continue
            if not gateway.is_started and self.at - gateway.started_at >= 2.0:
                gateway.is_started = True
                if (former := self.restarts.get(gateway.process)) is not None:
                    gateway.fleet.add_ended(
                        former.process,
                        former.host,
                        former.written,
                        clean=False,
                        now=gateway.moment(self.at),
                    )
                gateway.fleet.start(gateway.moment(self.at))
            if gateway.ends_at is None and gateway.is_started:
                self._observe(gateway, upto=gateway.moment(self.at).cell)
            if (self.at - START) % 1.0 == 0:
                self._seal(gateway)
            if (self.at - gateway.started_at - gateway.asks_after) % 2.0 == 0 or not gateway.is_started:
                self.exchange(gateway)

    def _observe(self, gateway: Gateway, *, upto: int) -> None:
        now = gateway.moment(self.at)
        for cell in range(gateway.next_cell, upto):
            counted = gateway.fleet.own(Batch("", cell, observed(self.requests)), now)
            if counted is not None:
                gateway.owned[counted.process, cell] = counted
                gateway.written.append(counted)
        gateway.next_cell = max(gateway.next_cell, upto)

    def _seal(self, gateway: Gateway) -> None:
        for sealed in gateway.fleet.seal(gateway.moment(self.at)):
            gateway.sealed.append(sealed)
            state = gateway.fleet.state()
            assert state is not None
            gateway.digests[sealed.cell] = state.sealed.digest

    def reach(self, one: Gateway, other: Gateway) -> bool:
        return all((one.host in cut) == (other.host in cut) for cut in self.cuts)

    def exchange(self, gateway: Gateway) -> None:
        """Ask four others at most."""
        others = [
            one
            for one in self.up()
            if one is not gateway
            and not one.is_halted
            and self.reach(gateway, one)
            and one.host not in self.deaf
        ]
        loss = self.loss if gateway.is_started else 0.0  # else it may go on alone, and give way later
        for other in self.chance.sample(others, min(4, len(others))):
            asked = gateway.moment(self.at)
            if self.chance.random() < loss:
                continue
            news = sent(other.fleet.answer(sent(gateway.fleet.have()), other.moment(self.at)))
            for _ in range(2 if self.chance.random() < self.repeated else 1):
                if self.chance.random() < loss:
                    continue
                if gateway.is_started and self.chance.random() < self.late:
                    arrives = self.at + self.chance.choice([0.5, 1.0, 2.0, 6.0])
                    self._on_the_way.append((arrives, gateway, news, asked))
                else:
                    self._take(gateway, news, asked)

    def _take(self, gateway: Gateway, news: News, asked: Moment) -> None:
        taken = gateway.fleet.take(news, asked, gateway.moment(self.at))
        if taken.shift:
            gateway.ahead += taken.shift
            gateway.next_cell = max(gateway.moment(self.at).cell, 0)
        if taken.took_over:  # what was sealed before is void
            gateway.takeovers += 1
            gateway.sealed, gateway.digests = [], {}


def horizon(gateway: Gateway) -> int:
    state = gateway.fleet.state()
    return -1 if state is None else state.sealed.cell


def cell_at(at: float) -> int:
    return int(at // CELL_SECONDS)
