"""The checks and their verdicts: the only place that decides one. Counts and tests in, frozen checks out.

Rates, shares and differences are 0 to 1 (differences −1 to 1), times are seconds, None is unknown, NaN never.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Literal, TypeVar

from router.analysis.statistics import fault_test, non_inferiority
from router.analysis.statistics.counts import ArmTotals, GroupCounts, RecentTotals
from router.analysis.statistics.drift import EQUAL_ENOUGH, LARGE_FROM, OutputShift, ScoreHistograms
from router.analysis.statistics.fault_test import EPOCH_REQUESTS, BucketFlags, FirstHitTest
from router.analysis.statistics.latency import (
    BettingTest,
    QuantilesOfArms,
    TimeBlocks,
    is_over,
    quantiles,
    quantiles_over,
    seconds_to_reach,
)
from router.analysis.statistics.non_inferiority import Interval, NonInferiorityTest
from router.analysis.statistics.sample_ratio import SampleRatioTest
from router.core.breaker import OutageRule
from router.core.split import BUCKETS

SCORES_BUDGET = 0.25
"""Share of `alpha` that the check of scores may use; with those of the two events it is 1 (union bound)."""
_NEARLY_ALL = 0.95
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class RateEvent:
    """What a check of rates counts."""

    check: str
    bits: tuple[int, int]
    """Of a bucket's byte: those of the process from the start, and of the epochs."""
    budget: float
    """Share of `alpha` that the check may use."""
    epoch_seconds: float
    in_blocks: bool
    """FAIL needs the proof by blocks of time, too."""
    shown_rise: float
    """It is shown when such a rise would be proven, were it there."""


FAULTS = RateEvent(
    "faults", (fault_test.FAULT, fault_test.FAULT_EPOCH), 0.5, 900.0, in_blocks=False, shown_rise=0.01
)
SLOW_ANSWERS = RateEvent(
    "latency", (fault_test.SLOW, fault_test.SLOW_EPOCH), 0.25, 3600.0, in_blocks=True, shown_rise=0.05
)


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a canary is worse, and how sure one must be. `router.analysis.criteria` makes them of what an
    operator may set.

    Raises ValueError for a value out of its range.
    """

    alpha: float = 0.01
    """Chance that any check ever says FAIL of a canary that behaves as production does."""
    wrong_pass: float = 0.05
    """Chance that PASS is said of a canary that is worse by more than the margin."""
    max_increase: float = 0.005
    """Rise of the fault rate from which on a proven rise is a FAIL; also the margin of a PASS."""
    max_slow_increase: float = 0.05
    """The same for the share of slow answers: the slow share may at most double."""
    min_ratio: float = 1.2
    """The line above which an answer is slow: so many times production's 95th percentile at least, and…"""
    min_seconds: float = 0.002
    """…so many seconds above it at least."""
    on_shift: Literal["report", "fail"] = "report"
    """Whether scores that moved are only reported."""
    min_requests: int = 50
    """Requests of the canary below which it neither passes nor fails."""
    min_hit_keys: int = 3
    """Faulty (or slow) keys of the canary below which it does not fail."""
    min_keys: float = 20.0
    """Effective keys of the canary (Kish) below which it does not pass."""
    most_production_faults: float = 0.1
    """Fault rate of production from which on nothing passes."""
    canary_workers: float = 0.5
    """The canary's share of all workers: which arm a worker that dies belongs to is decided by that, not by
    the split."""

    def __post_init__(self) -> None:
        shares = (self.alpha, self.wrong_pass, self.max_increase, self.max_slow_increase)
        if not all(0.0 < share < 1.0 for share in shares):
            raise ValueError("alpha, wrong_pass, max_increase and max_slow_increase lie between 0 and 1")
        if not (self.min_ratio >= 1.0 and self.min_seconds >= 0.0):
            raise ValueError("min_ratio is at least 1, min_seconds at least 0")
        if self.on_shift not in ("report", "fail"):
            raise ValueError("on_shift is report or fail")
        if self.min_requests < 1 or self.min_hit_keys < 1 or not self.min_keys >= 1.0:
            raise ValueError("min_requests, min_hit_keys and min_keys are at least 1")
        if not (0.0 < self.most_production_faults <= 1.0 and 0.0 <= self.canary_workers <= 1.0):
            raise ValueError("most_production_faults and canary_workers lie between 0 and 1")

    @property
    def ln_pass(self) -> float:
        """What ln L must reach for PASS: ln(1 / wrong_pass), 2.995732 by default."""
        return -math.log(self.wrong_pass)


# What is shown of a check

Unmeasured = Literal["", "over_last_edge", "all_slow"]
"""Nothing; an arm's 95th percentile is beyond the last edge of the durations, where all are counted alike;
production's answers are so nearly all slow that a canary with the margin more of them cannot exist."""


class Verdict(StrEnum):
    """The three answers. No traffic, few keys or few requests are always the third."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"


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
class Proof:
    """One of the two processes that can say FAIL."""

    ln_e: float
    level: float
    """ln(1/α) that `ln_e` must reach."""
    proven: bool
    """By keys, and where it is about latency by blocks of time, too."""
    large: bool
    """Whether the rise is at least `limit`, since the process began (in this step) or in the last five
    minutes, with requests and hit keys enough to say so."""


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
    """When FAIL was said in this step; it stays until the share changes."""
    failed_by: str
    """cumulative, epoch or outage; empty unless failed."""
    ln_l: float
    """Evidence that the canary is no worse."""
    requests_enough: bool
    keys_enough: bool
    """Whether the canary's effective keys are enough to pass."""
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
    """Longer than this is slow; None until it is known."""
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


Check = RateCheck | LatencyCheck | ScoreCheck | SplitCheck


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, at one instant."""

    verdict: Verdict
    """The worst of the checks that judge; no PASS while only one arm's answers mostly hold no score."""
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

    @property
    def checks(self) -> tuple[Check, ...]:
        """In the order in which they are shown."""
        return (self.faults, self.latency, self.scores, self.split)


# Verdicts


def overall_verdict(checks: Sequence[Check]) -> Verdict:
    """Of the checks that judge: any FAIL is FAIL; else any NOT ENOUGH DATA is that; else PASS.

    Nothing passes while only one arm's answers mostly hold no score, whether scores judge or not.
    """
    judging = {check.verdict for check in checks if check.judges}
    if Verdict.FAIL in judging:
        return Verdict.FAIL
    uncounted = any(isinstance(check, ScoreCheck) and check.uncounted for check in checks)
    return Verdict.PASS if judging == {Verdict.PASS} and not uncounted else Verdict.NOT_ENOUGH_DATA


def verdict_in_force(report: Report | None, *, broken: bool) -> Verdict:
    """What holds now: nothing is known without a report, and nothing passes beside an open breaker."""
    verdict = Verdict.NOT_ENOUGH_DATA if report is None else report.verdict
    return Verdict.NOT_ENOUGH_DATA if broken and verdict is Verdict.PASS else verdict


# Faults, and slow answers: the state of a check, and what it says


class RateEvidence:
    """What is known of one event. `counts` and everything about PASS and size are of this step only."""

    def __init__(self, event: RateEvent, buckets: BucketFlags, now: float, criteria: Criteria) -> None:
        self.event, self.criteria = event, criteria
        self.limit = criteria.max_increase if event is FAULTS else criteria.max_slow_increase
        self.cumulative, self.epoch = (
            FirstHitTest(buckets, bit, workers=criteria.canary_workers) for bit in event.bits
        )
        self.level = fault_test.cumulative_level(self._alpha)
        self.betting: BettingTest | None = BettingTest() if event.in_blocks else None
        self.epoch_betting: BettingTest | None = BettingTest() if event.in_blocks else None
        self.epoch_number = 1
        self._epoch_since = now
        self._epoch_carried = 0
        self._begin_step(now)

    @property
    def _alpha(self) -> float:
        return self.criteria.alpha * self.event.budget

    def _begin_step(self, now: float) -> None:
        self.counts = GroupCounts()
        self.total = ArmTotals()
        self.recent = RecentTotals(now)
        self.non_inferiority = NonInferiorityTest(self.limit)
        self.failed_at: float | None = None
        self.failed_by = ""
        self.blocks = TimeBlocks(now)
        self._epoch_base = ArmTotals()
        self.outage_rule = OutageRule()
        self._weigh()

    def change_share(self, now: float) -> None:
        """Another step. What proves a FAIL goes on with the buckets' new owners; the rest begins anew."""
        self._epoch_carried += self.total.since(self._epoch_base).canary_requests
        self.cumulative.recount()
        self.epoch.recount()
        self._begin_step(now)

    def look(self, now: float) -> None:
        """Close a block, take in new hits, and say FAIL if both proof and size are there."""
        self.total = self.counts.totals()
        self.recent.add(now, self.total)
        self.non_inferiority.look(self.total)
        if self.betting is not None and self.epoch_betting is not None:
            difference = self.blocks.close(now, self.total)
            if difference is not None:
                self.betting.add(difference)
                self.epoch_betting.add(difference)
        self.cumulative.look()
        self.epoch.look()
        self._weigh()
        if not self.failed_by:
            self.failed_by = self._fails_by()
            self.failed_at = now if self.failed_by else None
        carried = self._epoch_carried + self.total.since(self._epoch_base).canary_requests
        if now - self._epoch_since >= self.event.epoch_seconds and carried >= EPOCH_REQUESTS:
            self._begin_epoch(now)

    def _fails_by(self) -> str:
        if self.outage_rule.broken:
            return "outage"
        proofs = (("cumulative", self.cumulative_proof), ("epoch", self.epoch_proof))
        return next((name for name, proof in proofs if proof.proven and proof.large), "")

    def _weigh(self) -> None:
        self.cumulative_proof = self._proof(self.cumulative, self.betting, self.level, self.total)
        level = fault_test.epoch_level(self._alpha, self.epoch_number)
        since = self.total.since(self._epoch_base)
        self.epoch_proof = self._proof(self.epoch, self.epoch_betting, level, since)

    def _proof(
        self, hits: FirstHitTest, betting: BettingTest | None, level: float, counts: ArmTotals
    ) -> Proof:
        proven = hits.ln_e >= level and (betting is None or betting.ln_e >= level)
        large = hits.canary_hits >= self.criteria.min_hit_keys and (
            self._is_large(counts) or self._is_large(self.recent.totals(self.total))
        )
        return Proof(hits.ln_e, level, proven, large)

    def _is_large(self, counts: ArmTotals) -> bool:
        difference = counts.difference
        enough = counts.canary_requests >= self.criteria.min_requests
        return enough and difference is not None and difference >= self.limit - _ROUNDING

    def _begin_epoch(self, now: float) -> None:
        # E is not multiplied over epochs: they see the same users again. Each has its own part of alpha
        # instead.
        self.epoch_number += 1
        self._epoch_since = now
        self._epoch_carried = 0
        self._epoch_base = self.total
        self.epoch.restart()
        if self.epoch_betting is not None:
            self.epoch_betting = BettingTest()


def build_fault_check(rate: RateEvidence, now: float, seen: SampleRatioTest, excused: int) -> RateCheck:
    """The fault check. Nothing passes while production itself fails too often."""
    total = rate.total
    failing = total.production_requests > 0 and total.production_rate >= rate.criteria.most_production_faults
    check = partial(RateCheck, excused=excused, production_failing=failing)
    return _build_check(check, rate, now, seen, never_passes=failing)


def build_latency_check(
    rate: RateEvidence,
    now: float,
    seen: SampleRatioTest,
    edge: float | None,
    durations: tuple[Sequence[int], Sequence[int]],
) -> LatencyCheck:
    """The latency check. A slow production does not keep an equally slow canary from passing, unless a slower
    one would look the same.

    `durations`: production's and the canary's answers of this step, by `REQUEST_SECONDS`.
    """
    unmeasured = _unmeasured(rate, durations)
    check = partial(
        LatencyCheck,
        excused=0,
        production_failing=False,
        edge_seconds=edge,
        quantiles_seconds=QuantilesOfArms(*map(quantiles, durations)),
        quantiles_over_last_edge=QuantilesOfArms(*map(quantiles_over, durations)),
        unmeasured=unmeasured,
    )
    return _build_check(check, rate, now, seen, never_passes=bool(unmeasured))


def _unmeasured(rate: RateEvidence, durations: tuple[Sequence[int], Sequence[int]]) -> Unmeasured:
    if any(is_over(counts, _NEARLY_ALL) for counts in durations):
        return "over_last_edge"
    return "all_slow" if rate.total.production_rate + rate.non_inferiority.margin >= 1.0 else ""


C = TypeVar("C", bound=RateCheck)


def _build_check(
    check: Callable[..., C],
    rate: RateEvidence,
    now: float,
    seen: SampleRatioTest,
    *,
    never_passes: bool,
) -> C:
    total, criteria, test = rate.total, rate.criteria, rate.non_inferiority
    effects = non_inferiority.design_effects(rate.counts)
    effect = max(effects)
    requests_enough = total.canary_requests >= criteria.min_requests
    keys_enough = non_inferiority.effective_keys(rate.counts.requests[1]) >= criteria.min_keys
    passes = test.ln_l >= effect * criteria.ln_pass and requests_enough and keys_enough and not never_passes
    failed = bool(rate.failed_by)
    still = 0.0 if passes else _requests_to_pass(rate, effect, seen.share_of_buckets)
    # Where more requests alone do not help, no number of them is shown.
    shown = still if passes or (still and not failed and not never_passes) else None
    seconds = rate.recent.seconds(now)
    per_second = rate.recent.totals(total).canary_requests / seconds if seconds > 0.0 else 0.0
    share = rate.cumulative.share
    to_show = fault_test.requests_to_show(rate.event.shown_rise, total.production_rate, share, rate.level)
    keys = fault_test.keys_to_prove(round(share, 4), rate.level) if 0.0 < share < 1.0 else None
    hits = rate.cumulative
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
        epoch_number=rate.epoch_number,
        failed_at=rate.failed_at,
        failed_by=rate.failed_by,
        ln_l=test.ln_l,
        requests_enough=requests_enough,
        keys_enough=keys_enough,
        will_not_pass=not failed and still is None and total.difference is not None,
        hit_keys_needed=0 if keys is None else max(criteria.min_hit_keys, keys),
        requests_needed=None if shown is None else total.canary_requests + round(shown),
        seconds_needed=_seconds(shown, per_second),
        fail_seconds=None if failed else _seconds_to_fail(rate, now, per_second),
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
    total, test, criteria = rate.total, rate.non_inferiority, rate.criteria
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


def _seconds_to_fail(rate: RateEvidence, now: float, per_second: float) -> float | None:
    hits, requests = rate.cumulative, rate.total.canary_requests
    events = fault_test.events_to_fail(hits.ln_e, rate.level, hits.share, hits.hits, hits.canary_hits)
    if events is None or not requests or per_second <= 0.0 or not rate.total.events:
        return None
    # Newly hit keys come with the canary's requests, as they did so far in this step.
    by_keys = events / (rate.total.events / requests * per_second)
    if rate.betting is None:
        return by_keys
    by_blocks = seconds_to_reach(rate.level, rate.betting, rate.blocks, now, rate.total, per_second)
    return None if by_blocks is None else max(by_keys, by_blocks)


# Scores, and the split


def build_score_check(scores: ScoreHistograms | None, criteria: Criteria) -> ScoreCheck:
    """Whether scores moved; None where no output is counted alike."""
    if scores is None:
        return ScoreCheck("scores", Verdict.NOT_ENOUGH_DATA, judges=False, alpha=criteria.alpha, outputs=())
    output = scores.shift()
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
