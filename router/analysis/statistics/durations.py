"""The bins in which durations of answers travel and are kept: fine enough to read a quantile from.

From 0.1 ms to 600 s, each upper edge at most 1.05 times the one below. The edges of `REQUEST_SECONDS` are
among them, so that what is counted here folds into those without a remainder.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import ceil, log

from router.core.latency_buckets import REQUEST_SECONDS

FIRST_SECONDS, LAST_SECONDS = 0.0001, 600.0
RATIO = 1.05
"""The largest of an upper edge to the one below."""


def _edges() -> Iterator[float]:
    yield FIRST_SECONDS
    for low, high in pairwise((FIRST_SECONDS, *REQUEST_SECONDS, LAST_SECONDS)):
        bins = ceil(log(high / low) / log(RATIO))
        # Nine digits, for powers differ in the last ones from library to library, and gateways compare edges.
        yield from (float(f"{low * (high / low) ** (step / bins):.9g}") for step in range(1, bins))
        yield high


EDGES = tuple(_edges())
"""Upper edges in seconds, ascending."""
BINS = len(EDGES) + 1
"""Bin 0 is up to 0.1 ms, the last one is whatever takes longer than 600 s."""
_FOLDED = (*(bisect_left(REQUEST_SECONDS, edge) for edge in EDGES), len(REQUEST_SECONDS))


bin_of: Callable[[float], int] = partial(bisect_left, EDGES)
"""The bin of a duration in seconds, 0 to `BINS` − 1; an edge belongs to the bin that it ends.

Every request is counted by it, and as a function of its own it would take twice as long."""


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The duration in seconds that `share` (0 to 1) of what was counted does not exceed; None for nothing.

    Linear within a bin. What lies beyond the last edge reads as that edge: `is_over` says so.
    """
    return quantile_at((0.0, *EDGES), counts, share)


def is_over(counts: Sequence[int], share: float) -> bool:
    """Whether that duration lies beyond the last edge. False for nothing."""
    return sum(counts[:-1]) < share * sum(counts)


def quantile_at(edges: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The same for other bins. `edges`: one more than bins, ascending.

    `counts` may have one more, for what lies beyond the last edge and reads as it.
    """
    wanted, seen = share * sum(counts), 0
    if not any(counts):
        return None
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count and seen + count >= wanted:
            return low + (high - low) * max(0.0, wanted - seen) / count
        seen += count
    return edges[-1]


def add_to(counts: list[int], sparse: Mapping[int, int]) -> None:
    """Add what was counted by bin. Bins that do not exist are left out."""
    for index, count in sparse.items():
        if 0 <= index < BINS:
            counts[index] += count


def by_request_seconds(counts: Sequence[int]) -> list[int]:
    """The same by `REQUEST_SECONDS`, and one number more for what lies beyond the last of those."""
    folded = [0] * (len(REQUEST_SECONDS) + 1)
    for index, count in zip(_FOLDED, counts, strict=True):
        folded[index] += count
    return folded
