"""What gateways ask each other about evidence and answer, and what a claim has to be like to be believed.

Whoever asks changes nothing at whoever answers, so a question may be repeated, lost or late. So may an
answer: everything in it is either larger than what is known, or no news.
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from router.analysis.statistics.records import Batch, Join
from router.core.ids import GatewayId

MOST_PROCESSES = 256
"""In one fleet, those included that ended a short while ago."""
MOST_RUNS = 512
"""Of all models."""
HISTORY_CELLS = 60
"""Sealed cells whose digest is known, by which two states are found to differ."""
MOST_NAME = 255
"""Characters of a host's name."""
MOST_CELL = 2**40
MOST_COUNT = 2**53 - 1
_ID = re.compile(r"[0-9a-f]{16}")
_KEY = re.compile(r"[0-9a-f]{32}")


class Held(Struct, frozen=True, array_like=True):
    """How much a voter has of a member from which nothing comes any more."""

    last: int
    """Its newest cell of which this voter has the batch, and those of all before."""
    clean: bool | None = None
    """Whether it ended cleanly; None where its end is not known."""


class Vote(Struct, frozen=True, array_like=True):
    """From whom a member has heard nothing for too long. It is never taken back."""

    voter: str
    version: int
    """From 1; the higher one counts."""
    silent: dict[str, Held]
    """By member."""


class MemberEnd(Struct, frozen=True, array_like=True):
    """A membership that ended, as the process itself says or whoever has its state directory now."""

    member: str
    last: int
    """Its newest cell; the one before its first where it has none."""
    clean: bool


class RunningCounts(Struct, frozen=True, array_like=True):
    """The canary's newest requests in one run at one process, back to where these are 50."""

    number: int
    """Of the run."""
    cells: list[tuple[int, int, int]]
    """Cell, requests of the canary, and faults of it, excused ones apart; oldest first, the running cell
    included."""


class Running(Struct, frozen=True, array_like=True):
    """The same of all runs."""

    process: str
    version: int
    """From 1; the higher one counts."""
    runs: dict[str, RunningCounts]
    """By key of the run."""


class SealedAt(Struct, frozen=True, array_like=True):
    """What was sealed up to a cell. Two that differ at one cell are of two states."""

    cell: int
    digest: bytes
    """16 bytes."""
    requests: int
    """In all cells up to it; of two states the one with more stays."""

    @property
    def precedence(self) -> tuple[int, bytes]:
        """Of two at one cell the higher one stays."""
        return self.requests, self.digest


class FleetState(Struct):
    """What all members of a fleet agree on once `sealed.cell` is sealed. Beside it belong the states of the
    runs as of the same cell, or of one of the next 24."""

    sealed: SealedAt
    members: list[Join]
    """From which the next cell waits for a batch, unless they ended or are gone by then."""
    pending: list[Join]
    """Whose first cell is later."""
    numbers: dict[str, int]
    """Of runs, by key, oldest first: the highest that was sealed."""
    killed: list[str]
    """Processes whose unclean end was counted, oldest first."""
    due: list[str] = field(default_factory=list)
    """Hosts of those whose unclean end counts with the next sealed cell."""


class Have(Struct):
    """What the asker has."""

    process: str
    sealed: SealedAt | None
    """Its newest sealed cell; None while it has no state."""
    held: dict[str, int]
    """Newest cell of each member, with all before."""
    running: dict[str, int]
    """Version by process, see `Running`."""
    wants_state: bool = False
    """It has none, or one that gives way to the answerer's."""
    lacks: list[str] = field(default_factory=list)
    """Keys of runs of whose states it wants the answerer's."""


class News(Struct):
    """What the asker lacks, of all processes."""

    process: str
    host: str
    member: str | None
    """None while the answerer's batches do not count."""
    age: float
    """Seconds since it started."""
    clock: float
    """Seconds since 1970, as it counts cells."""
    sealed: SealedAt | None
    then: SealedAt | None
    """What it had sealed up to the asker's newest sealed cell; None where it does not know."""
    held: dict[str, int]
    """What it has itself, as in `Have`."""
    joins: list[Join]
    ends: list[MemberEnd]
    votes: list[Vote]
    running: list[Running]
    numbers: dict[str, int]
    """Of runs, by key, that are in force, where it is not 1."""
    state: FleetState | None = None
    batches: list[Batch] = field(default_factory=list)
    """Oldest cells first, so that any number of them from the first on is of use."""

    @property
    def gateway(self) -> GatewayId:
        """Who answers."""
        return GatewayId(self.process, self.host)


class MessageRefused(ValueError):
    """A claim that no gateway of ours makes; its text is a sentence without the message's own words."""


def check_have(have: Have) -> None:
    """Raises MessageRefused where `have` claims what can not be."""
    _ids((have.process, *have.held, *have.running), "the id of a process")
    _amounts((*have.held.values(),), MOST_CELL, "a cell", least=-1)
    _most(have.held, 2 * MOST_PROCESSES, "members")
    _most(have.running, MOST_PROCESSES, "processes")
    _most(have.lacks, MOST_RUNS, "runs")
    _keys(have.lacks)
    if have.sealed is not None:
        _sealed(have.sealed)


def check_news(news: News) -> None:
    """Raises MessageRefused where `news` claims what can not be.

    What a batch counts is not looked at: `evidence_format.decode_batch` refuses what none can count, and
    `Fleet.take` a batch of the wrong time.
    """
    _ids((news.process, *news.held, *(() if news.member is None else (news.member,))), "the id of a process")
    _name(news.host)
    for seconds in (news.age, news.clock):
        if not 0 <= seconds <= MOST_CELL:
            raise MessageRefused("it has an impossible time")
    for sealed in (news.sealed, news.then):
        if sealed is not None:
            _sealed(sealed)
    _amounts((*news.held.values(),), MOST_CELL, "a cell", least=-1)
    _most(news.held, 2 * MOST_PROCESSES, "members")
    for many in (news.joins, news.ends, news.votes, news.running):
        _most(many, MOST_PROCESSES, "processes")
    _tables(news)
    if news.state is not None:
        _state(news.state)
        if news.state.sealed != news.sealed:
            raise MessageRefused("its state is that of another cell than it says")


def _tables(news: News) -> None:
    for join in news.joins:
        _join(join)
    for end in news.ends:
        _ids((end.member,), "the id of a member")
        _amounts((end.last,), MOST_CELL, "a cell", least=-1)
    for vote in news.votes:
        _vote(vote)
    for running in news.running:
        _running(running)
    _numbers(news.numbers)


def _state(state: FleetState) -> None:
    _sealed(state.sealed)
    for joins in (state.members, state.pending):
        _most(joins, MOST_PROCESSES, "members")
        for join in joins:
            _join(join)
    _numbers(state.numbers)
    _most(state.killed, MOST_PROCESSES, "processes")
    _ids(state.killed, "the id of a process")
    _most(state.due, MOST_PROCESSES, "processes")
    for host in state.due:
        _name(host)


def _numbers(numbers: dict[str, int]) -> None:
    _most(numbers, MOST_RUNS, "runs")
    _keys(numbers)
    _amounts(numbers.values(), MOST_COUNT, "the number of a run", least=1)


def _sealed(sealed: SealedAt) -> None:
    _amounts((sealed.cell,), MOST_CELL, "a cell", least=-1)
    _amounts((sealed.requests,), MOST_COUNT, "a count")
    if len(sealed.digest) != 16:
        raise MessageRefused("it has a digest of another length")


def _vote(vote: Vote) -> None:
    _ids((vote.voter, *vote.silent), "the id of a member")
    _most(vote.silent, MOST_PROCESSES, "members")
    _amounts((vote.version,), MOST_COUNT, "a version", least=1)
    _amounts((held.last for held in vote.silent.values()), MOST_CELL, "a cell", least=-1)


def _running(running: Running) -> None:
    _ids((running.process,), "the id of a process")
    _amounts((running.version,), MOST_COUNT, "a version", least=1)
    _most(running.runs, MOST_RUNS, "runs")
    _keys(running.runs)
    for counts in running.runs.values():
        _most(counts.cells, MOST_PROCESSES, "running cells")
        _amounts((counts.number,), MOST_COUNT, "the number of a run", least=1)
        for cell in counts.cells:
            _amounts(cell, MOST_COUNT, "a count")


def _join(join: Join) -> None:
    _ids((join.member, join.process), "the id of a process")
    _name(join.host)
    _amounts((join.since,), MOST_CELL, "a cell")


def _ids(ids: Iterable[str], what: str) -> None:
    if not all(map(_ID.fullmatch, ids)):
        raise MessageRefused(f"{what} in it is not 16 hexadecimal digits")


def _keys(keys: Iterable[str]) -> None:
    if not all(map(_KEY.fullmatch, keys)):
        raise MessageRefused("the key of a run in it is not 32 hexadecimal digits")


def _name(host: str) -> None:
    if len(host) > MOST_NAME or not host.isprintable():
        raise MessageRefused(f"a host's name in it is not printable, or longer than {MOST_NAME} characters")


def _amounts(amounts: Iterable[int], most: int, what: str, *, least: int = 0) -> None:
    if not all(least <= amount <= most for amount in amounts):
        raise MessageRefused(f"{what} in it is out of range")


def _most(many: Any, most: int, what: str) -> None:
    if len(many) > most:
        raise MessageRefused(f"it has more than {most} {what}")
