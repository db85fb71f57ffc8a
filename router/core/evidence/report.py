"""What the evidence says at one instant: frozen values, named as the comparison shown to people names them.

Rates, shares and differences are 0 to 1 (differences −1 to 1), times are seconds, None is unknown, NaN never.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from router.core.evidence.interval import Interval
from router.core.evidence.shift import Size

T = TypeVar("T")
Unmeasured = Literal["", "over_last_edge", "all_slow"]
"""Nothing; an arm's 95th percentile is beyond the last edge of the durations, where all are counted alike;
production's answers are so nearly all slow that a canary with the margin more of them cannot exist."""


class Verdict(StrEnum):
    """The three answers. No traffic, few keys or few requests are always the third."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"


def worst(verdicts: list[Verdict]) -> Verdict:
    """Any FAIL is FAIL; else any NOT ENOUGH DATA is that; else PASS. None at all is NOT ENOUGH DATA."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if set(verdicts) == {Verdict.PASS} else Verdict.NOT_ENOUGH_DATA


@dataclass(frozen=True, slots=True)
class ArmRate:
    """One arm of a check in this step."""

    requests: int
    events: int
    """Requests that faulted, or were slow."""
    rate: float | None
    keys: int
    """Different buckets seen; at most as many as keys."""
    effective_keys: float
    """As many keys as would ask equally often (Kish)."""
    hit_keys: int
    """Different buckets with the event, in all of this rollout; a crash that hit many keys is one."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One of the two processes that can say FAIL."""

    ln_e: float
    level: float
    """ln(1/α) that `ln_e` must reach."""
    ln_e_blocks: float | None
    """The second proof by blocks of time, which only latency needs."""
    proven: bool
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
    limit: float
    """Rise from which on a proven rise fails."""
    margin: float
    """δ: rise that PASS excludes; it shrinks as the next step grows."""
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
    """Evidence that the canary is no worse; PASS needs `effect` times `ln_pass`."""
    ln_pass: float
    effect: float
    """Design effect of requests that are not independent, at least 1."""
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
    requests_to_show_point: float | None
    """Canary requests in which one percentage point more (five for latency) would be proven, were it
    there."""
    seconds_to_show_point: float | None


@dataclass(frozen=True, slots=True)
class Quantiles(Generic[T]):
    """Durations of answers that are no faults, in this step; linear within a bin, None without answers."""

    p50: T
    p95: T
    p99: T


@dataclass(frozen=True, slots=True)
class QuantilesOfArms(Generic[T]):
    """Shown, never judged."""

    production: Quantiles[T]
    canary: Quantiles[T]


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


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Scores of one arm in this step."""

    scores: int
    """All requests with a score."""
    keys: int
    """Buckets with a score: what is compared."""
    mean: float | None
    p50: float | None
    p95: float | None
    invalid: int
    """Answers without fault whose score is no finite number or not on the list."""


@dataclass(frozen=True, slots=True)
class OutputShift:
    """The counted output. PSI and its noise are None below 50 keys per arm."""

    kind: str
    """score or class."""
    uncounted: str
    """production or canary: the one arm most of whose answers hold no score; empty for none or both."""
    psi: float | None
    noise: float | None
    line: float | None
    """99.9 % of equal versions stay below it."""
    size: Size | None
    ks: float | None
    """Distance at the last look of this step (total variation for classes)."""
    ks_bound: float | None
    proven: bool
    production: ArmScores
    canary: ArmScores
    mean_difference: float | None
    mean_interval: Interval | None


@dataclass(frozen=True, slots=True)
class ScoreCheck:
    """Whether scores moved; judges only where the operator said so."""

    check: str
    verdict: Verdict
    judges: bool
    outputs: tuple[OutputShift, ...]


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
    ln_e: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, at one instant."""

    verdict: Verdict
    """The worst of the checks that judge; no PASS while only one arm's answers mostly hold no score."""
    share: float
    """Canary's share of all buckets."""
    seconds: float
    """Since the evidence began."""
    step_seconds: float
    """Since the share last changed; PASS and all counts are of this step."""
    faults: RateCheck
    latency: LatencyCheck
    scores: ScoreCheck | None
    split: SplitCheck
    left_out: int
    """Requests whose bucket is not of the arm that had them: under way when the share changed."""

    @property
    def checks(self) -> tuple[RateCheck | LatencyCheck | ScoreCheck | SplitCheck, ...]:
        """In the order in which they are shown."""
        scores = (self.scores,) if self.scores else ()
        return (self.faults, self.latency, *scores, self.split)
