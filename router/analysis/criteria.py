"""When a canary is worse, and how sure one must be; and what the two checks of rates count."""

import math
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, UnsetType

from router.analysis.statistics import fault_test

SCORES_BUDGET = 0.25
"""Share of `alpha` that the check of scores may use; with those of the two events it is 1 (union bound)."""
PAIRED_BUDGET = 0.25
"""Share of `alpha` that the check of shadow requests may use where there are any. The check of faults has so
much less then: both ask whether a canary fails more."""


@dataclass(frozen=True, slots=True)
class RateEvent:
    """What a check of rates counts."""

    check: str
    bits: tuple[int, int]
    """Of a bucket's byte: those of the process from the start, and of the epochs."""
    budget: float
    """Share of `alpha` that the check may use; see `Criteria.budget_of`."""
    epoch_cells: int
    """Its epochs end at multiples of so many cells since the run began."""
    in_blocks: bool
    """FAIL needs the proof by blocks of time, too."""
    shown_rise: float
    """It is shown when such a rise would be proven, were it there."""


FAULTS = RateEvent(
    "faults", (fault_test.FAULT, fault_test.FAULT_EPOCH), 0.5, 180, in_blocks=False, shown_rise=0.01
)
SLOW_ANSWERS = RateEvent(
    "latency", (fault_test.SLOW, fault_test.SLOW_EPOCH), 0.25, 720, in_blocks=True, shown_rise=0.05
)


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a canary is worse, and how sure one must be. Others are another run, with evidence of its own.

    Raises ValueError for a value out of its range.
    """

    alpha: float = 0.01
    """Chance that any check ever says FAIL of a canary that behaves as production does."""
    wrong_pass: float = 0.05
    """Chance that PASS is said of a canary that is worse by more than the margin."""
    max_increase: float = 0.005
    """Rise of the fault rate from which on a proven rise is a FAIL; also the margin of a PASS."""
    max_slow_increase: float = 0.05
    """The same for the share of slow answers."""
    min_ratio: float = 1.2
    """An answer is slow that takes so many times as long as production's 95th percentile, at least 1, …"""
    min_seconds: float = 0.002
    """… and so much longer than it, at least 0."""
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
    max_cost_increase: float | UnsetType = UNSET
    """Rise of what a predict takes of a processor from which on a canary fails, 0.5 for half as much again.
    Unset, which cost is by default, it is not in the key of a run either."""
    shadow: bool | UnsetType = UNSET
    """True where copies of production's requests go to the canary. Unset else, and then not in the key of a
    run."""

    def __post_init__(self) -> None:
        shares = (self.alpha, self.wrong_pass, self.max_increase, self.max_slow_increase)
        if not all(0.0 < share < 1.0 for share in shares):
            raise ValueError("alpha, wrong_pass, max_increase and max_slow_increase lie between 0 and 1")
        if not (1.0 <= self.min_ratio < math.inf and 0.0 <= self.min_seconds < math.inf):
            raise ValueError("min_ratio is at least 1 and min_seconds at least 0, both finite")
        if self.max_cost_increase is not UNSET and not 0.0 < self.max_cost_increase < math.inf:
            raise ValueError("max_cost_increase lies above 0, and is finite")
        if self.on_shift not in ("report", "fail"):
            raise ValueError("on_shift is report or fail")
        if self.min_requests < 1 or self.min_hit_keys < 1 or not self.min_keys >= 1.0:
            raise ValueError("min_requests, min_hit_keys and min_keys are at least 1")
        if not (0.0 < self.most_production_faults <= 1.0 and 0.0 <= self.canary_workers <= 1.0):
            raise ValueError("most_production_faults and canary_workers lie between 0 and 1")

    @property
    def cost_limit(self) -> float | None:
        """`max_cost_increase`; None where cost judges nothing."""
        return None if self.max_cost_increase is UNSET else self.max_cost_increase

    @property
    def pairs(self) -> bool:
        """Whether the answers to shadow requests are evidence."""
        return self.shadow is True

    def budget_of(self, event: RateEvent) -> float:
        """Share of `alpha` that its check may use."""
        return event.budget - PAIRED_BUDGET if event is FAULTS and self.pairs else event.budget

    @property
    def ln_pass(self) -> float:
        """What ln L must reach for PASS: ln(1 / wrong_pass), 2.995732 by default."""
        return -math.log(self.wrong_pass)
