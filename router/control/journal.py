"""The journal of one gateway: events in, lines out, each with the routes that hold from then on."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from router.core import events
from router.core.cache_events import ServingFromCache
from router.core.caps import LONGEST_REASON
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.ids import VersionId
from router.core.journal import BEGINNING, MOST_TABLES, RESUMED, Entry, digest_of, encode, routes_to_json
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet, MoveExplained
from router.core.preflight_events import PreflightEnded
from router.core.redaction import redact_credentials
from router.core.routing import ModelRoutes, RoutingTable

MOST_BYTES = 16 << 20
"""Of a file; the line that would make it longer begins another one."""
FOLDED_ABOVE = 60
"""Lines of one cause and model in `WINDOW_SECONDS`; what is above becomes one."""
WINDOW_SECONDS = 60.0
CLOCK_STEP_SECONDS = 0.5
"""By how much the wall clock has to leave the monotonic one between two looks."""
_LONGEST_TEXT = 2 * LONGEST_REASON
_UNFOLDED = frozenset({"start", "stop", *RESUMED, "clock", "folded"})
_AT_ONCE = frozenset({"capped", "cap_lifted", "break_glass_on", "break_glass_off", "stop"})
"""Causes whose lines outlive a crash of the machine."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where the chain on disk ends."""

    head: str
    """Digest of the last line."""
    size: int
    """Bytes of the file that it is in; 0 where the next line begins a file."""
    began: float | None
    """Time of the oldest line that is kept, in seconds since 1970; None where there is none."""


class LineStore(Protocol):
    """Keeps lines; none of it waits."""

    def append(self, line: bytes, *, at: float, begins_file: bool, sync: bool) -> None:
        """Keep `line`, which is of `at`, after those before it; with `sync` it outlives a crash of the
        machine."""


class TableOwner(Protocol):
    """Has the routing table."""

    @property
    def table(self) -> RoutingTable:
        """As it is now."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something may have changed."""

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    """None: it is about all of them, or about none."""
    at: float = 0.0
    """Seconds since 1970."""


@dataclass(slots=True)
class _Fold:
    """Lines of one cause and model in the present window, and those that were left out of it."""

    until: float
    """When the window ends, in seconds of the monotonic clock."""
    lines: int = 0
    left_out: int = 0
    since: float = 0.0
    """Time of the first that was left out, in seconds since 1970."""
    last: Cause | None = None
    tables: dict[str, list[ModelRoutes]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    open: bool = False
    """Whether the last line of it said that more may follow."""


class Journal:
    """Implements `Recorder`: writes a line for each cause, and to each the routes that changed.

    Before `start`, and after `stop`, events leave no line: what they changed is in the table then. The events
    of one turn of the event loop become lines at its end, with the routes as they are then, because a manager
    publishes its routes before it says why. Behind a `FanOut`, which leaves repetitions out. What can not be
    kept now is only logged; when it can again, `resume` writes what holds.
    """

    def __init__(
        self,
        gateway: str,
        show: Callable[[bytes], None],
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gateway` names this process, as `gw-1:4711`; `show` gets every line, kept or not."""
        self.head = BEGINNING
        """Digest of the last line."""
        self.lines = 0
        """Lines since the start."""
        self.began: float | None = None
        """Time of the oldest line that is kept, in seconds since 1970; None before the first."""
        self._gateway = gateway
        self._show = show
        self._wall, self._monotonic = wall, monotonic
        self._tables: TableOwner | None = None
        self._store: LineStore | None = None
        """None while lines are not kept."""
        self._size = 0
        self._unkept_since: float | None = None
        """Time of the first line that is in no file."""
        self._written: dict[str, ModelRoutes] = {}
        """The routes that the lines say hold, by model."""
        self._causes: list[Cause] = []
        self._collecting = False
        self._folds: dict[tuple[str, str | None], _Fold] = {}
        self._offset: float | None = None
        """Wall clock minus monotonic one, at the last look."""

    def start(self, tables: TableOwner, details: Mapping[str, Any]) -> None:
        """Begin with a line that has all routes of `tables`. After `resume`, where lines are kept."""
        self._tables = tables
        self._check_clock()
        self._write_all(Cause("start", details, at=self._wall()))

    def stop(self) -> None:
        """End with a line: nothing is served any more."""
        if self._tables is not None:
            self._collect()
            for key in list(self._folds):
                self._close_fold(*key)
            self._write(Cause("stop", at=self._wall()), {}, ())
            self._tables = None

    def resume(self, store: LineStore, end: ChainEnd, *, cause: str, details: Mapping[str, Any]) -> None:
        """Keep lines in `store` from now on, after `end`. Once started, the first has all routes and says
        why: `cause`, and since when lines were not kept."""
        self._store, self._size, self.head = store, end.size, end.head
        self.began = end.began
        if self._tables is not None:
            since = {} if self._unkept_since is None else {"since": self._unkept_since}
            self._write_all(Cause(cause, {**details, **since}, at=self._wall()))
        self._unkept_since = None

    def suspend(self, since: float | None = None) -> None:
        """Lines are not kept for now; nor is what was appended that is of `since`, or later."""
        self._store = None
        since = self._wall() if since is None else since
        self._unkept_since = since if self._unkept_since is None else min(since, self._unkept_since)

    def describe(self) -> dict[str, Any]:
        """JSON-ready, for `/v1/state`."""
        return {"head": self.head, "lines": self.lines, "began": self.began}

    def record(self, event: events.Event) -> None:
        """Note one event; its line is written at the end of this turn of the event loop."""
        if self._tables is None:
            return
        if (cause := cause_of(event, self._wall())) is not None:
            self._causes.append(cause)
        elif not isinstance(event, events.RoutesChanged):
            return
        if not self._collecting:
            self._collecting = True
            asyncio.get_running_loop().call_soon(self._collect)

    async def tick(self) -> None:
        """Write what folded lines are due, and whether the clock was set."""
        if self._tables is not None:
            self._check_clock()
            now = self._monotonic()
            for key in [key for key, fold in self._folds.items() if fold.until <= now]:
                self._close_fold(*key)

    # Causes and tables of one turn

    def _collect(self) -> None:
        self._collecting = False
        if self._tables is None:
            return
        self._check_clock()
        causes, self._causes = self._causes, []
        now = self._tables.table.models
        changed = {model: routes for model, routes in now.items() if self._written.get(model) != routes}
        gone = {model for model in self._written if model not in now}
        self._written = dict(now)
        for cause, tables, left in _assigned(causes, changed, gone, self._wall()):
            self._fold_or_write(cause, tables, left)

    def _fold_or_write(self, cause: Cause, tables: Mapping[str, ModelRoutes], gone: Iterable[str]) -> None:
        if cause.name in _UNFOLDED:
            self._write(cause, tables, gone)
            return
        key, now = (cause.name, cause.model), self._monotonic()
        fold = self._folds.get(key)
        if fold is not None and fold.until <= now:
            self._close_fold(*key)
            fold = self._folds.get(key)
        if fold is None:
            fold = self._folds[key] = _Fold(now + WINDOW_SECONDS)
        fold.lines += 1
        if fold.lines <= FOLDED_ABOVE and not fold.open:
            self._write(cause, tables, gone)
            return
        if not fold.left_out:
            fold.since = cause.at
        fold.left_out += 1
        fold.last = cause
        fold.gone = (fold.gone | set(gone)) - tables.keys()
        for model, routes in tables.items():
            known = fold.tables.setdefault(model, [])
            if routes not in known and len(known) < MOST_TABLES:
                known.append(routes)
        if not fold.open:
            # Now, and not at the window's end: who reads until then has to know that more may have happened.
            fold.open = True
            self._write_folded(cause.name, cause.model, fold)

    def _close_fold(self, name: str, model: str | None) -> None:
        """The window is over: write what was left out; go on folding where it still was too much."""
        fold = self._folds.pop((name, model))
        if fold.open:
            fold.open = fold.lines > FOLDED_ABOVE
            self._write_folded(name, model, fold)
            if fold.open:
                self._folds[name, model] = _Fold(self._monotonic() + WINDOW_SECONDS, open=True)

    def _write_folded(self, name: str, model: str | None, fold: _Fold) -> None:
        at = self._wall()
        details = {
            "of": name,
            "model": model,
            "count": fold.left_out,
            "since": fold.since if fold.left_out else at,
            "open": fold.open,
            "last": dict(fold.last.details) if fold.last else {},
            "tables": {one: list(map(routes_to_json, routes)) for one, routes in fold.tables.items()},
        }
        now = {one: self._written[one] for one in fold.tables if one in self._written}
        gone = sorted(fold.gone - self._written.keys())
        self._write(Cause("folded", details, at=at), now, gone)
        fold.left_out, fold.last, fold.tables, fold.gone = 0, None, {}, set()

    # Lines

    def _write_all(self, cause: Cause) -> None:
        assert self._tables is not None
        now = self._tables.table.models
        gone = [model for model in self._written if model not in now]
        self._written = dict(now)
        self._write(cause, self._written, gone)

    def _write(self, cause: Cause, table: Mapping[str, ModelRoutes], gone: Iterable[str]) -> None:
        entry = Entry(cause.at, self._gateway, cause.name, cause.details, table, tuple(sorted(gone)))
        line = encode(entry, self.head)
        begins = self._store is not None and (not self._size or self._size + len(line) >= MOST_BYTES)
        if begins and len(table) < len(self._written):
            line = encode(replace(entry, table=self._written), self.head)
        self.head = digest_of(line)
        self.lines += 1
        if self.began is None:
            self.began = cause.at
        if self._store is not None:
            self._size = len(line) + 1 + (0 if begins else self._size)
            self._store.append(line, at=cause.at, begins_file=begins, sync=cause.name in _AT_ONCE)
        elif self._unkept_since is None:
            self._unkept_since = cause.at
        self._show(line)

    def _check_clock(self) -> None:
        wall = self._wall()
        offset = wall - self._monotonic()
        if self._offset is not None and abs(offset - self._offset) > CLOCK_STEP_SECONDS:
            # A process that waits for a processor between the two readings sees a step of a steady clock.
            wall, again = self._wall(), self._wall() - self._monotonic()
            if abs(again - self._offset) <= CLOCK_STEP_SECONDS:
                return
            step = again - self._offset
            details = {"from": wall - step, "seconds": round(step, 3)}
            self._offset = again
            self._write(Cause("clock", details, at=wall), {}, ())
            return
        self._offset = offset


def _assigned(
    causes: list[Cause], changed: Mapping[str, ModelRoutes], gone: set[str], at: float
) -> list[tuple[Cause, dict[str, ModelRoutes], set[str]]]:
    """Causes with the routes that they changed: each model's with the last cause that names it, else with the
    last one that is about all; else with a cause of its own."""
    tables: list[dict[str, ModelRoutes]] = [{} for _ in causes]
    by_model = {model: place for place, cause in enumerate(causes) if (model := cause.model) is not None}
    for_all = max((place for place, cause in enumerate(causes) if cause.model is None), default=None)
    found = list(causes)
    for model, routes in changed.items():
        place = by_model.get(model, for_all)
        if place is None:
            found.append(Cause("changed", {"model": model}, model, at))
            tables.append({model: routes})
        else:
            tables[place][model] = routes
    if gone and for_all is None:
        found.append(Cause("changed", at=at))
        tables.append({})
        for_all = len(found) - 1
    return [(cause, tables[place], gone if place == for_all else set()) for place, cause in enumerate(found)]


def cause_of(event: events.Event, at: float) -> Cause | None:
    """What the journal says about `event`, which happened `at`; None for events that it does not name."""
    match event:
        case events.AliasBound(old=old, new=new) if old == new:
            return None  # what is counted of its answers changed, and nothing else
        case events.AliasBound(model, alias, old, new):
            return _cause("bound", at, model, alias=alias, old=old, new=new, run_id=event.run_id)
        case events.AliasUnbound(model, alias, old):
            return _cause("unbound", at, model, alias=alias, old=old)
        case events.AliasAspired(model, alias, old, new):
            return _cause("alias_moved", at, model, alias=alias, old=old, new=new)
        case events.AliasWithoutVersion(model, alias, version, successor):
            return _cause("out_of_service", at, model, alias=alias, version=version, successor=successor)
        case ServingFromCache(model, versions):
            return _cause("cache", at, model, versions={a: one.number for a, one in versions.items()})
    return _of_judgement(event, at) or _of_admission(event, at) or _of_gateway(event, at)


def _of_judgement(event: events.Event, at: float) -> Cause | None:
    match event:
        case events.BreakerOpened(model, alias, version, why, requests, faults, crashes):
            counts = {"requests": requests, "faults": faults, "crashes": crashes}
            return _cause("breaker_opened", at, model, alias=alias, version=version, why=why, **counts)
        case events.BreakerClosed(model, alias, version, why):
            return _cause("breaker_closed", at, model, alias=alias, version=version, why=why)
        case MoveExplained(model, by, why):
            return _cause("explained", at, model, by=by, why=why)
        case CapSet(model, alias, capped, share, by, why):
            return _cause("capped", at, model, alias=alias, version=capped, share=share, by=by, why=why)
        case CapLifted(model, alias, capped, by, why):
            return _cause("cap_lifted", at, model, alias=alias, version=capped, by=by, why=why)
        case events.PinsChanged(model, count, digest):
            return _cause("pins", at, model, count=count, digest=digest)
        case BreakGlassOn(why):
            return _cause("break_glass_on", at, None, why=why)
        case BreakGlassOff(why):
            return _cause("break_glass_off", at, None, why=why)
        case events.VerdictChanged(model, alias, version, production, before, verdict, why):
            words = {"before": before, "verdict": verdict, "why": why}
            return _cause("verdict", at, model, alias=alias, version=version, production=production, **words)
    return None


def _of_admission(event: events.Event, at: float) -> Cause | None:
    match event:
        case GatePassed(model, alias, version, why, override):
            words = {"why": why, "override": override}
            return _cause("gate_passed", at, model, alias=alias, version=version, **words)
        case GateNotPassed(model, alias, version, objections, why, held):
            words = {"why": why, "objections": list(objections), "held": held}
            return _cause("gate_not_passed", at, model, alias=alias, version=version, **words)
        case PreflightEnded(model, aliases, version, report, held):
            of = aliases[0] if aliases else None
            words = {"verdict": str(report.verdict), "why": report.why, "held": held}
            return _cause("preflight", at, model, alias=of, version=version, **words)
    return None


def _of_gateway(event: events.Event, at: float) -> Cause | None:
    match event:
        case events.ConfigApplied(digest, changes):
            return _cause("configuration", at, None, digest=digest, changes=list(changes))
        case events.Polled(model, _, error, refused):
            answer = "refuses" if refused else "does not answer" if error else "answers"
            return _cause("registry", at, model, registry=answer)
    return None


def _cause(name: str, at: float, model: str | None, **details: Any) -> Cause:
    """`old` and `new` become `from` and `to`; versions their numbers; texts lose credentials and signs that
    can not be printed."""
    shown: dict[str, Any] = {} if model is None else {"model": model}
    for key, value in details.items():
        shown[{"old": "from", "new": "to"}.get(key, key)] = _plain(value)
    return Cause(name, shown, model, at)


def _plain(value: Any) -> Any:
    match value:
        case VersionId():
            return value.number
        case str():
            text = "".join(sign for sign in value if sign.isprintable())
            return redact_credentials(text[:_LONGEST_TEXT])
        case list():
            return [_plain(item) for item in value]
    return value
