"""What is slow, and the second proof that slowness needs.

One edge turns a histogram of durations into a yes or no, so that slow answers are judged as faults are. But
the stall of a worker hits many keys of one arm at once and breaks the coin toss, so latency also needs a
proof by blocks of time: a bet on the difference of slow shares (Waudby-Smith & Ramdas, JRSS B 2024).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

from router.core.durations import REQUEST_SECONDS
from router.core.evidence.counts import Tally

FIRST_REQUESTS = 200
"""Requests of production from which the edge is learned; they are not judged."""
BLOCK_SECONDS, BLOCK_REQUESTS = 30.0, 20
STAKES = (0.25, 0.5, 0.75, 0.95)
"""λ: parts of the capital that are bet on each block."""
CLIP = 0.25


class Edge:
    """The edge above which an answer is slow: given, or learned from production's first 200 requests."""

    __slots__ = ("_counts", "_seen", "seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        """Seconds; None until it is known, then fixed."""
        self._counts = [0] * (len(REQUEST_SECONDS) + 1)
        self._seen = 0

    def learn(self, seconds: float) -> None:
        """One answer of production took `seconds`."""
        self._counts[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self._seen += 1
        if self._seen == FIRST_REQUESTS:
            self.seconds = edge_at(self._counts, 0.95)


def edge_at(counts: Sequence[int], quantile: float) -> float:
    """The lowest edge of `REQUEST_SECONDS` that `quantile` of `counts` did not exceed, else the last."""
    wanted, seen = quantile * sum(counts), 0
    for edge, count in zip(REQUEST_SECONDS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return edge
    return REQUEST_SECONDS[-1]


class Blocks:
    """Cuts time into blocks of at least 30 s and 20 canary requests."""

    __slots__ = ("_closed", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._closed = Tally()

    def close(self, now: float, total: Tally) -> float | None:
        """Slow share of the canary − production's in the block that ends `now`; None while it goes on."""
        block = total.since(self._closed)
        if now - self._since < BLOCK_SECONDS or block.canary_requests < BLOCK_REQUESTS:
            return None
        if (
            block.difference is not None
        ):  # else production had no request: nothing to compare, the block goes on
            self._since, self._closed = now, total
        return block.difference


class Bet:
    """ln E of betting on blocks in which the canary is slower: mean over λ of Π (1 + λ·clip(D, ±¼)/¼).

    A supermartingale when a block's expected difference, given the past, is at most 0 and D within ±¼.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums = [0.0] * len(STAKES)

    def add(self, difference: float) -> None:
        """One block; `difference` −1 to 1 is clipped to ±0.25."""
        clipped = max(-CLIP, min(CLIP, difference)) / CLIP
        for index, stake in enumerate(STAKES):
            self._sums[index] += math.log1p(stake * clipped)

    @property
    def ln_e(self) -> float:
        """Natural logarithm of E; 0 before the first block."""
        most = max(self._sums)
        return most + math.log(sum(math.exp(each - most) for each in self._sums) / len(STAKES))


def quantile(edges: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value that `share` (0 to 1) of what was counted does not exceed; None for nothing.

    Linear within a bin. `edges`: one more than bins, ascending. `counts` may have one more: beyond the last
    edge, told as that edge.
    """
    wanted, seen = share * sum(counts), 0
    if not any(counts):
        return None
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count and seen + count >= wanted:
            return low + (high - low) * max(0.0, wanted - seen) / count
        seen += count
    return edges[-1]
