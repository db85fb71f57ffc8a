"""One analysis run: what this gateway observes of it, cell by cell, and the state that all gateways share.

A run compares one version of an alias with one of production. Requests come in by `observe`; what they were
in a cell is final once the cell is over, and counts once the cell is sealed. No clock, no I/O.
"""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import nan

from router.analysis.checks import Report
from router.analysis.cost_check import CostCheck, unknown_cost
from router.analysis.criteria import Criteria
from router.analysis.joined_runs import JoinedRun
from router.analysis.run_state import Spread
from router.analysis.statistics.cell_recorder import CellRecorder, Observation
from router.analysis.statistics.counts import ArmCounters, SlidingWindow
from router.analysis.statistics.drift import ks_distance, psi, total_variation
from router.analysis.statistics.records import (
    CELL_SECONDS,
    MINUTE_CELLS,
    Ranges,
    RunCell,
    RunId,
    add_record,
)
from router.analysis.statistics.shadow_counter import ShadowPair
from router.core.breaker import OutageRule
from router.core.ids import Alias, VersionId
from router.core.scores import ClassSpec, OutputSpec, shown_name
from router.core.split import Split

LEAST_SCORES = 500
"""Of either side, below which a window's distances are not shown."""
FRESH_CELLS = 2 * MINUTE_CELLS
"""Of a run, or of a step of it, in which each cell brings its counts by group: a canary that is no worse
shall not wait for the end of a minute."""


@dataclass(frozen=True, slots=True)
class ComparedVersions:
    """What is compared. Others are another run, with evidence of its own."""

    production: VersionId
    version: VersionId
    salt: str
    outputs: tuple[OutputSpec, ...]
    """What is counted of both; empty where they are counted differently."""
    criteria: Criteria
    """Others are another run, too, with an alpha of its own."""


@dataclass(frozen=True, slots=True)
class WindowShift:
    """How far the scores of one output moved in the sliding window; all requests, so for show only."""

    output: str
    psi: float
    """NaN while either side has fewer than 500 scores; so is `ks`."""
    ks: float


class AnalysisRun:
    """What this gateway observes of one run, and what all of them know of it."""

    def __init__(
        self,
        versions: ComparedVersions,
        alias: Alias,
        split: Split,
        arms: tuple[ArmCounters, ArmCounters],
        joined: JoinedRun,
        *,
        compares: bool,
        now: float,
        cell: int,
    ) -> None:
        """`arms`: counters of production and of `alias`; `now` is monotonic, `cell` the present one."""
        self.versions = versions
        self.joined = joined
        self.compares = compares
        """Whether both arms get what the split gives them, at this moment."""
        self.window = SlidingWindow(*arms, now)
        self.last_verdict: str = joined.report.verdict
        """The verdict that was last reported."""
        output = versions.outputs[0] if versions.outputs else None
        self._recorder = CellRecorder(alias, split, joined.state.line, output)
        self.observe: Callable[[Observation], None] = self._recorder.observe
        """Takes each request of either arm that the split routed by its key."""
        self.score = self._recorder.score
        """Takes the score of each of them that is read after its answer went out."""
        self.compare: Callable[[ShadowPair], None] = self._recorder.compare
        """Takes each shadow request that was answered, or failed, by both versions…"""
        self.drop_shadow: Callable[[], None] = self._recorder.drop_shadow
        """…and each that was not."""
        self._indexes = output.index_count if output else 1
        self._cell = cell
        self._running = RunCell(
            compares,
            self._recorder.ranges,
            history=arms[0].durations_of_last_hour(),
            subject=joined.subject.pack(),
        )
        """All that was observed in this cell, as of the last `drain`."""
        self._unsealed: deque[tuple[int, RunCell]] = deque()
        self._is_drained = False
        """Whether this cell was drained before, and so what comes once with a cell is out."""
        self._fresh_until = cell + FRESH_CELLS
        self.outage_since = cell
        """First cell that counts for an outage of all gateways together."""
        self._step_cell = joined.state.step_cell
        self._noted_outage: OutageRule | None = None
        self._cost = unknown_cost(versions.criteria.cost_limit)
        self._cost_changed_at = 0.0
        """When what predicts cost last changed the verdict, in seconds since 1970."""

    @property
    def id(self) -> RunId:
        """Of the run at all gateways."""
        return self.joined.id

    @property
    def report(self) -> Report:
        """What is known, as of the last sealed cell; and what this gateway's own workers say of cost."""
        return self.joined.report.with_cost(self._cost)

    def note_cost(self, cost: CostCheck, now: float) -> None:
        """What predicts of both versions cost here; `now` in seconds since 1970."""
        before, self._cost = self.report.verdict, cost.after(self._cost)
        if self.report.verdict is not before:
            self._cost_changed_at = now

    @property
    def compares_in_cell(self) -> bool:
        """Whether it compares now, or did when this cell began."""
        return self.compares or self._running.compares

    @property
    def ranges(self) -> Ranges:
        """By which this gateway routes now."""
        return self._recorder.ranges

    @property
    def is_behind(self) -> bool:
        """Whether what is known is of other shares than are served here: no cell of these is sealed yet."""
        ranges = self.joined.state.ranges
        return ranges is not None and ranges != self.ranges

    @property
    def since_timestamp(self) -> float:
        """When the run began, in seconds since 1970: with its first cell."""
        return float(self.joined.state.first_cell * CELL_SECONDS)

    @property
    def horizon_timestamp(self) -> float:
        """When the last sealed cell ended, in seconds since 1970: what is known is as of then."""
        return float((self.joined.state.horizon + 1) * CELL_SECONDS)

    @property
    def has_horizon(self) -> bool:
        """Whether there is something to judge: not in a run that rests since before its first cell."""
        return self.compares or not self.joined.is_empty

    @property
    def verdict_changed_timestamp(self) -> float:
        """When the verdict became what it is, or the run began, in seconds since 1970."""
        return max(float(self.joined.verdict_cell * CELL_SECONDS), self._cost_changed_at)

    # What this gateway observes

    def drain(self) -> RunCell:
        """What came since the last time. The cell goes on."""
        return self._drain(groups=False)

    def end_cell(self, *, counts: bool) -> tuple[RunCell, RunCell]:
        """What came since the last time, and all of the cell. It is over, and the next one begins.

        Where the cell does not count, because this gateway is no member yet, it is as if nothing had been.
        """
        fresh = self._cell < max(self._fresh_until, self.joined.state.step_cell + FRESH_CELLS)
        delta = self._drain(groups=fresh or self._cell % MINUTE_CELLS == MINUTE_CELLS - 1)
        whole = self._running
        self._cell += 1
        self._recorder.begin_cell(self._cell - self.joined.state.first_cell)
        self._running = RunCell(self.compares, self._recorder.ranges)
        self._is_drained = False
        if counts:
            self._unsealed.append((self._cell - 1, whole))
        else:
            self._running.history, self._running.subject = whole.history, whole.subject
            self._running.outage = whole.outage
            self._recorder.report_anew()
            self._fresh_until = self._cell + FRESH_CELLS
        return delta, whole

    def _drain(self, *, groups: bool) -> RunCell:
        running = self._running
        delta = RunCell(running.compares, running.began_with, self._recorder.drain(groups=groups))
        if not self._is_drained:
            self._is_drained = True
            delta.history, delta.subject = running.history, running.subject
        delta.outage = running.outage
        for record in delta.records:
            add_record(running, record, self._indexes)
        return delta

    def resume(self, arms: tuple[ArmCounters, ArmCounters], now: float) -> None:
        """Both versions serve again before the cell is over, with counters of their own."""
        self.window = SlidingWindow(*arms, now)

    def unsealed(self) -> list[tuple[int, RunCell]]:
        """What this process observed in the cells after the last sealed one, the present one included."""
        return [*self._unsealed, (self._cell, deepcopy(self._running))]

    def canary_now(self) -> tuple[int, int]:
        """Requests of the canary in this cell so far, and faults of them that are its own."""
        return canary_counts(self._running)

    def change_split(self, split: Split) -> None:
        """`split` is configured from now on."""
        before = self._recorder.ranges
        self._recorder.change_split(split)
        if self._recorder.ranges != before:
            self._fresh_until = self._cell + FRESH_CELLS
            self.forget_outage()

    def forget_outage(self) -> None:
        """The share is another one, or the breaker was closed: what failed so far opens it no more. Nor does
        the rest of this cell, in which both came."""
        self.outage_since = self._cell + 1

    def note_outage(self, *, seen_elsewhere: bool = False) -> None:
        """FAIL, if the last fifty requests of the canary say so here, or those at all gateways do."""
        rule = self._recorder.outage
        if (rule.broken or seen_elsewhere) and rule is not self._noted_outage:
            self._noted_outage = rule
            self._running.outage = True
            self.joined.note_outage(self._cell)

    # What all of them know

    def follow_state(self) -> None:
        """A cell was folded: judge by the line that is known now, and report what did not count anew."""
        state = self.joined.state
        self._recorder.change_line(state.line)
        if state.step_cell != self._step_cell:
            self._step_cell = state.step_cell
            self._recorder.report_anew()
        while self._unsealed and self._unsealed[0][0] <= state.horizon:
            self._unsealed.popleft()

    def spread(self) -> Spread:
        """Of production's requests in this step."""
        return self.joined.state.spread()

    def shifts(self) -> list[WindowShift]:
        """One for each output that both versions count alike."""
        production, canary = self.window.counts()
        bins = zip(self.versions.outputs, production.bins, canary.bins, strict=False)
        return [_window_shift(*each) for each in bins]


def canary_counts(cell: RunCell) -> tuple[int, int]:
    """Requests of the canary in it, and faults of them that are its own."""
    arms = [record.canary for record in cell.records]
    return sum(arm.requests for arm in arms), sum(arm.faults - arm.excused for arm in arms)


def _window_shift(output: OutputSpec, production: tuple[int, ...], canary: tuple[int, ...]) -> WindowShift:
    name = shown_name(output)
    if min(sum(production), sum(canary)) < LEAST_SCORES:
        return WindowShift(name, nan, nan)
    distance = total_variation if isinstance(output, ClassSpec) else ks_distance
    return WindowShift(name, psi(production, canary), distance(production, canary))
