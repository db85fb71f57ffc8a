"""One analysis run: all evidence on one version of an alias against one of production, and what it says.

Requests come in by `observe`; every few seconds they are measured, and judged by `checks`. No clock, no I/O.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from router.analysis import checks
from router.analysis.checks import FAULTS, SCORES_BUDGET, SLOW_ANSWERS, Criteria, RateEvidence, Report
from router.analysis.statistics.counts import GROUPS, ArmCounters, SlidingWindow
from router.analysis.statistics.drift import ScoreHistograms, ks_distance, psi, total_variation
from router.analysis.statistics.fault_test import OWNER, SCORED, SEEN, BucketFlags
from router.analysis.statistics.latency import FIRST_REQUESTS, SLOW_QUANTILE, SlowThreshold, edge_at
from router.analysis.statistics.non_inferiority import design_effects, keys_in_arm
from router.analysis.statistics.sample_ratio import SampleRatioTest
from router.core.ids import CANARY, Alias, VersionId
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec, shown_name
from router.core.split import BUCKETS

FAILED_BATCHES_KNOWN = 256
"""Failed batches remembered, so that each is one event however many requests it held."""
LEAST_SCORES = 500
"""Of either side, below which a window's distances are not shown."""


class Observation(NamedTuple):
    """One request that the split routed by its key while both versions were bound.

    A tuple, because one is made per request: a frozen dataclass takes twice as long to make.
    """

    bucket: int
    """0 to 99 999."""
    canary: bool
    """Whether its key was given the alias that is compared with production, whoever answered."""
    fault: bool
    seconds: float | None
    """Last byte read until answer ready, of an answer without fault; None when not known."""
    bin_index: int | None
    """Bin or class of the score; None when it has none."""
    blamed_batch: int | None
    """As `Answered.blamed_batch`."""
    excused: bool
    """The canary failed and production failed on the same bytes."""
    abandoned: bool = False
    """Its caller hung up after `seconds`: it would have taken longer than that."""


class Spread(NamedTuple):
    """How unevenly the requests of one arm come."""

    effect: float
    """Design effect of its faults, at least 1."""
    keys: float
    """Keys that would ask as unevenly if each asked equally often; infinite where none asks more."""


class Evidence:
    """Counts per request, tests per look. A new version on either alias needs a new one.

    Memory is about 300 KB, whatever the traffic. Not safe for threads.
    """

    def __init__(
        self,
        *,
        canary_share: float,
        started_at: float,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        bin_count: int | None,
        classes: bool = False,
        slow_edge_seconds: float | None = None,
        bin_edges: Sequence[float] | None = None,
        production_share: float | None = None,
        from_top: bool = False,
    ) -> None:
        """`canary_share` and `production_share` are 0 to 1; production has the rest unless another alias has
        some.

        `bin_count`: bins or classes of a score, None for none; `bin_edges`: their `bin_count` + 1 edges, for
        means. `from_top`: what is compared owns the highest buckets, as a further alias does.
        """
        self._criteria = criteria
        self._from_top = from_top
        self._started_at = started_at
        self._buckets = BucketFlags(*self._ranges(canary_share, production_share))
        self._flags = self._buckets.flags
        self._threshold = SlowThreshold(slow_edge_seconds)
        self._durations = (self._threshold.durations, [0] * (len(REQUEST_SECONDS) + 1))
        self._faults = RateEvidence(FAULTS, self._buckets, started_at, criteria)
        self._latency = RateEvidence(SLOW_ANSWERS, self._buckets, started_at, criteria)
        self._seen = SampleRatioTest(self._buckets)
        self._scores = (
            None
            if bin_count is None
            else ScoreHistograms(bin_count, criteria.alpha * SCORES_BUDGET, classes=classes, edges=bin_edges)
        )
        self._failed_batches: deque[tuple[bool, int]] = deque(maxlen=FAILED_BATCHES_KNOWN)
        self._left_out = 0
        self._begin_step(started_at)

    def _ranges(self, canary_share: float, production_share: float | None) -> tuple[range, range]:
        canary = round(canary_share * BUCKETS)
        production = BUCKETS - canary if production_share is None else round(production_share * BUCKETS)
        if canary < 0 or production < 0 or canary + production > BUCKETS:
            raise ValueError("shares are at least 0 and at most 1 in all")
        if self._from_top:
            below = BUCKETS - canary
            return range(below, BUCKETS), range(below - production, below)
        return range(canary), range(canary, canary + production)

    def _begin_step(self, now: float) -> None:
        self._step_at = now
        self._excused = 0
        self._durations_before = tuple(map(tuple, self._durations))
        self._outage_rule = self._faults.outage_rule
        self._fault_requests = self._faults.counts.requests
        self._slow_requests = self._latency.counts.requests

    def observe(self, seen: Observation) -> None:
        """Count one request: about 1 µs, and nothing that grows with traffic."""
        bucket, canary, fault, seconds, bin_index, _, _, abandoned = seen
        flags = self._flags[bucket]
        if flags >> OWNER != canary:
            self._left_out += 1
            return
        group = bucket % GROUPS
        if not flags & SEEN:
            self._flags[bucket] |= SEEN
            self._seen.hit(canary=canary)
        if abandoned:
            self._abandoned(seen, group)
            return
        self._fault_requests[canary][group] += 1
        if fault:
            self._fault(seen, group)
            return
        if canary:
            self._outage_rule.add(fault=False)
        if seconds is not None:
            edge = self._threshold.seconds  # before this answer: those it is learned from are not judged
            if canary:
                self._durations[1][bisect_left(REQUEST_SECONDS, seconds)] += 1
            else:
                self._threshold.add(seconds)
            if edge is not None:
                self._slow_requests[canary][group] += 1
                if seconds > edge:
                    self._slow(bucket, group, canary=canary)
        scores = self._scores
        if scores is not None and scores.add(bin_index, group, first=not flags & SCORED, canary=canary):
            self._flags[bucket] |= SCORED

    def _abandoned(self, seen: Observation, group: int) -> None:
        # It is slow already, or it is not known whether it would have been. Of both versions alike: callers
        # who hang up must not make two equal ones look different.
        edge = self._threshold.seconds
        if edge is not None and seen.seconds is not None and seen.seconds > edge:
            self._slow_requests[seen.canary][group] += 1
            self._slow(seen.bucket, group, canary=seen.canary)

    def _fault(self, seen: Observation, group: int) -> None:
        canary = seen.canary
        self._faults.counts.events[canary][group] += 1
        if canary:
            self._excused += seen.excused
            self._outage_rule.add(fault=not seen.excused)
        if seen.blamed_batch is not None:
            if (canary, seen.blamed_batch) in self._failed_batches:
                return
            self._failed_batches.append((canary, seen.blamed_batch))
        self._hit(self._faults, seen.bucket, canary=canary, whole_batch=seen.blamed_batch is not None)

    def _slow(self, bucket: int, group: int, *, canary: bool) -> None:
        self._latency.counts.events[canary][group] += 1
        self._hit(self._latency, bucket, canary=canary)

    def _hit(self, rate: RateEvidence, bucket: int, *, canary: bool, whole_batch: bool = False) -> None:
        for hits in (rate.cumulative, rate.epoch):
            if not self._flags[bucket] & hits.event:
                self._flags[bucket] |= hits.event
                hits.hit(canary=canary, whole_batch=whole_batch)

    def look(self, now: float) -> None:
        """Close a block: test what was observed. `now` never goes back; call it every few seconds."""
        self._seen.look()
        self._faults.look(now)
        self._latency.look(now)
        if self._scores is not None:
            self._scores.look()

    def change_share(
        self,
        canary_share: float,
        now: float,
        *,
        production_share: float | None = None,
    ) -> None:
        """Another step: the last block is closed, PASS and sizes begin anew, what proves a FAIL goes on."""
        self.look(now)
        self._buckets.assign(*self._ranges(canary_share, production_share))
        self._faults.change_share(now)
        self._latency.change_share(now)
        self._seen.restart()
        if self._scores is not None:
            self._buckets.clear(SCORED)
            self._scores.restart()
        self._begin_step(now)

    def spread(self) -> Spread:
        """Of production's requests in this step."""
        counts = self._faults.counts
        return Spread(design_effects(counts)[0], keys_in_arm(counts.requests[0]))

    def report(self, now: float) -> Report:
        """What was known at the last look, as of `now`."""
        production, canary = (
            [count - before for count, before in zip(*arm, strict=True)]
            for arm in zip(self._durations, self._durations_before, strict=True)
        )
        faults = checks.build_fault_check(self._faults, now, self._seen, self._excused)
        latency = checks.build_latency_check(
            self._latency, now, self._seen, self._threshold.seconds, (production, canary)
        )
        scores = checks.build_score_check(self._scores, self._criteria)
        split = checks.build_split_check(self._buckets, self._seen)
        return Report(
            verdict=checks.overall_verdict((faults, latency, scores, split)),
            share=len(self._buckets.canary) / BUCKETS,
            seconds=max(0.0, now - self._started_at),
            step_seconds=max(0.0, now - self._step_at),
            faults=faults,
            latency=latency,
            scores=scores,
            split=split,
            left_out=self._left_out,
        )


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
class Shares:
    """Of all buckets, 0 to 1, by the split as configured."""

    production: float
    canary: float
    """Of the alias that is compared with production."""


@dataclass(frozen=True, slots=True)
class WindowShift:
    """How far the scores of one output moved in the sliding window; all requests, so for show only."""

    output: str
    psi: float
    """NaN while either side has fewer than 500 scores; so is `ks`."""
    ks: float


class AnalysisRun:
    """Takes the requests of both arms, one by one, and judges when it is asked to."""

    def __init__(
        self,
        versions: ComparedVersions,
        alias: Alias,
        shares: Shares,
        arms: tuple[ArmCounters, ArmCounters],
        *,
        now: float,
        timestamp: float,
    ) -> None:
        """`arms`: counters of production and of `alias`; `now` is monotonic, `timestamp` since 1970."""
        self.versions = versions
        self.since_timestamp = timestamp
        self.shares = shares
        first = versions.outputs[0] if versions.outputs else None
        hour = arms[0].latency_of_last_hour()
        self._evidence = Evidence(
            canary_share=shares.canary,
            production_share=shares.production,
            from_top=alias != CANARY,
            started_at=now,
            criteria=versions.criteria,
            bin_count=first.bin_count if first else None,
            classes=isinstance(first, ClassSpec),
            bin_edges=(first.low, *first.edges()) if isinstance(first, ScoreSpec) else None,
            slow_edge_seconds=edge_at(hour, SLOW_QUANTILE) if sum(hour) >= FIRST_REQUESTS else None,
        )
        self.window = SlidingWindow(*arms, now)
        self.report: Report = self._evidence.report(now)
        self.last_verdict: str = self.report.verdict
        """The verdict that was last reported."""
        self.observe: Callable[[Observation], None] = self._evidence.observe
        """Takes each request of either arm that the split routed by its key."""

    def measure(self, now: float) -> None:
        """Take in what was counted since the last time."""
        self._evidence.look(now)
        self.window.slide(now)

    def judge(self, now: float) -> None:
        """Renew the report."""
        self.report = self._evidence.report(now)

    def spread(self) -> Spread:
        """How unevenly production's requests came in this step."""
        return self._evidence.spread()

    def change_shares(self, shares: Shares, now: float) -> None:
        """Another step, if they are others."""
        if shares != self.shares:
            self.shares = shares
            self._evidence.change_share(shares.canary, now, production_share=shares.production)
            self.judge(now)

    def shifts(self) -> list[WindowShift]:
        """One for each output that both versions count alike."""
        production, canary = self.window.counts()
        bins = zip(self.versions.outputs, production.bins, canary.bins, strict=False)
        return [_window_shift(*each) for each in bins]


def _window_shift(output: OutputSpec, production: tuple[int, ...], canary: tuple[int, ...]) -> WindowShift:
    name = shown_name(output)
    if min(sum(production), sum(canary)) < LEAST_SCORES:
        return WindowShift(name, nan, nan)
    distance = total_variation if isinstance(output, ClassSpec) else ks_distance
    return WindowShift(name, psi(production, canary), distance(production, canary))
