"""What one process observed of one run in one cell, and how such records merge.

Time is cut into cells of 5 s, the same at all gateways. What a gateway observed in a cell is final once the
cell is over. Counts add, sets of buckets unite, so that the records of one cell may be merged in any order.
Nothing here is a key; a bucket is one of 100 000.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from msgspec import Struct, field

from router.analysis.statistics.shadow_record import ShadowRecord, add_shadow
from router.core.scores import ClassSpec, OutputSpec
from router.core.split import BUCKETS

CELL_SECONDS = 5
MINUTE_CELLS = 12
"""Cells between two in which counts by group are there, and a PASS is looked at."""


UNITS_OF_RANGE = 1 << 20
"""Units in which scores are summed: so many are the width of their range."""


def cell_of(timestamp: float) -> int:
    """The cell of a time in seconds since 1970."""
    return int(timestamp // CELL_SECONDS)


class Ranges(Struct, frozen=True, array_like=True):
    """Which buckets each arm owns by the split that routed a request: [first, one after the last)."""

    production: tuple[int, int]
    canary: tuple[int, int]
    """Of the alias that is compared with production."""

    def owner(self, bucket: int) -> int | None:
        """0 for production, 1 for the canary, None for anybody else."""
        if self.canary[0] <= bucket < self.canary[1]:
            return 1
        return 0 if self.production[0] <= bucket < self.production[1] else None

    @property
    def is_split(self) -> bool:
        """Whether they are ranges of buckets that exist, none of which has two owners."""
        (first, end), (canary_first, canary_end) = self.production, self.canary
        each_exists = all(0 <= low <= high <= BUCKETS for low, high in (self.production, self.canary))
        return each_exists and (max(first, canary_first) >= min(end, canary_end))


class ArmRecord(Struct, array_like=True):
    """Counts of one arm."""

    requests: int = 0
    faults: int = 0
    excused: int = 0
    """Faults of the canary on requests that production failed as well."""
    timed: int = 0
    """Answers without fault that were held against the line for slow."""
    slow: int = 0
    invalid: int = 0
    """Answers without fault whose score does not count."""
    durations: dict[int, int] = field(default_factory=dict)
    """Answers without fault by bin of `durations`."""
    scores: dict[int, int] = field(default_factory=dict)
    """All scores by `bin_index`: those below and above the range have an index of their own."""
    groups: dict[int, list[int]] | None = None
    """By `bucket % 1024`: requests, faults, timed, slow, scored, and the sum of `score_units` of the scored.
    None where they come with a later cell."""


class Record(Struct, array_like=True):
    """What was routed by one split and held against one line, in one cell or in a part of it."""

    ranges: Ranges
    line: float | None
    """Seconds above which an answer was slow; None while that is not known: nothing was timed then."""
    production: ArmRecord = field(default_factory=ArmRecord)
    canary: ArmRecord = field(default_factory=ArmRecord)
    faulty: set[int] = field(default_factory=set)
    """Buckets with a fault of their own."""
    faulty_calls: set[int] = field(default_factory=set)
    """First bucket of each call that failed as a whole. One that is in `faulty` too counts there alone."""
    slow: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    first_scores: dict[int, int] = field(default_factory=dict)
    """`bin_index` by bucket. Of several in one cell, in whatever order they came, that of `first_score`."""
    left_out: int = 0
    """Requests whose bucket is not of the arm that had them."""
    shadow: ShadowRecord | None = None
    """Copies of production's requests that the canary answered; None where there were none."""


class RunCell(Struct, array_like=True):
    """One run in one cell, by one process."""

    compares: bool
    """Whether it compared when the cell began: both versions bound and warm, no cap, breaker closed. In the
    cell in which a run begins at this process, whether it compares from then on."""
    began_with: Ranges
    """The configured split when the cell began; in the cell in which a run begins, when that began."""
    records: list[Record] = field(default_factory=list)
    """One for each split and line, in the order in which they began."""
    history: dict[int, int] | None = None
    """In the first cell of a run at this process: production's durations of the hour before."""
    subject: bytes | None = None
    """In the first cell of a run at this process: what is compared, a packed `RunSubject`."""
    outage: bool = False
    """Whether this process saw an outage of the canary in this cell: of its last 50 requests half failed."""


class RunId(Struct, frozen=True, array_like=True):
    """One run. Of two with the same key the higher number is in force, and the lower one is over."""

    key: str
    """Digest of what is compared: 32 hexadecimal digits."""
    number: int
    """From 1; raised by each reset of the breaker by an operator."""


class Join(Struct, frozen=True, array_like=True):
    """A membership that begins: from cell `since` on, every cell waits for the batch of this member."""

    member: str
    """16 hexadecimal digits. The first membership of a process has the id of the process, a later one an id
    of its own."""
    process: str
    """16 hexadecimal digits."""
    host: str
    since: int
    """A cell."""


class Ended(Struct, frozen=True, array_like=True):
    """A process that was killed, as whoever has its state directory now found out."""

    process: str
    """16 hexadecimal digits."""
    host: str


class Batch(Struct, array_like=True):
    """All that one process observed in one cell, over; also where that is nothing."""

    process: str
    """Member that observed it, see `Join.member`: 16 hexadecimal digits."""
    cell: int
    runs: dict[str, tuple[int, RunCell]] = field(default_factory=dict)
    """By key of the run: its number, and what was observed."""
    joins: list[Join] = field(default_factory=list)
    """Memberships that this member knew of; in time once a batch of a cell before `since` names it."""
    killed: list[Ended] = field(default_factory=list)
    """Unclean ends that this member found out, each of which counts once."""


# How records merge


def first_score(bucket: int, one: int, other: int, indexes: int) -> int:
    """Which of two scores of a bucket in one cell is its first: the order in which they came is not known
    where two gateways had them.

    The bin that comes first when one begins to count at the bucket's own, which favours none: to take the
    lowest would shift the distribution. `indexes`: how many a `bin_index` may be, `OutputSpec.index_count`.
    """
    return min(one, other, key=lambda bin_index: (bin_index - bucket) % indexes)


@lru_cache(maxsize=256)
def score_units(spec: OutputSpec) -> tuple[int, ...]:
    """What a score adds to the sum of its group, by `bin_index`: whole numbers, which add up in any order.

    How far the middle of its bin lies above `low`, in units of the range/2^20; 0 for classes.
    """
    if isinstance(spec, ClassSpec):
        return (0,) * spec.index_count
    # Halved, because the width of a range may be more than a float holds.
    low, half = spec.low / 2, spec.high / 2 - spec.low / 2
    edges = (spec.low, *spec.edges())
    units = [round((lower / 4 + upper / 4 - low) / half * UNITS_OF_RANGE) for lower, upper in pairwise(edges)]
    return (*units, units[0], units[-1])


def merge(into: Record, other: Record, indexes: int) -> None:
    """Add what `other` holds to `into`; both are of one cell, one split and one line.

    In whatever order records are merged, the sum is the same. `other` is not changed, and shares no set with
    `into`. `indexes` as in `first_score`; any number where nothing is scored.

    Raises ValueError for another split or line.
    """
    if other.ranges != into.ranges or other.line != into.line:
        raise ValueError("records of two splits, or of two lines, do not add up")
    add(into, other, indexes)


def add(into: Record, other: Record, indexes: int, *, timed: bool = True) -> None:
    """The same without the question. Not `timed`: what it says of slow answers is left out."""
    _add_arm(into.production, other.production, timed=timed)
    _add_arm(into.canary, other.canary, timed=timed)
    into.faulty |= other.faulty
    into.faulty_calls |= other.faulty_calls
    into.seen |= other.seen
    into.left_out += other.left_out
    if other.shadow is not None:
        into.shadow = into.shadow or ShadowRecord()
        add_shadow(into.shadow, other.shadow)
    if timed:
        into.slow |= other.slow
    firsts = into.first_scores
    for bucket, bin_index in other.first_scores.items():
        known = firsts.get(bucket)
        firsts[bucket] = bin_index if known is None else first_score(bucket, known, bin_index, indexes)


def _add_arm(into: ArmRecord, other: ArmRecord, *, timed: bool) -> None:
    into.requests += other.requests
    into.faults += other.faults
    into.excused += other.excused
    into.invalid += other.invalid
    if timed:
        into.timed += other.timed
        into.slow += other.slow
    _add_counts(into.durations, other.durations)
    _add_counts(into.scores, other.scores)
    if other.groups is not None:
        groups = into.groups = {} if into.groups is None else into.groups
        for group, counts in other.groups.items():
            added = counts if timed else [*counts[:2], 0, 0, *counts[4:]]
            known = groups.get(group)
            groups[group] = list(added) if known is None else list(map(int.__add__, known, added))


def _add_counts(into: dict[int, int], other: dict[int, int]) -> None:
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def add_record(cell: RunCell, record: Record, indexes: int) -> None:
    """Add what a process observed in a part of a cell to all of that. `indexes` as of `merge`."""
    for known in cell.records:
        if known.ranges == record.ranges and known.line == record.line:
            merge(known, record, indexes)
            return
    fresh = Record(record.ranges, record.line)
    merge(fresh, record, indexes)
    cell.records.append(fresh)


def joined(records: Iterable[Record], ranges: Ranges, line: float | None, indexes: int) -> Record:
    """Those of one split as one record. Of those that were held against another line, or none, everything
    counts but what they say of slow answers."""
    every = Record(ranges, line)
    for record in records:
        if record.ranges == ranges:
            add(every, record, indexes, timed=line is not None and record.line == line)
    return every
