"""The runs of a fleet at one of its gateways: what is sealed is folded, kept on disk, and given to others."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from router.analysis.cell_clock import CellClock
from router.analysis.evidence_sink import EndedProcess, EvidenceSink, StoredEvidence, StoredRun
from router.analysis.fleet import Fleet, Taken
from router.analysis.fleet_state import SealedCell
from router.analysis.fleet_view import FleetView
from router.analysis.joined_runs import JoinedRun, JoinedRuns, unpack_run
from router.analysis.run_key import RunSubject
from router.analysis.statistics.records import Batch, Ranges, RunCell, RunId
from router.core.ids import Alias, VersionId
from router.core.split import BUCKETS

LONGEST_WANTED_SECONDS = 60.0
"""So long a run waits for what other gateways know of it; then nobody does, and it begins anew."""


class RunFollower(Protocol):
    """Observes some of the runs at this gateway."""

    def compared(self) -> Sequence[RunId]:
        """Those that are observed here, also while they rest."""

    def unsealed(self, run: RunId) -> Sequence[tuple[int, RunCell]]:
        """What was observed here of one of them in cells that are not sealed yet; nobody changes it."""

    def folded(self, run: JoinedRun) -> None:
        """A cell of it was folded."""

    def replaced(self, before: JoinedRun) -> None:
        """It is over, or more is known of it elsewhere: there is another one with its key, or none."""


class FleetRuns:
    """Implements `EvidenceFollower` and `fleet_exchange.RunStates`. Not safe for threads.

    `take_stored` and `follow` come before `start`, where there is anything to take; `fold` is called each
    second from then on, after `own` for every cell that is over, and `leave` at the end.
    """

    def __init__(
        self, fleet: Fleet, clock: CellClock, sink: EvidenceSink | None, follower: RunFollower
    ) -> None:
        """`sink` keeps evidence over restarts; None where nothing does."""
        self._fleet = fleet
        self._clock = clock
        self._sink = sink
        self._follower = follower
        self._runs = JoinedRuns()
        self._sealed: deque[SealedCell] = deque()
        """Cells that are not folded into all runs yet."""
        self._own_members: set[str] = set()
        """Under which ids this process is, or was, a member of the fleet."""
        self._wanted: dict[str, float] = {}
        """Keys of runs whose states are to come from another gateway, and since when."""
        self._ended: list[EndedProcess] = []
        """Who had the state directory before, until this process starts."""
        self._is_started = False

    # Begin and end

    def take_stored(self, stored: StoredEvidence) -> None:
        """Take up what the state directory held. What can not be read as the state of a run is left."""
        found = []
        for one in stored.runs.values():
            with suppress(ValueError):
                found.append(_restored(one))
        if self._is_started:
            for run in found:
                self._take_over(run)
            self._add_ended(stored.ended)
            return
        for run in found:
            self._runs.put(run)
        self._ended.extend(stored.ended)
        if found:
            horizon = max(run.state.horizon for run in found)
            numbers = {run.id.key: run.id.number for run in found}
            self._fleet.restore(horizon, sum(run.requests for run in found), numbers)
            self._clock.go_past(horizon)

    def start(self) -> None:
        """Everything is served from now on, and what is observed counts."""
        self._is_started = True
        self._add_ended(self._ended)
        self._ended = []
        self._fleet.start(self._clock.moment())

    def _add_ended(self, ended: Sequence[EndedProcess]) -> None:
        for one in ended:
            self._fleet.add_ended(
                one.process, one.host, one.batches, clean=one.clean, now=self._clock.moment()
            )

    def leave(self) -> None:
        """The cell that was handed over last is the last one of this process: it is kept, and others get it
        as long as they ask."""
        self._sealed.extend(self._fleet.seal(self._clock.moment()))
        self._fleet.leave()
        while self._sealed:
            sealed = self._sealed.popleft()
            for run in self._keys(sealed):
                self._fold(run, sealed)
            self._note_killed(sealed)
        if self._sink is not None:
            self._sink.note_clean_end()
            for joined in self._runs:
                self._store(joined)

    # What this gateway observes

    def counts(self, cell: int) -> bool:
        """Whether what is observed here in `cell` counts: before this gateway is a member, it does not."""
        first = self._fleet.first_cell
        return first is not None and cell >= first

    def keep(self, run: RunId, cell: int, delta: RunCell) -> None:
        """This process observed `delta` since the last time, or all of `cell` with it."""
        if self._sink is not None and self.counts(cell):
            self._sink.append(run, cell, delta)

    def own(self, batch: Batch) -> None:
        """All that this process observed in a cell that is over; for each cell, in order."""
        if (counted := self._fleet.own(batch, self._clock.moment())) is not None:
            self._own_members.add(counted.process)

    def get(self, key: str) -> JoinedRun | None:
        """The run in force; None where nothing is known of it here."""
        return self._runs.get(key)

    def of(self, alias: Alias, version: VersionId) -> list[JoinedRun]:
        """Runs in force of a version under an alias, whatever production they are compared with."""
        return [
            run
            for run in self._runs
            if (run.subject.model, run.subject.alias, run.subject.version)
            == (version.model, alias, version.number)
        ]

    def waits_for(self, key: str) -> bool:
        """Whether what other gateways know of the run is yet to come."""
        since = self._wanted.get(key)
        if since is not None and self._clock.monotonic() - since > LONGEST_WANTED_SECONDS:
            del self._wanted[key]
        return key in self._wanted

    def begin(self, subject: RunSubject, cell: int) -> JoinedRun:
        """A run that begins here with `cell`."""
        return self._runs.begin(subject, self._fleet.number(subject.key), cell)

    def begin_anew(self, run: JoinedRun, cell: int) -> None:
        """An operator said here that what was wrong with the canary is repaired."""
        again = self._fleet.reset(run.id.key)
        fresh = self._runs.begin(run.subject, again.number, cell)
        self._replaced(run)
        self._store(fresh)

    # What all gateways observed

    async def fold(self) -> None:
        """Fold the cells that are sealed by now. The event loop has its turn between two runs."""
        self._sealed.extend(self._fleet.seal(self._clock.moment()))
        while self._sealed:
            sealed = self._sealed[0]
            for run in self._keys(sealed):
                self._fold(run, sealed)
                await asyncio.sleep(0)
                if not self._sealed or self._sealed[0] is not sealed:
                    break  # others know more than this gateway did, or it ended, and folded the rest at once
            else:
                self._sealed.popleft()
                self._note_killed(sealed)
            compared = {run.key for run in self._follower.compared()}
            for forgotten in self._runs.forget_old(sealed.cell, compared):
                self._forget_stored(forgotten)
        if self._sink is not None:
            for joined in self._runs:
                if self._sink.needs_state(joined.id):
                    self._store(joined)
                    await asyncio.sleep(0)

    def _note_killed(self, sealed: SealedCell) -> None:
        for joined in self._runs if sealed.killed else ():
            for host in sealed.killed:
                joined.note_unclean_end(sealed.cell, host)

    def _keys(self, sealed: SealedCell) -> Iterator[RunId]:
        """Of the runs that somebody observed, and of those that are compared here."""
        return iter(dict.fromkeys([*self._follower.compared(), *sealed.runs]))

    def _fold(self, run: RunId, sealed: SealedCell) -> None:
        if self.waits_for(run.key):
            return
        before, parts = self._runs.get(run.key), _parts(run, sealed)
        joined = self._runs.fold(run, sealed.cell, parts)
        if before is not None and joined is not before:
            self._replaced(before)
        if joined is None or joined.id != run:
            return
        self._follower.folded(joined)
        if self._sink is not None and parts:
            others = {member: part for member, part in parts.items() if member not in self._own_members}
            self._sink.seal(run, sealed.cell, others)

    def _replaced(self, before: JoinedRun) -> None:
        key = before.id.key
        if self._runs.get(key) is None and key not in self._wanted:
            self._forget_stored(before.id)
        elif self._sink is not None:
            # What is kept stays until it is written over: a process that is killed meanwhile loses nothing.
            self._sink.supersede(before.id)
        self._follower.replaced(before)

    def _forget_stored(self, run: RunId) -> None:
        if self._sink is not None:
            self._sink.forget(run)

    def _store(self, run: JoinedRun) -> None:
        if self._sink is not None:
            unsealed = self._follower.unsealed(run.id)
            self._sink.replace(run.id, run.subject, run.state.dump(), run.verdict_cell, unsealed)

    # What other gateways have

    def wanted(self) -> Sequence[str]:
        """Keys of runs whose states are to come from another gateway."""
        return [key for key in list(self._wanted) if self.waits_for(key)]

    def keys(self) -> Sequence[str]:
        """Of all runs, those first whose last request is the newest."""
        return [run.id.key for run in sorted(self._runs, key=lambda one: -one.last_request_cell)]

    def packed(self, key: str) -> bytes | None:
        """The state of the run, and what it is about, for another gateway; None where nothing is known."""
        return self._runs.pack(key)

    def unpacked(self, packed: bytes) -> JoinedRun:
        """What `packed` of another gateway gave. Raises ValueError, with a sentence."""
        return unpack_run(packed)

    def follow(self, taken: Taken, states: Sequence[JoinedRun]) -> None:
        """Act on what an answer changed, and take over the states that came with it and are wanted."""
        if taken.shift:
            self._clock.shift(taken.shift)
        if taken.took_over:
            self._give_way()
        for run in states:
            if self.waits_for(run.id.key) and self._take_over(run):
                del self._wanted[run.id.key]
        for raised in taken.raised:
            former = self._runs.get(raised.key)
            if former is not None and former.id.number < raised.number:
                fresh = self._runs.begin(former.subject, raised.number, self._clock.cell())
                self._replaced(former)
                self._store(fresh)

    def _give_way(self) -> None:
        """What the runs here hold is void: others judged without this gateway, and know more."""
        state, now = self._fleet.state(), self._clock.monotonic()
        self._wanted = {} if state is None else dict.fromkeys(state.numbers, now)
        self._sealed.clear()
        former = list(self._runs)
        self._runs.clear()
        for run in former:
            self._replaced(run)

    def _take_over(self, run: JoinedRun) -> bool:
        """A run as another process knew it, unless this one knows as much; False where it is too old."""
        state = self._fleet.state()
        members = () if state is None else (*state.members, *state.pending)
        alone = all(join.member in self._own_members for join in members)
        sealed_since = self._fleet.sealed_after(run.state.horizon, alone=alone)
        mine = self._runs.get(run.id.key)
        if mine is not None and (mine.id.number, mine.requests) >= (run.id.number, run.requests):
            return True
        if sealed_since is None and (mine is not None or not alone):
            return False
        for sealed in sealed_since or ():  # of a run that is not known here they hold nothing
            parts = _parts(run.id, sealed)
            if parts:
                run.fold(sealed.cell, parts)
            for host in sealed.killed:
                run.note_unclean_end(sealed.cell, host)
        self._runs.put(run)
        if mine is not None:
            self._replaced(mine)
            self._store(run)
        return True

    # For people

    def outages(self, since: Mapping[str, int]) -> list[tuple[RunId, str]]:
        """Runs whose breaker has to be open, and why: see `Fleet.outages`."""
        return self._fleet.outages(since)

    @property
    def is_oldest(self) -> bool:
        """Whether this gateway notifies of what all of them know; so it does while it knows of no fleet."""
        return self._fleet.state() is None or self._fleet.is_oldest

    def note_running(self, cell: int, runs: Mapping[RunId, tuple[int, int]]) -> None:
        """See `Fleet.note_running`."""
        self._fleet.note_running(cell, runs)

    def describe(self) -> FleetView:
        """Who is counted, and who is waited for."""
        return self._fleet.describe(self._clock.moment())

    def lagging(self, run: JoinedRun, ranges: Ranges) -> list[tuple[str, float]]:
        """Gateways that serve another split than this one, which has `ranges`: host, and the canary's share
        there, 0 to 1. Empty while it is this one that has just changed."""
        state = self._fleet.state()
        if state is None or ranges not in [run.splits.get(member) for member in self._own_members]:
            return []
        hosts = {one.member: one.host for one in state.members}
        others = {member: other.canary for member, other in run.splits.items() if other != ranges}
        return [(hosts.get(one, one), (end - first) / BUCKETS) for one, (first, end) in others.items()]


def _restored(stored: StoredRun) -> JoinedRun:
    """As the process had it that wrote it. Raises ValueError for what none wrote.

    After a process was killed thousands of cells may follow its state, and nothing serves meanwhile.
    """
    sealed = [(cell, {str(place): part for place, part in enumerate(parts)}) for cell, parts in stored.sealed]
    run = JoinedRun.load(stored.subject, stored.run.number, stored.state, stored.verdict_cell)
    if not run.fold_all(sealed):
        run = JoinedRun.load(stored.subject, stored.run.number, stored.state, stored.verdict_cell)
        for cell, parts in sealed:
            run.fold(cell, parts)
    return run


def _parts(run: RunId, sealed: SealedCell) -> dict[str, RunCell]:
    """What each member observed of `run` in a sealed cell."""
    observed = ((member, batch.runs.get(run.key)) for member, batch in sealed.batches.items())
    return {member: one[1] for member, one in observed if one is not None and one[0] == run.number}
