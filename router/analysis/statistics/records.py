"""What one process observed of one run in one cell, and how such records merge.

Time is cut into cells of 5 s, the same at all gateways. What a gateway observed in a cell is final once the
cell is over. Counts add, sets of buckets unite, so that the records of one cell may be merged in any order.
Nothing here is a key; a bucket is one of 100 000.
"""

from msgspec import Struct, field

CELL_SECONDS = 5
MINUTE_CELLS = 12
"""Cells between two in which counts by group are there, and a PASS is looked at."""


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
    """By `bucket % 1024`: requests, faults, timed, slow, scored, and sum of the scored in units of the
    range/2^20. None where they come with a later cell."""


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
    """`bin_index` by bucket, of the first score of a bucket."""
    left_out: int = 0
    """Requests whose bucket is not of the arm that had them."""


class RunCell(Struct, array_like=True):
    """One run in one cell, by one process."""

    compares: bool
    """Whether it compared when the cell began: both versions bound and warm, no cap, breaker closed."""
    began_with: Ranges
    """The split in force when the cell began."""
    records: list[Record] = field(default_factory=list)
    """One for each split and line, in the order in which they began."""
    history: dict[int, int] | None = None
    """In the first cell of a run at this process: production's durations of the hour before."""


class RunId(Struct, frozen=True, array_like=True):
    """One run. Of two with the same key the higher number is in force, and the lower one is over."""

    key: str
    """Digest of what is compared: 32 hexadecimal digits."""
    number: int
    """From 1; raised by each reset of the breaker by an operator."""


class Batch(Struct, array_like=True):
    """All that one process observed in one cell, over; also where that is nothing."""

    process: str
    """16 hexadecimal digits."""
    cell: int
    runs: dict[str, tuple[int, RunCell]] = field(default_factory=dict)
    """By key of the run: its number, and what was observed."""
