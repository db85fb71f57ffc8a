"""What one process observed of shadow requests in one cell: pairs of answers to the same bytes.

Production answered, or failed, what a user asked; the canary got a copy. As in `records`, counts add and sets
of buckets unite, so that the records of one cell may be merged in any order.
"""

from bisect import bisect_left

from msgspec import Struct, field

DIFFERENCE_EDGES = tuple(float(f"1e{power}") for power in range(-6, 7))
"""Upper edges of |difference of scores|, ascending. Bin 0 is no difference at all, bin n up to the nth edge,
and the last one whatever is larger."""
DIFFERENCE_BINS = len(DIFFERENCE_EDGES) + 2


def difference_bin(difference: float) -> int:
    """The bin of a finite difference, by its size: 0 to `DIFFERENCE_BINS` − 1."""
    return 1 + bisect_left(DIFFERENCE_EDGES, abs(difference)) if difference else 0


class ShadowCounts(Struct, array_like=True):
    """Counts of compared requests."""

    pairs: int = 0
    """Requests that both versions answered, or failed by themselves."""
    production_faults: int = 0
    canary_faults: int = 0
    both_faults: int = 0
    """Requests that both failed: the input's fault."""
    agreed: int = 0
    """Requests whose answers nobody could tell apart by type, length or label; also where both failed."""
    other_type: int = 0
    other_length: int = 0
    flips: int = 0
    """Rows whose label is another one…"""
    rows: int = 0
    """…of so many that were compared."""
    dropped: int = 0
    """Requests that were to be compared and were not."""

    def add(self, other: "ShadowCounts") -> None:
        """Both together."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class ShadowRecord(Struct, array_like=True):
    """What was routed to production by one split and compared, in one cell or in a part of it."""

    counts: ShadowCounts = field(default_factory=ShadowCounts)
    differences: dict[int, int] = field(default_factory=dict)
    """First rows' scores by `difference_bin`, where both have one."""
    production_durations: dict[int, int] = field(default_factory=dict)
    """Of the predicts that held the requests, by bin of `durations`; so is the next."""
    canary_durations: dict[int, int] = field(default_factory=dict)
    canary_alone: set[int] = field(default_factory=set)
    """Buckets of which the canary failed a request that production answered…"""
    production_alone: set[int] = field(default_factory=set)
    """…and the other way round. Reported in the cell in which a bucket was in either for the first time."""
    raised: set[int] = field(default_factory=set)
    """Buckets with a score of the canary above production's; reported likewise, as is the next."""
    lowered: set[int] = field(default_factory=set)


def add_shadow(into: ShadowRecord, other: ShadowRecord) -> None:
    """Add what `other` holds to `into`, which shares nothing with it afterwards."""
    into.counts.add(other.counts)
    for counts, more in (
        (into.differences, other.differences),
        (into.production_durations, other.production_durations),
        (into.canary_durations, other.canary_durations),
    ):
        for index, count in more.items():
            counts[index] = counts.get(index, 0) + count
    into.canary_alone |= other.canary_alone
    into.production_alone |= other.production_alone
    into.raised |= other.raised
    into.lowered |= other.lowered
