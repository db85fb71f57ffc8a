"""What is slow, and the second proof that slowness needs.

One line turns durations into a yes or no, so that slow answers are judged as faults are. But the stall of a
worker hits many keys of one arm at once and breaks the coin toss, so latency also needs a proof by blocks of
time: a bet on the difference of slow shares (Waudby-Smith & Ramdas, JRSS B 2024).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import Struct, field

from router.analysis.statistics.counts import ArmTotals
from router.analysis.statistics.durations import is_over, quantile
from router.analysis.statistics.fault_test import log_mean_exp
from router.analysis.statistics.records import CELL_SECONDS

FIRST_REQUESTS = 200
"""Answers of production from which the line is learned: its last hour's, or its first, then not judged."""
SLOW_QUANTILE = 0.95
BLOCK_CELLS, BLOCK_REQUESTS = 6, 20
"""At least so much is a block: half a minute, and requests of the canary."""
BLOCK_SECONDS = BLOCK_CELLS * CELL_SECONDS
STAKES = (0.25, 0.5, 0.75, 0.95)
"""λ: parts of the capital that are bet on each block."""
CLIP = 0.25
MOST_BLOCKS = 1000
"""Beyond so many no time until a FAIL is given: eight hours or more."""
_SHOWN = (0.5, 0.95, 0.99)
T = TypeVar("T")


def slow_line(durations: Sequence[int], min_ratio: float, min_seconds: float) -> float | None:
    """Seconds above which an answer is slow, from production's `durations`; None for fewer than 200.

    Above its 95th percentile by the factor `min_ratio` and by `min_seconds`, so that what is slow is a
    difference that matters. Only sums, products and quotients: it is the same at every gateway.
    """
    if sum(durations) < FIRST_REQUESTS:
        return None
    slowest = quantile(durations, SLOW_QUANTILE)
    return None if slowest is None else max(min_ratio * slowest, slowest + min_seconds)


class TimeBlocks(Struct, array_like=True):
    """Cuts time into blocks: the fewest cells in a row with at least 30 s and 20 canary requests."""

    begin: int
    """The cell with which the block under way begins."""
    closed: ArmTotals = ArmTotals()

    def close(self, cell: int, total: ArmTotals) -> float | None:
        """Slow share of the canary − production's in the block that ends before `cell`; None while it goes
        on."""
        block = total.since(self.closed)
        if cell - self.begin < BLOCK_CELLS or block.canary_requests < BLOCK_REQUESTS:
            return None
        if block.difference is not None:  # else production had no request, and the block goes on
            self.begin, self.closed = cell, total
        return block.difference

    def seconds_left(self, cell: int, total: ArmTotals, canary_per_second: float) -> float:
        """Until the block under way can be closed, at least 0; infinite without canary requests."""
        lacking = BLOCK_REQUESTS - total.since(self.closed).canary_requests
        left = float((BLOCK_CELLS - (cell - self.begin)) * CELL_SECONDS)
        return max(0.0, left, _seconds_for(lacking, canary_per_second))


def block_seconds(canary_per_second: float) -> float:
    """How long a whole block takes; infinite without canary requests."""
    return max(BLOCK_SECONDS, _seconds_for(BLOCK_REQUESTS, canary_per_second))


def _seconds_for(requests: int, per_second: float) -> float:
    if requests <= 0:
        return 0.0
    return requests / per_second if per_second > 0.0 else math.inf


class BettingTest(Struct, array_like=True):
    """ln E of betting on blocks in which the canary is slower: mean over λ of Π (1 + λ·clip(D, ±¼)/¼).

    A supermartingale when a block's expected difference, given the past, is at most 0 and D within ±¼.
    """

    sums: list[float] = field(default_factory=lambda: [0.0] * len(STAKES))

    def add(self, difference: float) -> None:
        """One block; `difference` −1 to 1 is clipped to ±0.25."""
        self.sums = self._after(difference, 1)

    @property
    def ln_e(self) -> float:
        """Natural logarithm of E; 0 before the first block."""
        return log_mean_exp(self.sums)

    def blocks_until(self, level: float, difference: float) -> int | None:
        """Further blocks of this `difference` until ln E reaches `level`; None where 1 000 are not enough."""
        few, enough = -1, MOST_BLOCKS
        if difference <= 0.0 or log_mean_exp(self._after(difference, enough)) < level:
            return None if self.ln_e < level else 0
        while enough - few > 1:  # ln E only grows with blocks in which the canary is slower
            middle = (few + enough) // 2
            if log_mean_exp(self._after(difference, middle)) >= level:
                enough = middle
            else:
                few = middle
        return enough

    def _after(self, difference: float, blocks: int) -> list[float]:
        clipped = max(-CLIP, min(CLIP, difference)) / CLIP
        return [
            each + blocks * math.log1p(stake * clipped) for each, stake in zip(self.sums, STAKES, strict=True)
        ]


def seconds_to_reach(
    level: float, betting: BettingTest, blocks: TimeBlocks, cell: int, total: ArmTotals, per_second: float
) -> float | None:
    """Until the proof by blocks reaches `level`, if the difference and rate of requests so far stay.

    `cell`: the next one. `per_second`: requests of the canary.

    None when it would take too long, or the canary has no requests.
    """
    difference = total.difference
    if difference is None:
        return None
    needed = betting.blocks_until(level, difference)
    if not needed:
        return needed
    seconds = blocks.seconds_left(cell, total, per_second) + (needed - 1) * block_seconds(per_second)
    return seconds if math.isfinite(seconds) else None


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


def quantiles(counts: Sequence[int]) -> Quantiles[float | None]:
    """Of durations counted by bin of `durations`."""
    return Quantiles(*(quantile(counts, share) for share in _SHOWN))


def quantiles_over(counts: Sequence[int]) -> Quantiles[bool]:
    """Which of them lie beyond the last edge."""
    return Quantiles(*(is_over(counts, share) for share in _SHOWN))
