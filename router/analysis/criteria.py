"""By what verdicts are decided, and the defaults. Of these, operators set `on_shift` only."""

import math
from dataclasses import dataclass
from typing import Literal

FAULTS_BUDGET, LATENCY_BUDGET, SCORES_BUDGET = 0.5, 0.25, 0.25
"""Shares of `alpha` that the three checks may use; they sum to 1 (union bound)."""
ADDED_BY_NEXT_STEP = 0.0025
"""The next step may add faults to at most this share of *all* requests, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a canary is worse, and how sure one must be. Rates and shares are 0 to 1.

    Raises ValueError for a value out of its range.
    """

    alpha: float = 0.01
    """Chance that any check ever says FAIL of a canary that behaves as production does."""
    wrong_pass: float = 0.05
    """Chance that PASS is said of a canary that is worse by more than the margin."""
    max_increase: float = 0.005
    """Rise of the fault rate from which on a proven rise is a FAIL; also the smallest margin of a PASS."""
    max_slow_increase: float = 0.05
    """The same for the share of slow answers: the slow share may at most double."""
    next_share: float | None = None
    """Share of the canary at the next step, which widens the margin of a PASS; None for the narrowest."""
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
    """The canary's share of all workers: who shares a worker that dies is decided by that, not by the
    split."""

    def __post_init__(self) -> None:
        shares = (self.alpha, self.wrong_pass, self.max_increase, self.max_slow_increase)
        if not all(0.0 < share < 1.0 for share in shares):
            raise ValueError("alpha, wrong_pass, max_increase and max_slow_increase lie between 0 and 1")
        if self.next_share is not None and not 0.0 < self.next_share <= 1.0:
            raise ValueError("next_share lies above 0, and is at most 1")
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

    def margin(self, next_share: float | None) -> float:
        """δ of the fault check before a step to `next_share`: max(max_increase, 0.25 points / next share)."""
        if next_share is None:
            return self.max_increase
        # Half at most: beyond that nothing would be non-inferior, it would be no test.
        return max(self.max_increase, min(0.5, ADDED_BY_NEXT_STEP / next_share))
