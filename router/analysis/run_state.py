"""The state of one run: cells go in, one after the other, and it says what is known so far.

`state = fold(state, joined cell)`, and nothing else: no clock, no I/O, no chance. Two gateways that fold the
same cells have the same state, whichever of them had which request, and however their records were merged.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Struct

from router.analysis import checks
from router.analysis.checks import RateEvidence, RateState, Report, UncleanEnd
from router.analysis.criteria import FAULTS, SCORES_BUDGET, SLOW_ANSWERS, Criteria
from router.analysis.paired_check import PairedEvidence, PairedState
from router.analysis.statistics.counts import RECENT_CELLS, ArmTotals, GroupCounts
from router.analysis.statistics.drift import ScoreHistograms, ScoreState
from router.analysis.statistics.durations import BINS, add_to
from router.analysis.statistics.fault_test import OWNER, SCORED, BucketFlags
from router.analysis.statistics.latency import slow_line
from router.analysis.statistics.non_inferiority import design_effects, keys_in_arm
from router.analysis.statistics.records import CELL_SECONDS, ArmRecord, Ranges, Record, RunCell, joined
from router.analysis.statistics.sample_ratio import SampleRatioTest
from router.analysis.statistics.shadow_record import ShadowRecord
from router.core.breaker import OUTAGE_FAULTS, OUTAGE_REQUESTS
from router.core.scores import OutputSpec
from router.core.split import BUCKETS

DAY_CELLS = 86_400 // CELL_SECONDS
HELD_BY = 2
"""Unclean ends within a day that keep a canary from passing."""
_MOST_UNCLEAN_ENDS = 32
"""Of the last day that are kept."""
_NO_BUCKETS = Ranges((0, 0), (0, 0))
_STILL_AFTER = SLOW_ANSWERS.epoch_cells
"""Empty cells in a row after which a further one changes nothing but the time."""


class Spread(NamedTuple):
    """How unevenly the requests of one arm come."""

    effect: float
    """Design effect of its faults, at least 1."""
    keys: float
    """Keys that would ask as unevenly if each asked equally often; infinite where none asks more."""


class RunStateData(Struct, array_like=True):
    """All of a `RunState`, for the disk and for another gateway."""

    first_cell: int
    horizon: int
    step_cell: int
    ranges: Ranges | None
    line: float | None
    history: list[int]
    """Production's durations of the hour before the run, by bin; until the line is known, as `learned`."""
    learned: list[int]
    """The same of its first cells."""
    durations: tuple[list[int], list[int]]
    """Of production and of the canary in this step, by bin."""
    newest: list[tuple[int, int]]
    """The canary's requests and faults, excused ones apart, of the newest cells that hold 50 of them."""
    excused: int
    left_out: int
    events: bytes
    """What each bucket had, one bit per event."""
    groups: list[list[int]]
    faults: RateState
    latency: RateState
    seen: SampleRatioTest
    scores: ScoreState | None
    unclean_ends: list[tuple[int, str]]
    shadow: PairedState | None = None
    """None where no requests are shadowed in this run, as in a state that a former version wrote."""


class RunState:
    """What is known of one run, as of the last cell that was folded. About 300 KB, whatever the traffic.

    `fold` is called once for each sealed cell, in order, with what every gateway in that cell says of this
    run. A cell that is skipped is as one in which nobody said anything. Not safe for threads.
    """

    def __init__(self, data: RunStateData, criteria: Criteria, output: OutputSpec | None) -> None:
        """Begins with `data`, which is its own from then on. See `begin` and `load`."""
        ranges = data.ranges or _NO_BUCKETS
        buckets = BucketFlags(range(*ranges.canary), range(*ranges.production), data.events)
        self._criteria, self._buckets = criteria, buckets
        self.first_cell = data.first_cell
        """That in which the run began. Epochs end at multiples of 900 and 3 600 s after its begin."""
        self.horizon = data.horizon
        """The last cell that was folded; `first_cell` − 1 before the first."""
        self.step_cell = data.step_cell
        """That in which the present split began to count."""
        self.ranges = data.ranges
        """The split whose requests count; None until one was in force at all gateways that compare."""
        self.line = data.line
        """Seconds above which an answer is slow; None until production's 95th percentile is known, then
        fixed. What was held against another line says nothing of latency."""
        self._history, self._learned, self._durations = data.history, data.learned, data.durations
        self._newest, self._excused, self._left_out = data.newest, data.excused, data.left_out
        self._groups = GroupCounts()
        self._groups.load(data.groups)
        self._faults = RateEvidence(FAULTS, buckets, criteria, data.first_cell, data.faults)
        self._latency = RateEvidence(SLOW_ANSWERS, buckets, criteria, data.first_cell, data.latency)
        self._seen = data.seen
        self._indexes = 1 if output is None else output.index_count
        self._scores = None
        if output is not None:
            self._scores = ScoreHistograms(output, criteria.alpha * SCORES_BUDGET, data.scores)
        self._unclean_ends = data.unclean_ends
        self._pairs = PairedEvidence(criteria, data.first_cell, data.shadow) if criteria.pairs else None
        if any(len(counts) != BINS for counts in (*self._durations, self._history, self._learned)):
            raise ValueError(f"durations are counted in {BINS} bins")

    @classmethod
    def begin(cls, criteria: Criteria, output: OutputSpec | None, first_cell: int) -> "RunState":
        """A state that has seen nothing. `output`: the score or class that both versions count alike."""
        buckets = BucketFlags(range(0), range(0))
        data = RunStateData(
            first_cell=first_cell,
            horizon=first_cell - 1,
            step_cell=first_cell,
            ranges=None,
            line=None,
            history=[0] * BINS,
            learned=[0] * BINS,
            durations=([0] * BINS, [0] * BINS),
            newest=[],
            excused=0,
            left_out=0,
            events=bytes(BUCKETS),
            groups=GroupCounts().to_lists(),
            faults=RateEvidence(FAULTS, buckets, criteria, first_cell).state,
            latency=RateEvidence(SLOW_ANSWERS, buckets, criteria, first_cell).state,
            seen=SampleRatioTest(),
            scores=None,
            unclean_ends=[],
            shadow=PairedEvidence(criteria, first_cell).state if criteria.pairs else None,
        )
        return cls(data, criteria, output)

    @classmethod
    def load(cls, data: RunStateData, criteria: Criteria, output: OutputSpec | None) -> "RunState":
        """The state that `dump` wrote: it goes on as the one that was dumped would, to the last bit.

        Raises ValueError for data that no state with such an `output` dumps.
        """
        if (data.scores is None) != (output is None):
            raise ValueError("scores are counted where both versions count one alike, and only there")
        if (data.shadow is not None) != criteria.pairs:
            raise ValueError("pairs are counted where requests are shadowed, and only there")
        return cls(_copy(data), criteria, output)

    def dump(self) -> RunStateData:
        """Everything that there is to know, as a copy."""
        data = RunStateData(
            first_cell=self.first_cell,
            horizon=self.horizon,
            step_cell=self.step_cell,
            ranges=self.ranges,
            line=self.line,
            history=self._history,
            learned=self._learned,
            durations=self._durations,
            newest=self._newest,
            excused=self._excused,
            left_out=self._left_out,
            events=self._buckets.events(),
            groups=self._groups.to_lists(),
            faults=self._faults.state,
            latency=self._latency.state,
            seen=self._seen,
            scores=None if self._scores is None else self._scores.state,
            unclean_ends=self._unclean_ends,
            shadow=None if self._pairs is None else self._pairs.state,
        )
        return _copy(data)

    # Cells in

    def fold(self, cell: int, parts: Sequence[RunCell]) -> None:
        """Take in one sealed cell: what each gateway that has this run observed in it.

        The split that counts changes at the first cell that all parts which compare began with one other
        split. Records of another split do not count, nor do those of another line for latency.

        Raises ValueError unless the cell is after `horizon`.
        """
        if cell <= self.horizon:
            raise ValueError(f"cell {cell} is not after {self.horizon}, which was folded")
        self._fold_empty_until(cell)
        self._fold(cell, parts)

    def _fold_empty_until(self, cell: int) -> None:
        still = self.horizon + 1 + _STILL_AFTER
        for empty in range(self.horizon + 1, min(cell, still)):
            self._fold(empty, ())
        for empty in range(max(still, cell - RECENT_CELLS - 1), cell):
            self._fold(empty, ())

    def _fold(self, cell: int, parts: Sequence[RunCell]) -> None:
        self.horizon = cell
        splits = {part.began_with for part in parts if part.compares and part.began_with.is_split}
        if len(splits) == 1 and splits != {self.ranges}:
            self._begin_step(cell, splits.pop())
        counted = [[record for record in part.records if record.ranges == self.ranges] for part in parts]
        self._left_out += sum(
            record.production.requests + record.canary.requests
            for part in parts
            for record in part.records
            if record.ranges != self.ranges
        )
        every = joined(
            (record for records in counted for record in records),
            self.ranges or _NO_BUCKETS,
            self.line,
            self._indexes,
        )
        if any(part.outage for part in parts) or self._is_outage(every.canary):
            self._faults.fail(cell, "outage")
        self._take(cell, every)
        if _all_by_group(counted):
            self._look_for_pass()
        if self.line is None:
            self._learn_line(every, parts)

    def _begin_step(self, cell: int, ranges: Ranges) -> None:
        self._buckets.assign(range(*ranges.canary), range(*ranges.production))
        self.ranges, self.step_cell = ranges, cell
        self._faults.begin_step(cell)
        self._latency.begin_step(cell)
        if self._pairs is not None:
            self._pairs.begin_step(cell)
        self._seen.restart(self._buckets)
        self._buckets.clear(SCORED)
        if self._scores is not None:
            self._scores.restart()
        self._groups = GroupCounts()
        self._durations = [0] * BINS, [0] * BINS
        self._newest, self._excused = [], 0

    def _take(self, cell: int, every: Record) -> None:
        production, canary = every.production, every.canary
        self._left_out += every.left_out
        self._excused += canary.excused
        for arm, counted in enumerate((production, canary)):
            add_to(self._durations[arm], counted.durations)
            if counted.groups is not None:
                self._groups.add(arm, counted.groups)
        self._seen.take(self._buckets, every.seen)
        faults = ArmTotals(production.requests, production.faults, canary.requests, canary.faults)
        # Where the canary owns no bucket its workers have none of these calls, so the coin is none.
        calls = every.faulty_calls - every.faulty if self._buckets.canary else set()
        self._faults.take(cell, faults, every.faulty, calls)
        slow = ArmTotals(production.timed, production.slow, canary.timed, canary.slow)
        self._latency.take(cell, slow, every.slow, set())
        self._take_scores(every)
        if self._pairs is not None:
            self._pairs.take(cell, every.shadow or ShadowRecord())

    def _is_outage(self, canary: ArmRecord) -> bool:
        # By whole cells, which hold 50 requests or more: as many of them as of 50 must have failed.
        newest = self._newest
        if canary.requests:
            newest.append((canary.requests, canary.faults - canary.excused))
            while sum(requests for requests, _ in newest[1:]) >= OUTAGE_REQUESTS:
                del newest[0]
        requests, faults = (sum(pair[column] for pair in newest) for column in (0, 1))
        return requests >= OUTAGE_REQUESTS and faults * OUTAGE_REQUESTS >= requests * OUTAGE_FAULTS

    def _take_scores(self, every: Record) -> None:
        scores, flags = self._scores, self._buckets.flags
        if scores is None:
            return
        firsts: tuple[list[int], list[int]] = ([], [])
        for bucket, bin_index in every.first_scores.items():
            if 0 <= bin_index < self._indexes and any(self._buckets.mark(SCORED, (bucket,))):
                firsts[flags[bucket] >> OWNER].append(bin_index)
        for arm, counted in enumerate((every.production, every.canary)):
            scores.take(arm, counted.scores, firsts[arm], counted.invalid)
        scores.look()

    def _look_for_pass(self) -> None:
        failing = checks.production_failing(self._faults)
        self._faults.look_for_pass(self._groups.faults, never_passes=failing)
        unmeasured = checks.why_unmeasured(self._latency, self._durations)
        self._latency.look_for_pass(self._groups.slow, never_passes=bool(unmeasured))

    def _learn_line(self, every: Record, parts: Sequence[RunCell]) -> None:
        for part in parts:
            add_to(self._history, part.history or {})
        add_to(self._learned, every.production.durations)
        limits = self._criteria.min_ratio, self._criteria.min_seconds
        self.line = slow_line(self._history, *limits) or slow_line(self._learned, *limits)

    # What is not in the cells

    def note_outage(self, cell: int) -> None:
        """The breaker's rule broke in that cell, which need not be sealed: FAIL until the share changes."""
        self._faults.fail(cell, "outage")

    def note_unclean_end(self, cell: int, host: str) -> None:
        """A gateway ended without writing what it knew. Two within a day hold PASS; the same one counts
        once."""
        ends = sorted({*self._unclean_ends, (cell, host)})
        self._unclean_ends = ends[-_MOST_UNCLEAN_ENDS:]

    @property
    def unclean_ends(self) -> list[tuple[int, str]]:
        """Those of the last day: cell and host."""
        return [end for end in self._unclean_ends if end[0] > self.horizon - DAY_CELLS]

    # What is known

    def report(self) -> Report:
        """What is known, as of `horizon`."""
        faults = checks.build_fault_check(self._faults, self._groups.faults, self._seen, self._excused)
        latency = checks.build_latency_check(
            self._latency, self._groups.slow, self._seen, self.line, self._durations
        )
        scores = checks.build_score_check(self._scores, self._groups, self._criteria)
        split = checks.build_split_check(self._buckets, self._seen)
        ends = self.unclean_ends
        held_by = tuple(UncleanEnd(float(cell * CELL_SECONDS), host) for cell, host in ends)
        held = len(ends) >= HELD_BY
        pairs = None if self._pairs is None else self._pairs.check()
        judged = (faults, latency, scores, split, *(() if pairs is None else (pairs,)))
        return Report(
            verdict=checks.overall_verdict(judged, held=held),
            share=len(self._buckets.canary) / BUCKETS,
            seconds=float((self.horizon + 1 - self.first_cell) * CELL_SECONDS),
            step_seconds=float((self.horizon + 1 - self.step_cell) * CELL_SECONDS),
            faults=faults,
            latency=latency,
            scores=scores,
            split=split,
            left_out=self._left_out,
            held_by=held_by if held else (),
            shadow=pairs,
        )

    def spread(self) -> Spread:
        """How unevenly production's requests came in this step."""
        groups = self._groups.faults
        return Spread(design_effects(groups)[0], keys_in_arm(groups.requests[0]))

    def digest(self) -> bytes:
        """16 bytes that are the same where the same cells were folded.

        Of whole numbers only: logarithms may differ in the last digits from library to library. What
        `note_outage` and `note_unclean_end` say is not in it either.
        """
        numbers = (
            *(self.first_cell, self.horizon, self.step_cell, self.ranges),
            *(self._history, self._learned, self._durations, self._newest, self._excused, self._left_out),
            self._groups.to_lists(),
            *(_numbers(rate.state) for rate in (self._faults, self._latency)),
            *(self._seen.hits, self._seen.canary_hits),
            *([] if self._scores is None else [self._scores.state.production, self._scores.state.canary]),
            *([] if self._pairs is None else self._pairs.numbers()),
        )
        hashed = blake2b(self._buckets.events(), digest_size=16)
        hashed.update(msgspec.msgpack.encode(numbers))
        return hashed.digest()


def _numbers(state: RateState) -> tuple[object, ...]:
    tests = ((test.hits, test.canary_hits, test.clean) for test in (state.cumulative, state.epoch))
    of_epoch = state.epoch_number, state.epoch_base, state.epoch_carried
    return (*tests, state.total, state.blocks, *of_epoch)


def _all_by_group(counted: Sequence[Sequence[Record]]) -> bool:
    """Whether each gateway that has records in the cell counted them by group, too; False without any."""
    by_group = [
        any(arm.groups is not None for record in records for arm in (record.production, record.canary))
        for records in counted
        if records
    ]
    return bool(by_group) and all(by_group)


def _copy(data: RunStateData) -> RunStateData:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=RunStateData)
