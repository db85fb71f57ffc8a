"""The check of cost: whether a version takes more processor time than production, at production's predicts.

It reports, and judges only where the operator said by how much a canary may be dearer. It is of this
gateway's own workers: no other gateway's are in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.analysis.statistics.cost_ratio import CostComparison, CostOfVersion, Interval, compare_costs
from router.analysis.statistics.durations import quantile
from router.core.verdict import Verdict

SAID_FROM = 0.2
"""A change whose interval lies beyond it is said, and no smaller one may fail a canary: where the speed of a
machine follows its load, a canary that predicts little at once looks some percent dearer than it is."""


@dataclass(frozen=True, slots=True)
class CostArm:
    """What predicts of one version cost."""

    cost: CostOfVersion
    predict_seconds_p50: float | None
    """Of a predict as they came, by the clock on the wall; None without any. It is not compared."""
    predict_seconds_p95: float | None
    processors: float | None
    """Which all of the present traffic would keep busy in predicts of this version; None while unknown."""
    peak_memory_bytes: int | None
    """The most that one of its workers was seen to hold, as proportional set size; None while unknown."""


@dataclass(frozen=True, slots=True)
class CostCheck:
    """Processor time of predicts. GPU time and child processes of a version are not measured."""

    check: str
    verdict: Verdict
    judges: bool
    limit: float
    """Rise beyond which it fails, where it judges; else that from which on it is said."""
    rows: float
    """Of production's predicts, in the mean: at these both are compared."""
    production: CostArm
    canary: CostArm
    ratio: float | None
    interval: Interval | None
    """95 % of the ratio."""
    failed: Interval | None = None
    """That of the ratio with which it failed first, where it judges; None: it has not."""

    def after(self, former: "CostCheck") -> "CostCheck":
        """The same, and FAIL where `former`, of the same run, was: an interval that touches the limit now and
        then takes nothing back of what was beyond doubt."""
        now = self.interval if self.judges and self.verdict is Verdict.FAIL else None
        if (failed := former.failed or now) is None:
            return self
        return replace(self, verdict=Verdict.FAIL, failed=failed)

    @property
    def change(self) -> str:
        """`dearer` or `cheaper` where that is beyond doubt, by more than 20 %; else empty."""
        if self.interval is None:
            return ""
        if self.interval.low > 1.0 + SAID_FROM:
            return "dearer"
        return "cheaper" if self.interval.high < 1.0 - SAID_FROM else ""


def build_cost_check(
    comparison: CostComparison, production: CostArm, canary: CostArm, max_increase: float | None
) -> CostCheck:
    """`max_increase`: as the operator set it; None where cost is only reported."""
    limit = SAID_FROM if max_increase is None else max_increase
    return CostCheck(
        check="cost",
        verdict=_verdict(comparison.interval, 1.0 + limit),
        judges=max_increase is not None,
        limit=limit,
        rows=comparison.rows,
        production=production,
        canary=canary,
        ratio=comparison.ratio,
        interval=comparison.interval,
    )


def unknown_cost(max_increase: float | None) -> CostCheck:
    """Before anything is known."""
    nothing = compare_costs(())
    production, canary = (cost_arm(cost, (), None, None) for cost in (nothing.production, nothing.canary))
    return build_cost_check(nothing, production, canary, max_increase)


def cost_arm(
    cost: CostOfVersion, durations: Sequence[int], predicts_per_second: float | None, peak: int | None
) -> CostArm:
    """`durations`: its predicts by bin. `predicts_per_second`: of all traffic, if it came as production's."""
    known = predicts_per_second is not None and cost.seconds > 0.0
    return CostArm(
        cost,
        quantile(durations, 0.5),
        quantile(durations, 0.95),
        cost.seconds * predicts_per_second if known and predicts_per_second is not None else None,
        peak,
    )


def _verdict(interval: Interval | None, most: float) -> Verdict:
    if interval is None:
        return Verdict.NOT_ENOUGH_DATA
    if interval.low > most:
        return Verdict.FAIL
    return Verdict.PASS if interval.high <= most else Verdict.NOT_ENOUGH_DATA
