"""The checks and their verdicts: with `cost_check`, the only place that decides one. Counts in, checks out.

Rates, shares and differences are 0 to 1 (differences −1 to 1), times are seconds, None is unknown, NaN never.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypeVar

from msgspec import Struct

from router.analysis.cost_check import CostCheck
from router.analysis.criteria import FAULTS, Criteria, RateEvent
from router.analysis.paired_check import PairedCheck
from router.analysis.proof import Proof
from router.analysis.statistics import fault_test, non_inferiority
from router.analysis.statistics.counts import ArmTotals, EventGroups, GroupCounts, RecentTotals
from router.analysis.statistics.drift import EQUAL_ENOUGH, LARGE_FROM, OutputShift, ScoreHistograms
from router.analysis.statistics.durations import is_over
from router.analysis.statistics.fault_test import EPOCH_REQUESTS, BucketFlags, FirstHitTest
from router.analysis.statistics.latency import (
    BettingTest,
    QuantilesOfArms,
    TimeBlocks,
    quantiles,
    quantiles_over,
    seconds_to_reach,
)
from router.analysis.statistics.non_inferiority import Interval, NonInferiorityTest
from router.analysis.statistics.records import CELL_SECONDS
from router.analysis.statistics.sample_ratio import SampleRatioTest
from router.core.split import BUCKETS
from router.core.verdict import Verdict

_NEARLY_ALL = 0.95
_ROUNDING = 1e-12


# What is shown of a check

Unmeasured = Literal["", "over_last_edge", "all_slow"]
"""Nothing; an arm's 95th percentile is beyond the last edge of the durations, where all are counted alike;
production's answers are so nearly all slow that a canary with the margin more of them cannot exist."""


@dataclass(frozen=True, slots=True)
class ArmRate:
    """One arm of a check in this step."""

    requests: int
    events: int
    """Requests that faulted, or were slow."""
    rate: float | None
    keys: int
    """Different buckets seen; at most as many as keys."""
    hit_keys: int
    """Different buckets with the event, in all of this run; a crash that hit many keys is one."""


@dataclass(frozen=True, slots=True)
class RateCheck:
    """Faults, or slow answers."""

    check: str
    """faults or latency."""
    verdict: Verdict
    judges: bool
    alpha: float
    """Of the whole run, as `Criteria` has it."""
    limit: float
    """Rise from which on a proven rise fails."""
    margin: float
    """δ: rise that PASS excludes."""
    production: ArmRate
    canary: ArmRate
    difference: float | None
    interval: Interval | None
    """95 % of the difference, for display; never judged."""
    excused: int
    """Canary faults on requests that production failed as well: the input's fault. They count all the
    same."""
    cumulative: Proof
    epoch: Proof
    epoch_number: int
    failed_at: float | None
    """End of the cell in which FAIL was said in this step, in seconds since 1970; it stays until the share
    changes."""
    failed_by: str
    """cumulative, epoch or outage; empty unless failed."""
    ln_l: float
    """Evidence that the canary is no worse."""
    requests_enough: bool
    keys_enough: bool
    """Whether the canary's effective keys are enough to pass, as of the last counts by group."""
    production_failing: bool
    """Production's own fault rate is so high that nothing passes."""
    will_not_pass: bool
    """At the rates seen, more requests lead away from PASS."""
    hit_keys_needed: int
    """Hit canary keys, with none of production's, from nothing to a proof that may fail."""
    requests_needed: int | None
    """Canary requests of this step, those seen included, at which PASS is due if the canary is as good.

    None when it has failed or will not pass, or when it is keys or a sound production that are missing.
    """
    seconds_needed: float | None
    """Until then at the present rate; None while the canary has no traffic, 0 when passed."""
    fail_seconds: float | None
    """Until a proof of being worse, if the odds seen hold; None when the canary is not worse so far."""
    seconds_to_show_point: float | None
    """In which one percentage point more (five for latency) would be proven, were it there."""

    @property
    def never_passes(self) -> bool:
        """Whether no number of such requests makes it pass."""
        return self.production_failing

    def without_forecasts(self) -> "RateCheck":
        """While nothing is compared: nothing arrives, so no forecast comes true."""
        still = self.seconds_needed if self.verdict is Verdict.PASS else None
        return replace(self, seconds_needed=still, fail_seconds=None, seconds_to_show_point=None)


@dataclass(frozen=True, slots=True)
class LatencyCheck(RateCheck):
    """Slow answers. Faulted requests are left out: a timeout is a fault."""

    edge_seconds: float | None
    """Longer than this is slow, the line; None until it is known."""
    quantiles_seconds: QuantilesOfArms[float | None]
    quantiles_over_last_edge: QuantilesOfArms[bool]
    """Which of them are longer than the last edge: all that is known of those, though they read as it."""
    unmeasured: Unmeasured
    """Why a slower canary would look like this one, so that nothing passes; a FAIL stays possible."""

    @property
    def never_passes(self) -> bool:
        """As of `RateCheck`."""
        return bool(self.unmeasured)


@dataclass(frozen=True, slots=True)
class ScoreCheck:
    """Whether scores moved; judges only where the operator said so, and there is something to compare."""

    check: str
    verdict: Verdict
    judges: bool
    alpha: float
    """As of `RateCheck`."""
    outputs: tuple[OutputShift, ...]
    """The first counted output; empty where both versions count none alike."""

    @property
    def uncounted(self) -> bool:
        """Whether most answers of one arm alone hold no score, so that nothing passes."""
        return any(output.uncounted for output in self.outputs)

    @property
    def never_passes(self) -> bool:
        """Whether no number of such answers makes it pass: too many of their scores count alike."""
        return any(output.saturated for output in self.outputs)


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """Whether the canary gets its keys; never judges a version."""

    check: str
    verdict: Verdict
    judges: bool
    expected_share: float
    """Of the buckets of production and the canary, as `observed_share` is."""
    observed_share: float | None
    """Of the different buckets seen."""
    pair_share: float
    """How much of all buckets these two own; below 1 where another alias owns some."""


Check = RateCheck | LatencyCheck | ScoreCheck | SplitCheck | PairedCheck | CostCheck


class UncleanEnd(NamedTuple):
    """A gateway that ended without writing what it knew. If the canary killed it, that was its evidence."""

    timestamp: float
    """Seconds since 1970, to a cell."""
    host: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, at one instant."""

    verdict: Verdict
    """The worst of the checks that judge; no PASS while only one arm's answers mostly hold no score, or while
    it is held."""
    share: float
    """Canary's share of all buckets."""
    seconds: float
    """Since the run began."""
    step_seconds: float
    """Since the share last changed; PASS and all counts are of this step."""
    faults: RateCheck
    latency: LatencyCheck
    scores: ScoreCheck
    split: SplitCheck
    left_out: int
    """Requests whose bucket is not of the arm that had them: under way when the share changed."""
    held_by: tuple[UncleanEnd, ...]
    """Two or more within a day, which keep it from passing; else empty."""
    shadow: PairedCheck | None = None
    """None where no requests are shadowed in this run."""
    cost: CostCheck | None = None
    """Of one gateway; None of what all gateways know, which is without it."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """In the order in which they are shown."""
        others = (one for one in (self.shadow, self.cost) if one is not None)
        return (self.faults, self.latency, self.scores, self.split, *others)

    def with_cost(self, cost: CostCheck) -> "Report":
        """The same, and what this gateway's workers say of cost."""
        report = replace(self, cost=cost)
        return replace(report, verdict=overall_verdict(report.checks, held=bool(report.held_by)))


# Verdicts


def overall_verdict(checks: Sequence[Check], *, held: bool = False) -> Verdict:
    """Of the checks that judge: any FAIL is FAIL; else any NOT ENOUGH DATA is that; else PASS.

    Nothing passes while it is `held`, or while only one arm's answers mostly hold no score, whether scores
    judge or not.
    """
    judging = {check.verdict for check in checks if check.judges}
    if Verdict.FAIL in judging:
        return Verdict.FAIL
    uncounted = any(isinstance(check, ScoreCheck) and check.uncounted for check in checks)
    return Verdict.PASS if judging == {Verdict.PASS} and not (uncounted or held) else Verdict.NOT_ENOUGH_DATA


def verdict_in_force(report: Report | None, *, broken: bool) -> Verdict:
    """What holds now: nothing is known without a report, and nothing passes beside an open breaker."""
    verdict = Verdict.NOT_ENOUGH_DATA if report is None else report.verdict
    return Verdict.NOT_ENOUGH_DATA if broken and verdict is Verdict.PASS else verdict


# Faults, and slow answers: the state of a check, and what it says


class RateState(Struct, array_like=True):
    """All that `RateEvidence` knows."""

    cumulative: FirstHitTest
    epoch: FirstHitTest
    betting: BettingTest | None
    epoch_betting: BettingTest | None
    non_inferiority: NonInferiorityTest
    recent: RecentTotals
    blocks: TimeBlocks
    total: ArmTotals = ArmTotals()
    epoch_number: int = 1
    epoch_base: ArmTotals = ArmTotals()
    """Those of this step's that were counted before the epoch."""
    epoch_carried: int = 0
    """The canary's requests of the epoch, counted before this step."""
    failed_cell: int | None = None
    failed_by: str = ""
    """cumulative, epoch or outage; empty unless failed."""
    passed: bool = False
    """Whether it passed when that was last looked at."""


class RateEvidence:
    """What is known of one event, cell by cell. Everything about PASS and size is of this step only."""

    def __init__(
        self,
        event: RateEvent,
        buckets: BucketFlags,
        criteria: Criteria,
        first_cell: int,
        state: RateState | None = None,
    ) -> None:
        """`first_cell`: of the run. `state`: what is known already."""
        self.event, self.criteria = event, criteria
        self.limit = criteria.max_increase if event is FAULTS else criteria.max_slow_increase
        self.level = fault_test.cumulative_level(self._alpha)
        self._buckets, self._first_cell = buckets, first_cell
        self.state = state or self._begin(first_cell)

    @property
    def _alpha(self) -> float:
        return self.criteria.alpha * self.criteria.budget_of(self.event)

    def _begin(self, cell: int) -> RateState:
        whole, of_epoch = (FirstHitTest(bit, self.criteria.canary_workers) for bit in self.event.bits)
        betting, epoch_betting = (BettingTest() if self.event.in_blocks else None for _ in range(2))
        non_inferiority, recent = NonInferiorityTest(self.limit), RecentTotals.since(cell)
        return RateState(whole, of_epoch, betting, epoch_betting, non_inferiority, recent, TimeBlocks(cell))

    def begin_step(self, cell: int) -> None:
        """Another split from that cell on. What proves a FAIL goes on with the buckets' new owners; the rest
        begins anew."""
        state = self.state
        state.epoch_carried += state.total.since(state.epoch_base).canary_requests
        state.cumulative.recount(self._buckets)
        state.epoch.recount(self._buckets)
        state.total = state.epoch_base = ArmTotals()
        state.recent, state.blocks = RecentTotals.since(cell), TimeBlocks(cell)
        state.non_inferiority = NonInferiorityTest(self.limit)
        state.passed = False
        if state.failed_cell is None or state.failed_cell < cell:
            state.failed_cell, state.failed_by = None, ""

    def take(self, cell: int, counted: ArmTotals, hit: set[int], calls: set[int]) -> None:
        """Take in a cell: what both arms counted in it, and which buckets had the event, by themselves or as
        the first of a call that failed as a whole."""
        state, after = self.state, cell + 1
        state.total = state.total.plus(counted)
        state.recent.add(after, state.total)
        state.non_inferiority.take(state.total)
        if state.betting is not None and state.epoch_betting is not None:
            difference = state.blocks.close(after, state.total)
            if difference is not None:
                state.betting.add(difference)
                state.epoch_betting.add(difference)
        for test in (state.cumulative, state.epoch):
            test.take(self._buckets, hit, calls)
        if not state.failed_by and (state.cumulative.canary_hits or state.epoch.canary_hits):
            proofs = (("cumulative", self.cumulative_proof), ("epoch", self.epoch_proof))
            if by := next((name for name, proof in proofs if proof.proven and proof.large), ""):
                self.fail(cell, by)
        carried = state.epoch_carried + state.total.since(state.epoch_base).canary_requests
        if (after - self._first_cell) % self.event.epoch_cells == 0 and carried >= EPOCH_REQUESTS:
            self._begin_epoch()

    def fail(self, cell: int, by: str) -> None:
        """FAIL is said in that cell, unless it was before: it stays until the share changes."""
        if not self.state.failed_by:
            self.state.failed_cell, self.state.failed_by = cell, by

    def look_for_pass(self, groups: EventGroups, *, never_passes: bool) -> None:
        """Say whether it passes, now that counts by group are there. `never_passes`: whatever they say."""
        test, criteria = self.state.non_inferiority, self.criteria
        effect = max(non_inferiority.design_effects(groups))
        self.state.passed = (
            test.ln_l >= effect * criteria.ln_pass
            and self.requests_enough
            and self.keys_enough(groups)
            and not never_passes
        )

    @property
    def requests_enough(self) -> bool:
        """Whether the canary's are enough to pass, or to fail."""
        return self.state.total.canary_requests >= self.criteria.min_requests

    def keys_enough(self, groups: EventGroups) -> bool:
        """Whether the canary's effective keys are enough to pass."""
        return non_inferiority.effective_keys(groups.requests[1]) >= self.criteria.min_keys

    @property
    def cumulative_proof(self) -> Proof:
        """Of the process from the start."""
        state = self.state
        return self._proof(state.cumulative, state.betting, self.level, state.total)

    @property
    def epoch_proof(self) -> Proof:
        """Of the epoch under way."""
        state = self.state
        level = fault_test.epoch_level(self._alpha, state.epoch_number)
        since = state.total.since(state.epoch_base)
        return self._proof(state.epoch, state.epoch_betting, level, since)

    def _proof(
        self, hits: FirstHitTest, betting: BettingTest | None, level: float, counts: ArmTotals
    ) -> Proof:
        ln_e = hits.ln_e
        proven = ln_e >= level and (betting is None or betting.ln_e >= level)
        large = hits.canary_hits >= self.criteria.min_hit_keys and (
            self._is_large(counts) or self._is_large(self.state.recent.totals())
        )
        return Proof(ln_e, level, proven, large)

    def _is_large(self, counts: ArmTotals) -> bool:
        difference = counts.difference
        enough = counts.canary_requests >= self.criteria.min_requests
        return enough and difference is not None and difference >= self.limit - _ROUNDING

    def _begin_epoch(self) -> None:
        # E is not multiplied over epochs: they see the same users again. Each has its own part of alpha
        # instead.
        state = self.state
        state.epoch_number += 1
        state.epoch_carried = 0
        state.epoch_base = state.total
        state.epoch.restart(self._buckets)
        if state.epoch_betting is not None:
            state.epoch_betting = BettingTest()


def production_failing(rate: RateEvidence) -> bool:
    """Whether production's own fault rate is so high that nothing passes."""
    total = rate.state.total
    return total.production_requests > 0 and total.production_rate >= rate.criteria.most_production_faults


def build_fault_check(
    rate: RateEvidence, groups: EventGroups, seen: SampleRatioTest, excused: int
) -> RateCheck:
    """The fault check. Nothing passes while production itself fails too often."""
    failing = production_failing(rate)
    check = partial(RateCheck, excused=excused, production_failing=failing)
    return _build_check(check, rate, groups, seen, never_passes=failing)


Durations = tuple[Sequence[int], Sequence[int]]
"""Production's and the canary's answers of this step, by bin of `durations`."""


def build_latency_check(
    rate: RateEvidence, groups: EventGroups, seen: SampleRatioTest, line: float | None, durations: Durations
) -> LatencyCheck:
    """The latency check. A slow production does not keep an equally slow canary from passing, unless a slower
    one would look the same."""
    unmeasured = why_unmeasured(rate, durations)
    check = partial(
        LatencyCheck,
        excused=0,
        production_failing=False,
        edge_seconds=line,
        quantiles_seconds=QuantilesOfArms(*map(quantiles, durations)),
        quantiles_over_last_edge=QuantilesOfArms(*map(quantiles_over, durations)),
        unmeasured=unmeasured,
    )
    return _build_check(check, rate, groups, seen, never_passes=bool(unmeasured))


def why_unmeasured(rate: RateEvidence, durations: Durations) -> Unmeasured:
    """Why a slower canary would look like this one; empty where it would not."""
    if any(is_over(counts, _NEARLY_ALL) for counts in durations):
        return "over_last_edge"
    return "all_slow" if rate.state.total.production_rate + rate.limit >= 1.0 else ""


C = TypeVar("C", bound=RateCheck)


def _build_check(
    check: Callable[..., C],
    rate: RateEvidence,
    groups: EventGroups,
    seen: SampleRatioTest,
    *,
    never_passes: bool,
) -> C:
    state, criteria = rate.state, rate.criteria
    total, test, hits = state.total, state.non_inferiority, state.cumulative
    effects = non_inferiority.design_effects(groups)
    passes, failed = state.passed and not never_passes, bool(state.failed_by)
    still = 0.0 if passes else _requests_to_pass(rate, max(effects), seen.share_of_buckets)
    # Where more requests alone do not help, no number of them is shown.
    shown = still if passes or (still and not failed and not never_passes) else None
    seconds = state.recent.seconds()
    per_second = state.recent.totals().canary_requests / seconds if seconds else 0.0
    share = hits.share
    to_show = fault_test.requests_to_show(rate.event.shown_rise, total.production_rate, share, rate.level)
    keys = fault_test.keys_to_prove(round(share, 4), rate.level) if 0.0 < share < 1.0 else None
    return check(
        check=rate.event.check,
        judges=True,
        verdict=Verdict.FAIL if failed else Verdict.PASS if passes else Verdict.NOT_ENOUGH_DATA,
        alpha=criteria.alpha,
        limit=rate.limit,
        margin=test.margin,
        production=_arm(total[:2], seen.hits - seen.canary_hits, hits.hits - hits.canary_hits),
        canary=_arm(total[2:], seen.canary_hits, hits.canary_hits),
        difference=total.difference,
        interval=non_inferiority.rate_difference(total[:2], total[2:], effects),
        cumulative=rate.cumulative_proof,
        epoch=rate.epoch_proof,
        epoch_number=state.epoch_number,
        failed_at=None if state.failed_cell is None else float((state.failed_cell + 1) * CELL_SECONDS),
        failed_by=state.failed_by,
        ln_l=test.ln_l,
        requests_enough=rate.requests_enough,
        keys_enough=rate.keys_enough(groups),
        will_not_pass=not failed and still is None and total.difference is not None,
        hit_keys_needed=0 if keys is None else max(criteria.min_hit_keys, keys),
        requests_needed=None if shown is None else total.canary_requests + round(shown),
        seconds_needed=_seconds(shown, per_second),
        fail_seconds=None if failed else _seconds_to_fail(rate, per_second),
        seconds_to_show_point=_seconds(to_show, per_second),
    )


def _arm(counted: tuple[int, ...], keys: int, hit_keys: int) -> ArmRate:
    requests, events = counted
    return ArmRate(requests, events, events / requests if requests else None, keys, hit_keys)


def _seconds(requests: float | None, per_second: float) -> float | None:
    if requests == 0.0:
        return 0.0
    return None if requests is None or per_second <= 0.0 else requests / per_second


def _requests_to_pass(rate: RateEvidence, effect: float, share: float) -> float | None:
    """Canary requests until PASS; None if at the rates seen it moves away, or an arm owns no bucket."""
    total, test, criteria = rate.state.total, rate.state.non_inferiority, rate.criteria
    if not 0.0 < share < 1.0:
        return None
    weight = (1.0 - share) / share
    if total.production_requests and total.canary_requests >= criteria.min_requests:
        weight = total.production_requests / total.canary_requests
        canary_rate = total.canary_events / total.canary_requests
        rates = total.production_rate, canary_rate
        if non_inferiority.observed_gain(test.rate, test.margin, weight, *rates) <= 0.0:
            return None
    needed = non_inferiority.requests_to_pass(
        test.ln_l, effect, test.rate, test.margin, weight, criteria.ln_pass
    )
    return max(needed, float(criteria.min_requests - total.canary_requests))


def _seconds_to_fail(rate: RateEvidence, per_second: float) -> float | None:
    state = rate.state
    hits, total = state.cumulative, state.total
    events = fault_test.events_to_fail(hits.ln_e, rate.level, hits.share, hits.hits, hits.canary_hits)
    if events is None or not total.canary_requests or per_second <= 0.0 or not total.events:
        return None
    # Newly hit keys come with the canary's requests, as they did so far in this step.
    by_keys = events / (total.events / total.canary_requests * per_second)
    if state.betting is None:
        return by_keys
    now = state.recent.snapshots[-1][0]
    by_blocks = seconds_to_reach(rate.level, state.betting, state.blocks, now, total, per_second)
    return None if by_blocks is None else max(by_keys, by_blocks)


# Scores, and the split


def build_score_check(scores: ScoreHistograms | None, groups: GroupCounts, criteria: Criteria) -> ScoreCheck:
    """Whether scores moved; None where no output is counted alike."""
    if scores is None:
        return ScoreCheck("scores", Verdict.NOT_ENOUGH_DATA, judges=False, alpha=criteria.alpha, outputs=())
    output = scores.shift(groups)
    judges = criteria.on_shift == "fail"
    return ScoreCheck("scores", _score_verdict(output), judges, criteria.alpha, (output,))


def _score_verdict(output: OutputShift) -> Verdict:
    beyond = None if output.psi is None or output.noise is None else output.psi - output.noise
    if output.proven and beyond is not None and beyond >= LARGE_FROM:
        return Verdict.FAIL
    if (
        not (output.uncounted or output.saturated)
        and output.ks_at_most is not None
        and output.ks_bound is not None
        and output.ks_at_most + output.ks_bound <= EQUAL_ENOUGH
    ):
        return Verdict.PASS
    return Verdict.NOT_ENOUGH_DATA


def build_split_check(buckets: BucketFlags, seen: SampleRatioTest) -> SplitCheck:
    """Whether the canary gets its keys."""
    expected = seen.share_of_buckets
    enough = Verdict.PASS if seen.enough(expected) else Verdict.NOT_ENOUGH_DATA
    return SplitCheck(
        check="split",
        verdict=Verdict.FAIL if seen.alarmed else enough,
        judges=False,
        expected_share=expected,
        observed_share=seen.observed,
        pair_share=(len(buckets.canary) + len(buckets.production)) / BUCKETS,
    )
