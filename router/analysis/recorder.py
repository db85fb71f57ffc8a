"""Compares every other alias with production. Facts in; each second: observed → sealed → folded → judged."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from router.analysis import text
from router.analysis.cell_clock import CellClock
from router.analysis.comparison_status import ComparisonStatus, criteria_of, obstacle_to
from router.analysis.cost_tally import CostTally
from router.analysis.evidence_sink import EvidenceSink
from router.analysis.fleet import Fleet
from router.analysis.fleet_messages import MOST_RUNS
from router.analysis.fleet_runs import FleetRuns
from router.analysis.fleet_view import FleetView
from router.analysis.joined_runs import JoinedRun
from router.analysis.run import AnalysisRun, ComparedVersions, canary_counts
from router.analysis.run_key import subject_of
from router.analysis.statistics.cell_recorder import Observation
from router.analysis.statistics.counts import ArmCounters
from router.analysis.statistics.records import Batch, RunCell, RunId
from router.analysis.statistics.shadow_counter import ShadowPair
from router.core import events
from router.core.events import Answered, AnsweredTogether, Predicted
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.outcomes import Outcome
from router.core.routing import ModelRoutes, Reason
from router.core.score_events import ScoresRead
from router.core.scores import OutputSpec
from router.core.shadow_events import ShadowCompared, ShadowDropped
from router.core.split import Split
from router.serving.manager import OPERATOR_RESET, ModelManager
from router.serving.models import ModelSet

FULL = f"{MOST_RUNS} comparisons are under way at this gateway, which are the most that it judges"
LOOK_SECONDS = 1.0
"""Between two looks: so much at most of what was observed is lost where a process is killed."""
_CHANGES = (events.AliasAspired, events.AliasBound, events.AliasUnbound, events.SplitInForce)
_HASH, _OK, _ABANDONED = Reason.HASH, Outcome.OK, Outcome.ABANDONED
"""Under names of their own: an enumeration looks its members up, and these are asked with every request."""


@dataclass(slots=True)
class ArmTraffic:
    """One alias of one model, with the version that it served last."""

    version: VersionId
    outputs: tuple[OutputSpec, ...]
    counters: ArmCounters
    canary: bool
    """True of every alias but production."""
    runs: tuple[AnalysisRun, ...] = ()
    """Those that its requests are evidence in, at this moment."""
    left: tuple[AnalysisRun, ...] = ()
    """Those that rest since `left_at`: what was under way then is evidence still, as that which opened a
    breaker."""
    left_at: float = 0.0
    """On a monotonic clock."""

    def serves(self, version: VersionId) -> bool:
        """Whether a fact is about the version that it serves; identity first, for speed."""
        return version is self.version or version == self.version


class AnalysisRecorder:
    """Implements `Recorder`: the evidence of every run."""

    def __init__(
        self,
        models: ModelSet,
        recorder: events.Recorder,
        *,
        clock: CellClock,
        fleet: Fleet,
        sink: EvidenceSink | None = None,
    ) -> None:
        """`recorder` gets a `VerdictChanged` for each verdict that changed. `fleet` is of all gateways that
        judge together, and `sink` keeps evidence over restarts."""
        self.statuses: dict[str, Mapping[Alias, ComparisonStatus]] = {}
        """By model, and by alias but production."""
        self._models = models
        self._recorder = recorder
        self._clock = clock
        self.joined = FleetRuns(fleet, clock, sink, self)
        """What all gateways know of the runs."""
        self._cell = clock.cell()
        """The one that facts of now are of."""
        self._arms: dict[tuple[str, Alias], ArmTraffic] = {}
        self._newest: dict[tuple[str, Alias], AnalysisRun] = {}
        """The newest run of each alias here, also while it rests: the same two versions may meet again."""
        self._has_left = False
        self._ended: list[AnalysisRun] = []
        """What was observed of these in this cell counts still."""
        self.costs = CostTally(models)
        """What predicts cost at this gateway."""
        self._number_when_broken: dict[tuple[str, Alias], int] = {}
        """Of the run whose breaker is open."""
        self._takes: dict[type, Callable[[Any], None]] = {
            Answered: lambda one: self._answered(AnsweredTogether.of(one)),
            AnsweredTogether: self._answered,
            Predicted: self._predicted,
            ScoresRead: self._scores_read,
            ShadowCompared: self._shadow_compared,
            ShadowDropped: self._shadow_dropped,
            events.BreakerClosed: self._breaker_closed,
            **dict.fromkeys(_CHANGES, self._changed),
        }

    def start(self) -> None:
        """Everything is served from now on, and what is observed counts."""
        self.joined.start()
        self._cell = self._clock.cell()

    def leave(self) -> None:
        """This process ends: what it observed so far is all that it did. Ticks go on, for others' cells."""
        if not self._has_left:
            self._end_cell()
            self._has_left = True
            self.joined.leave()

    async def tick(self) -> None:
        """Keep what was observed, fold the cells that are sealed, and report which verdicts changed.

        The event loop has its turn between two runs: each takes about a millisecond.
        """
        for model in {*self._models.managers, *self.statuses}:
            self._follow(model)
        now = self._clock.monotonic()
        for arm in self._arms.values():
            arm.counters.tick(now)
        self._keep_observed()
        self._follow_fuse()
        await asyncio.sleep(0)
        await self.joined.fold()
        for model, alias, run in list(self.runs()):
            if self._newest.get((model, alias)) is run:  # else it ended during another's turn
                run.window.slide(now)
                if (cost := self.costs.check(run.versions, self._clock.monotonic())) is not None:
                    run.note_cost(cost, self._clock.now())
                self._examine(model, alias, run)
            await asyncio.sleep(0)

    def runs(self) -> Iterator[tuple[str, Alias, AnalysisRun]]:
        """Those of the versions that serve now, also while they rest."""
        for model, aliases in self.statuses.items():
            for alias, status in aliases.items():
                if status.run is not None:
                    yield model, alias, status.run

    def window_seconds(self, run: AnalysisRun) -> float:
        """How much time its sliding window covers."""
        return run.window.seconds(self._clock.monotonic())

    def cost_of(self, version: VersionId) -> dict[str, Any]:
        """What its predicts cost, as `CostTally.of_version`."""
        return self.costs.of_version(version, self._clock.monotonic())

    def gateways(self) -> FleetView:
        """Who is counted, and who is waited for."""
        return self.joined.describe()

    def why(self, status: ComparisonStatus) -> str:
        """Its verdict in one sentence or two, and one more where not all gateways are counted up to now."""
        run = status.run
        if run is None:
            return status.why
        lagging = self.joined.lagging(run.joined, run.ranges)
        caveats = text.gateways_sentence(self.gateways(), run.horizon_timestamp, lagging)
        return f"{status.why} {caveats}" if caveats else status.why

    def now(self) -> float:
        """Seconds since 1970, by the clock of the cells."""
        return self._clock.now()

    def _examine(self, model: str, alias: Alias, run: AnalysisRun) -> None:
        """Report a verdict that changed."""
        run.note_outage()
        status, before = self.statuses[model][alias], run.last_verdict
        if (verdict := status.verdict) != before:
            run.last_verdict = verdict
            self._recorder.record(
                events.VerdictChanged(
                    model,
                    alias,
                    run.versions.version,
                    run.versions.production,
                    before,
                    verdict,
                    self.why(status),
                    f"{run.id.key}:{run.id.number}",
                    run.verdict_changed_timestamp,
                    notifies=self.joined.is_oldest,
                )
            )

    def _follow_fuse(self) -> None:
        """An outage is one at once, before its cell is over: here, or of all gateways together."""
        for run in self._newest.values():
            run.note_outage()
        since = {run.id.key: run.outage_since for run in self._newest.values()}
        for broken, why in self.joined.outages(since):
            for (model, alias), run in list(self._newest.items()):
                manager = self._models.managers.get(model)
                if run.id == broken and manager is not None:
                    run.note_outage(seen_elsewhere=True)
                    breaker = manager.breakers.of(alias, run.versions.version)
                    if breaker is not None and manager.settings.fallback:
                        breaker.open(why)

    # What this process observed

    def _keep_observed(self) -> None:
        """Hand over what was observed since the last time, and end the cells that are over."""
        if self._has_left:
            return
        present = self._clock.cell()
        if self._cell == present:
            for run in self._observed():
                if (delta := run.drain()).records:
                    self.joined.keep(run.id, self._cell, delta)
        while self._cell < present:
            self._end_cell()
        self.joined.note_running(self._cell, {run.id: run.canary_now() for run in self._observed()})

    def _end_cell(self) -> None:
        batch, counts = Batch("", self._cell), self.joined.counts(self._cell)
        ended: dict[RunId, tuple[int, int]] = {}
        for run in sorted(self._observed(), key=lambda one: not one.compares_in_cell):
            has_room = len(batch.runs) < MOST_RUNS
            delta, whole = run.end_cell(counts=counts and has_room)
            ended[run.id] = canary_counts(whole)
            if has_room and (whole.compares or whole.records):
                batch.runs[run.id.key] = run.id.number, whole
                self.joined.keep(run.id, self._cell, delta)
        self._ended = []
        self.joined.note_running(self._cell, ended)
        self.joined.own(batch)
        self._cell += 1

    def _observed(self) -> list[AnalysisRun]:
        return [*self._ended, *self._newest.values()]

    # What all gateways know: see `RunFollower`

    def compared(self) -> list[RunId]:
        """Runs that are observed here, also while they rest."""
        return [run.id for run in self._newest.values()]

    def unsealed(self, run: RunId) -> list[tuple[int, RunCell]]:
        """What was observed of one of them in cells that are not sealed yet."""
        own = next((one for one in self._observed() if one.id == run), None)
        return [] if own is None else own.unsealed()

    def folded(self, run: JoinedRun) -> None:
        """A cell of it was folded."""
        for one in self._observed():
            if one.joined is run:
                one.follow_state()

    def replaced(self, before: JoinedRun) -> None:
        """There is another run with its key, or none."""
        for place, run in list(self._newest.items()):
            if run.joined is before:
                del self._newest[place]
                self._follow(place[0])

    # Facts

    def record(self, event: events.Event) -> None:
        """Take one fact."""
        if (take := self._takes.get(type(event))) is not None:
            take(event)

    def _answered(self, event: AnsweredTogether) -> None:
        arm = self._arms.get((event.model, event.alias))
        if arm is None or not arm.serves(event.version):
            return
        arm.counters.answered(event.each)
        if not (arm.runs or arm.left):
            return
        answered_at = self._clock.monotonic() if event.collected_at is None else event.collected_at
        for one in event.each:
            fault, bucket, outcome = one.fault, one.bucket, one.outcome
            # What was never asked says nothing of a version, nor do bytes that their caller got wrong.
            if (
                one.reason is _HASH
                and bucket is not None
                and (split := one.split) is not None
                and (fault or outcome in (_OK, _ABANDONED))
            ):
                seen = Observation(
                    bucket,
                    arm.canary,
                    split,
                    bool(fault),
                    None if fault else one.seconds,
                    one.bin_index,
                    one.blamed_batch,
                    one.excused,
                    outcome == _ABANDONED,
                )
                for run in arm.runs:
                    run.observe(seen)
                if arm.left and answered_at - one.seconds <= arm.left_at:
                    for run in arm.left:
                        run.observe(seen)

    def _predicted(self, event: Predicted) -> None:
        self.costs.take(event, self._clock.monotonic())
        if not event.scores:
            return
        arm = self._arms.get((event.model, event.alias))
        if arm is not None and arm.serves(event.version):
            arm.counters.scored(event.scores)

    def _scores_read(self, event: ScoresRead) -> None:
        arm = self._arms.get((event.model, event.alias))
        if not event.scores or arm is None or not arm.serves(event.version):
            return
        arm.counters.scored(event.scores)
        for run in arm.runs:
            for one in event.of_split:
                run.score(one, canary=arm.canary)

    def _shadow_compared(self, event: ShadowCompared) -> None:
        run = self._shadowed(event)
        if run is not None and run.versions.production == event.production:
            run.compare(
                ShadowPair(
                    event.bucket,
                    event.split,
                    event.production_fault,
                    event.canary_fault,
                    event.agrees,
                    event.same_type,
                    event.same_length,
                    event.flips,
                    event.rows,
                    event.difference,
                    event.production_seconds,
                    event.canary_seconds,
                )
            )

    def _shadow_dropped(self, event: ShadowDropped) -> None:
        if (run := self._shadowed(event)) is not None:
            run.drop_shadow()

    def _shadowed(self, event: ShadowCompared | ShadowDropped) -> AnalysisRun | None:
        """The run that it is evidence in, while its versions are compared."""
        run = self._newest.get((event.version.model, event.alias))
        compared = run is not None and run.compares and run.versions.criteria.pairs
        return run if compared and run is not None and run.versions.version == event.version else None

    def _changed(self, event: Any) -> None:
        self._follow(event.model)

    def _breaker_closed(self, event: events.BreakerClosed) -> None:
        place = event.model, event.alias
        run = self._newest.get(place)
        if run is None or run.versions.version != event.version:
            # It serves nowhere, and may come back.
            for joined in self.joined.of(event.alias, event.version) if event.why == OPERATOR_RESET else ():
                self.joined.begin_anew(joined, self._cell)
            return
        before = self._number_when_broken.pop(place, None)
        run.forget_outage()
        if event.why != OPERATOR_RESET:
            return
        # The operator says that what was at fault is repaired: from here on it is another run, unless it is
        # already, because another gateway said so first.
        if before is None or before == run.id.number:
            self.joined.begin_anew(run.joined, self._cell)
        self._follow(event.model)

    # Who is compared with whom

    def _follow(self, model: str) -> None:
        """Read the routing table: who is compared with whom from this moment on."""
        manager, routes = self._models.managers.get(model), self._models.table.models.get(model)
        if manager is None or routes is None:
            self._forget(model)
            return
        self.costs.follow(model, routes.bound.values(), self._clock.monotonic())
        for alias, version in routes.bound.items():
            self._serve(manager, alias, version)
        before = {alias: arm.runs for (name, alias), arm in self._arms.items() if name == model}
        for alias in before:
            self._arms[model, alias].runs = ()
        self.statuses[model] = {
            alias: self._compare(manager, routes, alias)
            for alias in manager.settings.aliases
            if alias != PRODUCTION
        }
        for alias, status in self.statuses[model].items():
            if status.run is not None and status.obstacle and status.run in before.get(alias, ()):
                # It rests from now on, and what stopped it may be what it did.
                self._examine(model, alias, status.run)
        current = [status.run for status in self.statuses[model].values()]
        for alias, runs in before.items():
            arm = self._arms[model, alias]
            if any(run not in arm.runs for run in runs):
                arm.left_at = self._clock.monotonic()
            arm.left = tuple(
                run for run in dict.fromkeys((*arm.left, *runs)) if run in current and run not in arm.runs
            )

    def _forget(self, model: str) -> None:
        for key in [key for key in self._arms if key[0] == model]:
            del self._arms[key]
        for key in [key for key in self._newest if key[0] == model]:
            del self._newest[key]
        self.statuses.pop(model, None)
        self.costs.forget(model)

    def _serve(self, manager: ModelManager, alias: Alias, version: VersionId) -> None:
        harness = manager.harnesses.get(version)
        arm = self._arms.get((manager.model, alias))
        outputs = arm.outputs if arm is not None and arm.version == version else ()
        if harness is not None and harness.info is not None:  # else it is loaded anew, and counts as before
            outputs = harness.info.scores
        if arm is None or arm.version != version or arm.outputs != outputs:
            counters = ArmCounters([output.bin_count for output in outputs])
            self._arms[manager.model, alias] = ArmTraffic(version, outputs, counters, alias != PRODUCTION)

    def _compare(self, manager: ModelManager, routes: ModelRoutes, alias: Alias) -> ComparisonStatus:
        production, version = routes.bound.get(PRODUCTION), routes.bound.get(alias)
        share = routes.split_in_force.ratios().get(alias, 0.0)
        obstacle = obstacle_to(manager, routes, alias)
        run = None
        if production is not None and version is not None and production != version:
            run = self._run(manager, routes, alias, start=not obstacle)
            if run is None and not obstacle:
                obstacle = FULL if self._is_full else "what other gateways know of it is not here yet"
        elif (resting := self._newest.get((manager.model, alias))) is not None:
            resting.compares = False
        broken, place = bool(obstacle) and alias in routes.broken, (manager.model, alias)
        if not broken:
            self._number_when_broken.pop(place, None)
        elif run is not None:
            self._number_when_broken.setdefault(place, run.id.number)
        return ComparisonStatus(alias, production, version, share, obstacle, run, broken)

    def _run(
        self, manager: ModelManager, routes: ModelRoutes, alias: Alias, *, start: bool
    ) -> AnalysisRun | None:
        """That of the versions now bound; a new one where there is none and it may `start`."""
        model = manager.model
        arms = production, canary = self._arms[model, PRODUCTION], self._arms[model, alias]
        both = zip(production.outputs, canary.outputs, strict=False)
        outputs = tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both))
        criteria = criteria_of(manager.settings, alias)
        versions = ComparedVersions(production.version, canary.version, routes.salt, outputs, criteria)
        run = self._newest.get((model, alias))
        if run is None or run.versions != versions:
            run = self._begin(alias, versions, routes.configured_split, arms, start=start)
        elif start and not run.compares and self._is_full:
            run = None
        if run is None:
            return None
        run.compares = start
        if start:
            run.change_split(routes.configured_split)
            for arm in arms:
                arm.runs = (*arm.runs, run)
        return run

    def _end(self, place: tuple[str, Alias]) -> AnalysisRun | None:
        """The newest run of an alias there is over; returns it."""
        if (former := self._newest.pop(place, None)) is not None:
            former.compares = False
            self._ended.append(former)
        return former

    @property
    def _is_full(self) -> bool:
        """Whether as many runs compare in this cell as a batch may hold: others would refuse it."""
        return sum(run.compares_in_cell for run in self._observed()) >= MOST_RUNS

    def _begin(
        self,
        alias: Alias,
        versions: ComparedVersions,
        split: Split,
        arms: tuple[ArmTraffic, ArmTraffic],
        *,
        start: bool,
    ) -> AnalysisRun | None:
        """The run of `versions` at this gateway; None where nothing is known of it and it may not `start`."""
        subject = subject_of(
            alias, versions.production, versions.version, versions.salt, versions.outputs, versions.criteria
        )
        place = versions.version.model, alias
        if self._is_full:
            self._end(place)  # in the next cell there is room for it
            return None
        joined = self.joined.get(subject.key)
        if joined is None:
            if not start or self.joined.waits_for(subject.key):
                return None
            joined = self.joined.begin(subject, self._cell)
        former, now = self._end(place), self._clock.monotonic()
        counters = arms[0].counters, arms[1].counters
        run = next((one for one in self._ended if one.joined is joined and one is not former), None)
        if run is not None:
            self._ended.remove(run)
            run.resume(counters, now)
        else:
            run = AnalysisRun(
                versions, alias, split, counters, joined, compares=start, now=now, cell=self._cell
            )
        self._newest[place] = run
        return run
