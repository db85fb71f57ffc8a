"""Which gateways make up a fleet, and when a cell of theirs is sealed. No clock, no I/O.

SIGNATURES ONLY, so that others can code against them; the body follows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.analysis.fleet_messages import FleetState, Have, News
from router.analysis.statistics.records import Batch, RunCell, RunId
from router.core.ids import GatewayId


class Moment(NamedTuple):
    """Now."""

    monotonic: float
    """Seconds of a clock that never jumps; by it silence is measured."""
    clock: float
    """Seconds since 1970 as cells are counted, see `CellClock.now`."""


@dataclass(frozen=True, slots=True)
class SealedCell:
    """A cell that is over for ever: fold it, once, in the order in which they come."""

    cell: int
    """Not always the next one: of cells in which nobody was a member there is none."""
    batches: Mapping[str, Batch]
    """By member, in the order of their ids."""
    runs: Mapping[RunId, Sequence[RunCell]]
    """What counts in it, by run, in the same order; members that had nothing of a run are missing there. A
    number that is higher than before begins a run anew, and the former is over."""
    killed: Sequence[str]
    """Hosts of gateways whose unclean end counts from this cell on: `RunState.note_unclean_end` of all runs.
    Those of this gateway's own predecessor are among them, and need no other way."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an answer changed beyond batches, for whoever asked to act on at once."""

    shift: float = 0.0
    """Seconds by which to move the clock of cells (`CellClock.shift`); nearly always 0."""
    took_over: bool = False
    """The fleet's state is another gateway's now: all states of runs here are void. Wanted are those that go
    with it (`Have.lacks`), and what was sealed after each (`Fleet.sealed_after`)."""
    opened: Sequence[tuple[RunId, str]] = ()
    """Runs whose breaker another gateway opened, and why."""
    reset: Sequence[RunId] = ()
    """Runs that begin anew, with the number to use from now on: an operator reset their breaker elsewhere."""


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
    """What a person reads."""

    horizon: int | None
    """Newest sealed cell; None while there is no state yet."""
    counted: Sequence[str]
    """Hosts, those that are waited for included."""
    waiting: Sequence[Waiting]
    """Those that keep the next cell from being sealed, though it has been over for more than two cells."""
    left_out: Sequence[LeftOut]


class Fleet:
    """Exchanges batches with other gateways, and says which cells are sealed.

    A process begins with `restore` where its state directory held evidence, then asks its peers for 2 s at
    most (`have` → their `answer` → `take`), then calls `start`. From then on: `own` for each cell that is
    over, `note_running` and `seal` each second, an exchange every 2 s, and `leave` before the last exchanges.
    """

    def __init__(self, this: GatewayId, now: Moment) -> None: ...

    # Begin and end

    def restore(self, cell: int, requests: int) -> None:
        """A state directory held states of runs as of `cell`, the newest of all, with so many requests in all
        (what both arms had). Before the first `have`. Peers with as many or more win over it."""
        raise NotImplementedError

    def start(self, now: Moment) -> int:
        """Go on alone where no peer had a state. Returns the first cell that is counted here."""
        raise NotImplementedError

    def add_ended(
        self, process: str, host: str, batches: Sequence[Batch], *, clean: bool, now: Moment
    ) -> None:
        """What a predecessor left in the state directory, oldest cell first: batches that it may never have
        handed on, the last one of the cell that was running. After the first exchange, before `start`, or
        later, when the directory was free. What is known of it already changes nothing, nor does what comes
        after others went on without it."""
        raise NotImplementedError

    def leave(self, now: Moment) -> None:
        """The batch that was given last is the last one. Others learn that by the next exchanges."""
        raise NotImplementedError

    # What is observed here

    @property
    def first_cell(self) -> int | None:
        """The first that counts here; None: none does now. Facts of cells before are dropped."""
        raise NotImplementedError

    def own(self, batch: Batch, now: Moment) -> Batch | None:
        """The batch of a cell that is over, its `process` whatever it is; for each cell, in order. Returns
        what is counted, which belongs to the fleet then; None where the cell does not count here. A cell that
        was left out in between is taken for an empty one."""
        raise NotImplementedError

    def note_running(self, cell: int, runs: Mapping[RunId, tuple[int, int]]) -> None:
        """Of the running cell: the canary's requests so far, and its faults, excused ones apart; by run."""
        raise NotImplementedError

    # Breakers

    def number(self, key: str) -> int:
        """That is in force of a run, from 1."""
        raise NotImplementedError

    def open_breaker(self, run: RunId, why: str) -> None:
        """A breaker opened here; others open theirs."""
        raise NotImplementedError

    def reset(self, key: str) -> RunId:
        """An operator reset the breaker here: the run begins anew, and everywhere. Returns it."""
        raise NotImplementedError

    def outages(self) -> list[tuple[RunId, str]]:
        """Runs whose breaker is to open now, each once, and why: half of the canary's newest 50 requests in
        the fleet are faults, or of as many more as the cells have that hold them."""
        raise NotImplementedError

    # The exchange

    def have(self, lacks: Sequence[str] = ()) -> Have:
        """What to ask with; `lacks`: keys of runs whose states have not come yet after `Taken.took_over`."""
        raise NotImplementedError

    def answer(self, have: Have, now: Moment) -> News:
        """What whoever asks lacks; changes nothing. States of runs are not in it: send those of `have.lacks`,
        and all with `News.state`, beside it. Raises MessageRefused."""
        raise NotImplementedError

    def take(self, news: News, asked: Moment, now: Moment) -> Taken:
        """Take over what a peer answered to a question that was sent at `asked`. Raises MessageRefused; then
        nothing of it counts."""
        raise NotImplementedError

    # What is sealed

    def seal(self, now: Moment) -> Iterator[SealedCell]:
        """Cells that can be sealed now, in order; each is sealed when the iterator yields it."""
        raise NotImplementedError

    def sealed_after(self, cell: int) -> list[SealedCell] | None:
        """Cells that were sealed after `cell` already: for a state of a run that came late. None where some
        of them are forgotten: then the state is too old."""
        raise NotImplementedError

    def state(self) -> FleetState | None:
        """What the members agree on."""
        raise NotImplementedError

    def describe(self, now: Moment) -> FleetView:
        """For people."""
        raise NotImplementedError

    @property
    def is_oldest(self) -> bool:
        """Whether this gateway is the one that notifies."""
        raise NotImplementedError
