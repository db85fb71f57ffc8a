"""Which routes were in force at one moment of the past, by the lines of journals. Pure.

Lines are taken one after the other and only what the moment needs is kept, so journals may be of any size.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from router.core.ids import PRODUCTION
from router.core.journal import MOST_TABLES, RESUMED, Entry, routes_from_json
from router.core.pins import NO_PINS, NOTHING_PINNED, PinLists, PinnedTwice
from router.core.routing import Assignment, ModelRoutes, assign
from router.core.split import Key

LEEWAY_SECONDS = 1.0
"""A change this close to the moment makes the answer uncertain: clocks differ, and a request takes time."""


class End(StrEnum):
    """How a period ended."""

    CHANGE = "change"
    STOP = "stop"
    LOST = "lost"
    """The gateway ended without a line: it is not known when, only until when at the latest."""
    CLOCK = "clock"
    """The clock was set: the times that follow occur a second time, or times between never did."""
    OPEN = "open"
    """Nothing followed."""


class Gap(StrEnum):
    """Why other routes may have been in force in a period as well."""

    NOT_KEPT = "not_kept"
    """The gateway's lines were not kept then."""
    FOLDED = "folded"
    """Of many changes only the number was written."""


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time in which one gateway's routes of one model were the same."""

    gateway: str
    routes: ModelRoutes | None
    """None: it did not serve the model."""
    since: float
    """Seconds since 1970, as all times."""
    until: float | None
    """None: nothing followed."""
    begun_by: Entry
    """What made it so."""
    end: End
    certain_until: float | None = None
    """Where it ended without a line: until then the gateway was running, afterwards it may have been."""
    folded: int = 0
    """Number of changes that one line stands for: `routes` were in force at some time in it, others too."""
    gap: Gap | None = None
    """Set where routes that no line shows may have been in force, too."""

    def covers(self, at: float, leeway: float = 0.0) -> bool:
        """Whether it was in force at `at`, or at most `leeway` seconds before or after it."""
        if at < self.since - leeway or self.until is None:
            return at >= self.since - leeway
        return at <= self.until + leeway if leeway else at < self.until

    def surely_running(self, at: float) -> bool:
        """Whether its gateway was running at `at`, which it covers."""
        return self.certain_until is None or at <= self.certain_until


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way in which the key may have been answered."""

    period: Period
    assignment: Assignment | None
    """None: the model was not served, or production had no version."""
    unknown_pins: int = 0
    """Keys that were pinned then, where which ones is not known: theirs is another answer, perhaps."""

    @property
    def outcome(self) -> tuple[str, int] | None:
        """Alias and number of the version; candidates that have one and the same are one answer."""
        return (self.assignment.alias, self.assignment.version.number) if self.assignment else None


@dataclass(frozen=True, slots=True)
class Answer:
    """Who got the key at the moment."""

    at: float
    candidates: tuple[Candidate, ...]
    """At least one for each period that may have been in force, oldest first; empty: none is known."""
    running: bool
    """False where it is not sure that any gateway was running."""
    begins: float | None
    """When the journals begin to say something of the model; None: they never do."""
    stopped: Period | None
    """The last one that ended before the moment, where no gateway was running."""
    started: float | None
    """When the first gateway after the moment began, where none was running."""
    unknown: tuple[tuple[str, float], ...]
    """Gateways of which the journals say only later, and not since their start, what they serve; and when."""

    @property
    def agreed(self) -> bool:
        """Whether all candidates have one outcome."""
        return len({candidate.outcome for candidate in self.candidates}) == 1

    @property
    def certain(self) -> bool:
        """Whether there is one outcome, and could be no other one."""
        return self.agreed and not any(candidate.period.gap for candidate in self.candidates)


@dataclass(slots=True)
class _Run:
    """One gateway process between its first line and its last, so far."""

    gateway: str
    since: float
    begun_by: Entry
    last: float
    known: bool
    """False while the journal has not said what it serves of the model."""
    routes: ModelRoutes | None = None
    lost_by: float = 0.0
    """When it had ended at the latest, for one that ended without a line."""
    folding: set[str] = field(default_factory=set)
    """Causes whose changes are written as a number only, for now."""

    def hold(self, routes: ModelRoutes | None, entry: Entry) -> None:
        """`routes` are in force from `entry` on."""
        self.routes, self.since, self.begun_by = routes, entry.at, entry


@dataclass(slots=True)
class _Chain:
    running: dict[str, _Run] = field(default_factory=dict)
    lost: list[_Run] = field(default_factory=list)
    """Those that ended without a line and were followed by the one that writes now."""


class Moment:
    """One moment of one model: takes every line of the journals, then answers for any key.

    Lines of one chain are taken in their order; chains may be mixed. At one time one process writes to a
    chain, so the first line of another one shows that the one before has ended.
    """

    def __init__(self, model: str, at: float, *, leeway: float = LEEWAY_SECONDS) -> None:
        """`at` in seconds since 1970, `leeway` in seconds."""
        self.models: set[str] = set()
        """Names of all models that the lines mention."""
        self._model, self._at, self._leeway = model, at, leeway
        self._chains: dict[int, _Chain] = {}
        self._chain_of: dict[str, int] = {}
        self._found: list[Period] = []
        self._begins: float | None = None
        self._stopped: Period | None = None
        self._started: float | None = None
        self._unknown: dict[str, float] = {}

    def take(self, entry: Entry, chain: int) -> None:
        """The next line of `chain`, a number that its lines have in common."""
        self.models.update(entry.table)
        known = self._chains.setdefault(chain, _Chain())
        former = self._chain_of.get(entry.gateway, chain)
        self._chain_of[entry.gateway] = chain
        if former != chain and (moved := self._chains[former].running.pop(entry.gateway, None)) is not None:
            # Its own lines before it had the lock of a state directory, to whose chain it writes from now on.
            known.running[entry.gateway] = moved
        for name in [name for name in known.running if name != entry.gateway or entry.cause == "start"]:
            self._settle(known)
            run = known.running.pop(name)
            run.lost_by = max(run.last, entry.at)
            known.lost.append(run)
        if entry.cause == "lock_taken":
            # The lock ends with the process that had it, so until now that one may have been running.
            for run in known.lost:
                run.lost_by = max(run.lost_by, entry.at)
        if (current := known.running.get(entry.gateway)) is None:
            current = known.running[entry.gateway] = self._begin(entry)
        self._follow(current, entry)
        if entry.cause == "stop":
            self._settle(known)
            self._close(known.running.pop(entry.gateway), entry.at, End.STOP)

    def answer(self, key: Key, pins: PinLists = NOTHING_PINNED) -> Answer:
        """Who got `key`, by the lines that were taken.

        A journal has number and digest of the pinned keys: where `pins` has these, they were the ones.
        """
        periods = [period for period in self._periods() if period.covers(self._at, self._leeway)]
        candidates = [
            _candidate(period, routes, key, pins)
            for period in sorted(periods, key=lambda period: period.since)
            for routes in _possible(period)
        ]
        there = [period for period in periods if period.covers(self._at)]
        return Answer(
            self._at,
            tuple(candidates),
            running=any(period.surely_running(self._at) for period in there),
            begins=self._begins,
            stopped=None if there else self._stopped,
            started=None if there else self._started,
            unknown=tuple(sorted(self._unknown.items())),
        )

    def _begin(self, entry: Entry) -> _Run:
        # A gateway that starts says all it has; one whose lines begin later may have served anything before.
        known = entry.cause == "start"
        if known:
            self._note_known(entry.at)
        if entry.at > self._at:
            self._started = entry.at if self._started is None else min(entry.at, self._started)
        return _Run(entry.gateway, entry.at, entry, entry.at, known)

    def _note_known(self, at: float) -> None:
        self._begins = at if self._begins is None else min(at, self._begins)

    def _follow(self, run: _Run, entry: Entry) -> None:
        """What `entry` changes in its gateway."""
        says = self._model in entry.table or self._model in entry.gone
        routes = entry.table.get(self._model) if says else run.routes
        begin = entry.details.get("since") if entry.cause in RESUMED else None
        not_kept_since = float(begin) if isinstance(begin, int | float) and begin < entry.at else None
        clock_before = _clock_before(run, entry)
        if not run.known:
            if says:
                self._first_known(run, entry, routes, not_kept_since)
        elif not_kept_since is not None:
            self._close(run, max(run.since, not_kept_since), End.CHANGE)
            for one in (run.routes, routes):
                self._keep_gap(run, one, not_kept_since, entry)
            run.hold(routes, entry)
        elif clock_before is not None:
            self._close(run, clock_before, End.CLOCK)
            run.hold(routes, entry)
        elif routes != run.routes:
            if run.begun_by is not entry:  # its start, before which there was nothing
                self._close(run, entry.at, End.CHANGE)
            run.hold(routes, entry)
        if entry.cause == "folded" and entry.details.get("model") in (self._model, None):
            self._unfold(run, entry)
        run.last = entry.at

    def _first_known(
        self, run: _Run, entry: Entry, routes: ModelRoutes | None, not_kept_since: float | None
    ) -> None:
        run.known = True
        if not_kept_since is not None:
            self._keep_gap(run, routes, not_kept_since, entry)
        begin = entry.at if not_kept_since is None else not_kept_since
        self._note_known(begin)
        if begin > self._at:
            self._unknown[run.gateway] = begin
        run.hold(routes, entry)

    def _keep_gap(self, run: _Run, routes: ModelRoutes | None, since: float, entry: Entry) -> None:
        self._keep(Period(run.gateway, routes, since, entry.at, entry, End.CHANGE, gap=Gap.NOT_KEPT))

    def _unfold(self, run: _Run, entry: Entry) -> None:
        """From its `since` until it, each of the routes that a folded line lists was in force at times."""
        details = entry.details
        cause, since, listed = details.get("of"), details.get("since"), details.get("tables")
        if details.get("open"):
            run.folding.add(str(cause))
        else:
            run.folding.discard(str(cause))
        routes = listed.get(self._model) if isinstance(listed, Mapping) else None
        if not isinstance(routes, list) or not isinstance(since, int | float):
            return
        gap = Gap.FOLDED if len(routes) >= MOST_TABLES else None
        count = details.get("count")
        for one in routes:
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                self._keep(
                    Period(
                        run.gateway,
                        routes_from_json(self._model, one),
                        float(since),
                        entry.at,
                        entry,
                        End.CHANGE,
                        folded=count if isinstance(count, int) else 1,
                        gap=gap,
                    )
                )

    def _settle(self, chain: _Chain) -> None:
        """The one that writes ends: until when those before it may have been running changes no more."""
        for run in chain.lost:
            self._close(run, run.lost_by, End.LOST)
        chain.lost.clear()

    def _close(self, run: _Run, until: float, end: End) -> None:
        if run.known:
            self._keep(_period(run, until, end))

    def _keep(self, period: Period) -> None:
        if period.covers(self._at, self._leeway):
            self._found.append(period)
        self._note_end(period)

    def _note_end(self, period: Period) -> None:
        if period.end not in (End.STOP, End.LOST) or period.until is None or period.until > self._at:
            return
        if self._stopped is None or (self._stopped.until or 0.0) < period.until:
            self._stopped = period

    def _periods(self) -> Iterator[Period]:
        yield from self._found
        for chain in self._chains.values():
            for run in (run for run in chain.lost if run.known):
                lost = _period(run, run.lost_by, End.LOST)
                self._note_end(lost)
                yield lost
            for run in (run for run in chain.running.values() if run.known):
                yield _period(run, None, End.OPEN)


def _period(run: _Run, until: float | None, end: End) -> Period:
    certain_until = run.last if end is End.LOST else None
    # A line that says what was folded is still to come, or was lost with the gateway.
    gap = Gap.FOLDED if run.folding and end in (End.OPEN, End.LOST) else None
    return Period(run.gateway, run.routes, run.since, until, run.begun_by, end, certain_until, gap=gap)


def _possible(period: Period) -> Iterator[ModelRoutes | None]:
    """Routes that may have been in force in `period`."""
    yield period.routes
    if period.gap is Gap.FOLDED and period.routes is not None:
        # What is folded is a breaker, a cap, a hold or a version that came and went, again and again.
        yield replace(period.routes, broken=frozenset(), capped={}, gated=frozenset())
        bound = period.routes.bound
        yield replace(period.routes, bound={a: version for a, version in bound.items() if a == PRODUCTION})


def _clock_before(run: _Run, entry: Entry) -> float | None:
    """What the clock showed when it was set just before `entry`; None where it was not."""
    before = entry.details.get("from") if entry.cause == "clock" else None
    if isinstance(before, int | float):
        return float(before)
    return run.last if entry.at < run.last - LEEWAY_SECONDS else None


def _candidate(period: Period, routes: ModelRoutes | None, key: Key, pins: PinLists) -> Candidate:
    if routes is None:
        return Candidate(period, None)
    if not routes.pins.count:
        return Candidate(period, assign(routes, key))
    try:
        known = pins.compiled(routes.salt)
    except PinnedTwice:  # under that salt; under the one of now it is not
        known = NO_PINS
    if known != routes.pins:
        return Candidate(period, assign(routes, key), routes.pins.count)
    return Candidate(period, assign(replace(routes, pins=known), key))
