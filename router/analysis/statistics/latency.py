"""What is slow, and the second proof that slowness needs.

One edge turns a histogram of durations into a yes or no, so that slow answers are judged as faults are. But
the stall of a worker hits many keys of one arm at once and breaks the coin toss, so latency also needs a
proof by blocks of time: a bet on the difference of slow shares (Waudby-Smith & Ramdas, JRSS B 2024).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.analysis.statistics.counts import ArmTotals
from router.analysis.statistics.fault_test import log_mean_exp
from router.core.latency_buckets import REQUEST_SECONDS

FIRST_REQUESTS = 200
"""Answers of production from which the edge is learned: its last hour's, or its first, then not judged."""
SLOW_QUANTILE = 0.95
BLOCK_SECONDS, BLOCK_REQUESTS = 30.0, 20
STAKES = (0.25, 0.5, 0.75, 0.95)
"""λ: parts of the capital that are bet on each block."""
CLIP = 0.25
MOST_BLOCKS = 1000
"""Beyond so many no time until a FAIL is given: eight hours or more."""
_SHOWN = (0.5, 0.95, 0.99)
T = TypeVar("T")


class SlowThreshold:
    """The duration above which an answer is slow: given, or learned from production's first 200 answers."""

    __slots__ = ("durations", "seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        """Seconds; None until it is known, then fixed."""
        self.durations = [0] * (len(REQUEST_SECONDS) + 1)
        """Production's answers by `REQUEST_SECONDS`, and those beyond the last edge; it only grows."""

    def add(self, seconds: float) -> None:
        """One answer of production took `seconds`."""
        self.durations[bisect_left(REQUEST_SECONDS, seconds)] += 1
        if self.seconds is None and sum(self.durations) == FIRST_REQUESTS:
            self.seconds = edge_at(self.durations, SLOW_QUANTILE)


def edge_at(counts: Sequence[int], quantile: float) -> float:
    """The lowest edge of `REQUEST_SECONDS` that `quantile` of `counts` did not exceed, else the last."""
    wanted, seen = quantile * sum(counts), 0
    for edge, count in zip(REQUEST_SECONDS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return edge
    return REQUEST_SECONDS[-1]


class TimeBlocks:
    """Cuts time into blocks of at least 30 s and 20 canary requests."""

    __slots__ = ("_closed", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._closed = ArmTotals()

    def close(self, now: float, total: ArmTotals) -> float | None:
        """Slow share of the canary − production's in the block that ends `now`; None while it goes on."""
        block = total.since(self._closed)
        if now - self._since < BLOCK_SECONDS or block.canary_requests < BLOCK_REQUESTS:
            return None
        if block.difference is not None:  # else production had no request, and the block goes on
            self._since, self._closed = now, total
        return block.difference

    def seconds_left(self, now: float, total: ArmTotals, canary_per_second: float) -> float:
        """Until the block under way can be closed, at least 0; infinite without canary requests."""
        lacking = BLOCK_REQUESTS - total.since(self._closed).canary_requests
        return max(0.0, BLOCK_SECONDS - (now - self._since), _seconds_for(lacking, canary_per_second))


def block_seconds(canary_per_second: float) -> float:
    """How long a whole block takes; infinite without canary requests."""
    return max(BLOCK_SECONDS, _seconds_for(BLOCK_REQUESTS, canary_per_second))


def _seconds_for(requests: int, per_second: float) -> float:
    if requests <= 0:
        return 0.0
    return requests / per_second if per_second > 0.0 else math.inf


class BettingTest:
    """ln E of betting on blocks in which the canary is slower: mean over λ of Π (1 + λ·clip(D, ±¼)/¼).

    A supermartingale when a block's expected difference, given the past, is at most 0 and D within ±¼.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums = [0.0] * len(STAKES)

    def add(self, difference: float) -> None:
        """One block; `difference` −1 to 1 is clipped to ±0.25."""
        self._sums = self._after(difference, 1)

    @property
    def ln_e(self) -> float:
        """Natural logarithm of E; 0 before the first block."""
        return log_mean_exp(self._sums)

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
            each + blocks * math.log1p(stake * clipped)
            for each, stake in zip(self._sums, STAKES, strict=True)
        ]


def seconds_to_reach(
    level: float, betting: BettingTest, blocks: TimeBlocks, now: float, total: ArmTotals, per_second: float
) -> float | None:
    """Until the proof by blocks reaches `level`, if the difference and rate of requests so far stay.

    `per_second`: requests of the canary.

    None when it would take too long, or the canary has no requests.
    """
    difference = total.difference
    if difference is None:
        return None
    needed = betting.blocks_until(level, difference)
    if not needed:
        return needed
    seconds = blocks.seconds_left(now, total, per_second) + (needed - 1) * block_seconds(per_second)
    return seconds if math.isfinite(seconds) else None


def is_over(counts: Sequence[int], share: float) -> bool:
    """Whether that value lies beyond the last edge; the last of `counts` is what does. False for nothing."""
    return sum(counts[:-1]) < share * sum(counts)


def quantile(edges: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value that `share` (0 to 1) of what was counted does not exceed; None for nothing.

    Linear within a bin. `edges`: one more than bins, ascending. `counts` may have one more: beyond the last
    edge, reported as that edge, which is then no measurement: `is_over` says so.
    """
    wanted, seen = share * sum(counts), 0
    if not any(counts):
        return None
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count and seen + count >= wanted:
            return low + (high - low) * max(0.0, wanted - seen) / count
        seen += count
    return edges[-1]


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
    """Of durations counted by `REQUEST_SECONDS`, with one number more."""
    return Quantiles(*(quantile((0.0, *REQUEST_SECONDS), counts, share) for share in _SHOWN))


def quantiles_over(counts: Sequence[int]) -> Quantiles[bool]:
    """Which of them lie beyond the last edge."""
    return Quantiles(*(is_over(counts, share) for share in _SHOWN))
