"""What one process observes of one run: counts per request, and what came since the last time when asked.

Which buckets are new is decided where the records of all gateways are joined, so to report one again costs a
number, and to leave it out would lose it. One is reported once per event, step and epoch's length.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from router.analysis.statistics.counts import GROUPS
from router.analysis.statistics.durations import BINS, bin_of
from router.analysis.statistics.records import (
    CELL_SECONDS,
    ArmRecord,
    Ranges,
    Record,
    first_score,
    score_units,
)
from router.analysis.statistics.shadow_counter import ShadowCounter, ShadowPair
from router.core.breaker import OutageRule
from router.core.ids import PRODUCTION, Alias
from router.core.score_events import ReadScore
from router.core.scores import SCORED_LATER, OutputSpec, ScoreSpec
from router.core.split import BUCKETS, Split

FAILED_BATCHES_KNOWN = 256
"""Failed batches remembered, so that each is one event however many requests it held."""
MOST_SPLITS = 3
"""By which requests are under way at once and are counted, the present one included."""
FAULT_CELLS, SLOW_CELLS = 900 // CELL_SECONDS, 3600 // CELL_SECONDS
"""After so many cells a bucket is reported anew: then an epoch may begin."""

# What a bucket had since it may be reported again, as bits of its byte; the two upper bits say whose it is.
_FAULT, _FAULTY_CALL, _SLOW, _SCORED, _SEEN = 1, 2, 4, 8, 16
_OWNER = 6
_NOBODY = 2
_WITHOUT = {bits: bytes(byte & ~bits & 255 for byte in range(256)) for bits in (_FAULT | _FAULTY_CALL, _SLOW)}


class Observation(NamedTuple):
    """One request that the split routed by its key while both versions were bound.

    A tuple, because one is made per request: a frozen dataclass takes twice as long to make.
    """

    bucket: int
    """0 to 99 999."""
    canary: bool
    """Whether its key was given the alias that is compared with production, whoever answered."""
    split: Split
    """By which it was routed."""
    fault: bool
    seconds: float | None
    """Last byte read until answer ready, of an answer without fault; None when not known."""
    bin_index: int | None
    """Bin or class of the score; None when it has none, SCORED_LATER where it comes by `score`, or never."""
    blamed_batch: int | None
    """As `Answered.blamed_batch`."""
    excused: bool
    """The canary failed and production failed on the same bytes."""
    abandoned: bool = False
    """Its caller hung up after `seconds`: it would have taken longer than that."""


def ranges_of(split: Split, alias: Alias) -> Ranges:
    """Which buckets production and `alias` own."""
    return Ranges(split.range_of(PRODUCTION), split.range_of(alias))


class _Arm:
    """Counts of one arm: those by group since these were asked for last, the others since the last record.

    Each request is in one of `faults`, `timed` and `untimed`, and an answer is scored unless it is in
    `unscored`: so two counts less are kept for each of them. `late` takes away those whose score is read
    later, and adds each that was.
    """

    __slots__ = (
        "by_group",
        "durations",
        "faults",
        "has_sums",
        "hung_up",
        "late",
        "late_unscored",
        "reported",
        "score_sums",
        "scores",
        "slow",
        "timed",
        "unscored",
        "untimed",
    )

    def __init__(self, indexes: int, *, has_sums: bool) -> None:
        self.has_sums = has_sums
        self.late_unscored = 0
        """Scores that were read later, do not count, and are in no record yet."""
        self._begin_groups()
        self._begin_record(indexes)

    def _begin_groups(self) -> None:
        self.by_group = tuple([0] * GROUPS for _ in range(8))
        self.faults, self.timed, self.untimed, self.hung_up, self.slow, self.unscored = self.by_group[:6]
        self.late, self.score_sums = self.by_group[6:]
        self.reported = (0, 0, 0, 0, 0)
        """Requests, faults, timed, slow and unscored that records held so far."""

    def _begin_record(self, indexes: int) -> None:
        self.durations = [0] * BINS
        self.scores = [0] * indexes

    def drain(self, *, groups: bool) -> ArmRecord:
        """What came since the last time."""
        faults, timed, untimed, hung_up, slow, unscored, _, _ = map(sum, self.by_group)
        totals = faults + timed + untimed, faults, timed + hung_up, slow, unscored
        new = map(int.__sub__, totals, self.reported)
        self.reported = totals
        requests, new_faults, new_timed, new_slow, invalid = new
        # A record with more of them than requests would be refused; the rest comes with later requests.
        late = min(self.late_unscored, requests - invalid)
        self.late_unscored -= late
        record = ArmRecord(
            requests=requests,
            faults=new_faults,
            timed=new_timed,
            slow=new_slow,
            invalid=invalid + late,
            durations=_sparse(self.durations),
            scores=_sparse(self.scores),
        )
        if groups:
            rows = enumerate(zip(*self.by_group, strict=True))
            record.groups = {group: self._row(*row) for group, row in rows if any(row)}
            self._begin_groups()
        self._begin_record(len(self.scores))
        return record

    def _row(
        self,
        faults: int,
        timed: int,
        untimed: int,
        hung_up: int,
        slow: int,
        unscored: int,
        late: int,
        score_sum: int,
    ) -> list[int]:
        """As of `ArmRecord.groups`."""
        scored = timed + untimed - unscored + late if self.has_sums else 0
        return [faults + timed + untimed, faults, timed + hung_up, slow, scored, score_sum]


class _Part:
    """What was routed by one split and held against one line."""

    __slots__ = (
        "arms",
        "cell_scores",
        "excused",
        "faulty",
        "faulty_calls",
        "first_scores",
        "flags",
        "has_record",
        "left_out",
        "line",
        "ranges",
        "seen",
        "shadow",
        "slow",
        "split",
    )

    def __init__(self, split: Split, ranges: Ranges, line: float | None, arms: tuple[_Arm, _Arm]) -> None:
        self.split, self.ranges, self.line, self.arms = split, ranges, line, arms
        self.flags = _owned(ranges)
        self.cell_scores: dict[int, int] = {}
        """The first score of each bucket in this cell, as records held them so far."""
        self.shadow = ShadowCounter()
        self.has_record = False
        """Whether there is one of this cell already; then its counts by group follow, if asked for."""
        self._begin_record()

    def _begin_record(self) -> None:
        self.excused = self.left_out = 0
        self.faulty: set[int] = set()
        self.faulty_calls: set[int] = set()
        self.slow: set[int] = set()
        self.seen: set[int] = set()
        self.first_scores: dict[int, int] = {}

    def drain(self, *, groups: bool) -> Record | None:
        """What came since the last time; None for nothing."""
        production, canary = (arm.drain(groups=groups) for arm in self.arms)
        canary.excused = self.excused
        record = Record(
            self.ranges,
            self.line,
            production,
            canary,
            self.faulty,
            self.faulty_calls,
            self.slow,
            self.seen,
            self.first_scores,
            self.left_out,
            self.shadow.drain(),
        )
        self.cell_scores |= self.first_scores
        self._begin_record()
        if not _holds_anything(record) and not (groups and self.has_record):
            return None
        self.has_record = True
        return record

    def end_cell(self) -> None:
        """Scores of this cell are settled: of these buckets no further one is the first."""
        for bucket in self.cell_scores:
            self.flags[bucket] |= _SCORED
        self.cell_scores = {}
        self.shadow.end_cell()
        self.has_record = False


class CellRecorder:
    """Counts the requests of one run at this process. No clock, no I/O, not safe for threads.

    `drain` gives what came since the last time, so that all that a cell had is the records of it merged.
    """

    def __init__(self, alias: Alias, split: Split, line: float | None, output: OutputSpec | None) -> None:
        """`alias` is compared with production, and `split` routes its requests from now on.

        `line`: seconds above which an answer is slow, None while that is not known. `output`: what is counted
        of the answers, None for nothing.
        """
        self.outage = OutageRule()
        """Of the canary's requests in this step, at this process."""
        self._alias = alias
        self._indexes = 0 if output is None else output.index_count
        self._units = score_units(output) if isinstance(output, ScoreSpec) else ()
        self._line = line
        self._failed_batches: deque[tuple[bool, int]] = deque(maxlen=FAILED_BATCHES_KNOWN)
        self._ended: list[_Part] = []
        """What no request is counted in any more, until it is drained."""
        self._older: list[_Part] = []
        """Of requests that a former split routed, in this cell."""
        self._part = self._new_part(split)

    @property
    def ranges(self) -> Ranges:
        """Of the split by which requests are routed now."""
        return self._part.ranges

    @property
    def line(self) -> float | None:
        """By which an answer is slow now."""
        return self._line

    def observe(self, seen: Observation) -> None:
        """Count one request: about 1 µs, and nothing that grows with traffic."""
        bucket, canary, split, fault, seconds, bin_index, _, _, abandoned = seen
        part = self._part
        if split is not part.split and (older := self._of(split)) is not part:
            if older is None:
                part.left_out += 1
                return
            part = older
        flags = part.flags[bucket]
        if flags >> _OWNER != canary:
            part.left_out += 1
            return
        if not flags & _SEEN:
            part.flags[bucket] |= _SEEN
            part.seen.add(bucket)
        if abandoned:
            self._abandoned(part, seen)
            return
        arm, group = part.arms[canary], bucket % GROUPS
        if fault:
            arm.faults[group] += 1
            self._fault(part, seen)
            return
        if canary and part is self._part:
            self.outage.add(fault=False)
        line = part.line
        if seconds is None or line is None:
            arm.untimed[group] += 1
        else:
            arm.timed[group] += 1
            if seconds > line:
                self._slow(part, bucket, canary=canary)
        if seconds is not None:
            arm.durations[bin_of(seconds)] += 1
        if self._indexes:
            self._score(part, arm, bucket, bin_index, first=not flags & _SCORED)

    def compare(self, pair: ShadowPair) -> None:
        """Count one shadow request, by the split that gave its original to production."""
        part = self._of_shadow(pair.split)
        if part is None or part.flags[pair.bucket] >> _OWNER:
            return
        part.shadow.count(pair)

    def drop_shadow(self) -> None:
        """One request that was to be shadowed was not compared."""
        self._part.shadow.drop()

    def score(self, read: ReadScore, *, canary: bool) -> None:
        """Count the score of a request that was observed as SCORED_LATER."""
        part, bucket = self._part, read.bucket
        if read.split is not part.split:
            older = self._of(read.split)
            if older is None:
                return
            part = older
        flags = part.flags[bucket]
        if not self._indexes or flags >> _OWNER != canary:
            return
        arm = part.arms[canary]
        if read.bin_index is None:
            arm.late_unscored += 1
            return
        arm.late[bucket % GROUPS] += 1
        self._score(part, arm, bucket, read.bin_index, first=not flags & _SCORED)

    def _of_shadow(self, split: Split) -> _Part | None:
        return self._part if split is self._part.split else self._of(split)

    def _abandoned(self, part: _Part, seen: Observation) -> None:
        # It is slow already, or it is not known whether it would have been. Of both versions alike: callers
        # who hang up must not make two equal ones look different.
        if part.line is not None and seen.seconds is not None and seen.seconds > part.line:
            part.arms[seen.canary].hung_up[seen.bucket % GROUPS] += 1
            self._slow(part, seen.bucket, canary=seen.canary)

    def _score(self, part: _Part, arm: _Arm, bucket: int, bin_index: int | None, *, first: bool) -> None:
        indexes = self._indexes
        if bin_index is None or not 0 <= bin_index < indexes:
            if bin_index == SCORED_LATER:
                arm.late[bucket % GROUPS] -= 1
            else:
                arm.unscored[bucket % GROUPS] += 1
            return
        arm.scores[bin_index] += 1
        if units := self._units:
            arm.score_sums[bucket % GROUPS] += units[bin_index]
        if first:
            if (known := part.first_scores.get(bucket)) is None:
                known = part.cell_scores.get(bucket)
            if known is None or first_score(bucket, known, bin_index, indexes) != known:
                part.first_scores[bucket] = bin_index

    def _fault(self, part: _Part, seen: Observation) -> None:
        bucket, canary, batch = seen.bucket, seen.canary, seen.blamed_batch
        if canary:
            part.excused += seen.excused
            if part is self._part:
                self.outage.add(fault=not seen.excused)
        if batch is None:
            if not part.flags[bucket] & _FAULT:
                part.flags[bucket] |= _FAULT
                part.faulty.add(bucket)
        elif (canary, batch) not in self._failed_batches:
            self._failed_batches.append((canary, batch))
            if not part.flags[bucket] & _FAULTY_CALL:
                part.flags[bucket] |= _FAULTY_CALL
                part.faulty_calls.add(bucket)

    def _slow(self, part: _Part, bucket: int, *, canary: bool) -> None:
        part.arms[canary].slow[bucket % GROUPS] += 1
        if not part.flags[bucket] & _SLOW:
            part.flags[bucket] |= _SLOW
            part.slow.add(bucket)

    def _of(self, split: Split) -> _Part | None:
        """Where a request counts that `split` routed; None where too many splits are under way."""
        if split == self._part.split:
            self._part.split = split  # the same shares, read anew from the configuration
            return self._part
        ranges = ranges_of(split, self._alias)
        part = next((one for one in (self._part, *self._older) if one.ranges == ranges), None)
        if part is None and len(self._older) < MOST_SPLITS - 1:
            part = self._new_part(split)
            self._older.append(part)
        return part

    def _new_part(self, split: Split) -> _Part:
        production, canary = (_Arm(self._indexes, has_sums=bool(self._units)) for _ in range(2))
        return _Part(split, ranges_of(split, self._alias), self._line, (production, canary))

    def drain(self, *, groups: bool) -> list[Record]:
        """What came since the last time, in the order in which the splits and lines of it began.

        `groups`: with the counts by group since they were last asked for. What is over has them anyway.
        """
        drained = [one.drain(groups=True) for one in (*self._ended, *self._older)]
        drained.append(self._part.drain(groups=groups))
        self._ended = []
        return [record for record in drained if record is not None]

    def begin_cell(self, cells: int) -> None:
        """The next cell begins, `cells` after the run's first: what may be reported anew is forgotten."""
        self._older = []  # a request that comes later still begins one anew
        self._part.end_cell()
        for every, bits in ((FAULT_CELLS, _FAULT | _FAULTY_CALL), (SLOW_CELLS, _SLOW)):
            if cells % every == 0:
                self._part.flags[:] = self._part.flags.translate(_WITHOUT[bits])
        if cells % FAULT_CELLS == 0:
            self._part.shadow.begin_epoch()

    def change_split(self, split: Split) -> None:
        """`split` routes requests from now on; another step begins, if the shares are others."""
        if ranges_of(split, self._alias) != self._part.ranges:
            self._ended.append(self._part)
            self._part = self._new_part(split)
            self.outage = OutageRule()
        self._part.split = split

    def change_line(self, line: float | None) -> None:
        """Answers are held against `line` from now on."""
        if line == self._line:
            return
        self._line = line
        before = self._part
        self._ended.append(before)
        self._part = self._new_part(before.split)
        self._part.flags = before.flags.translate(_WITHOUT[_SLOW])  # a bucket may be slow by this one again
        self._part.cell_scores = before.cell_scores | before.first_scores
        self._part.shadow = before.shadow
        for arm, ended in zip(self._part.arms, before.arms, strict=True):
            # There may be more of them than it had requests.
            arm.late_unscored, ended.late_unscored = ended.late_unscored, 0

    def report_anew(self) -> None:
        """A step began for all gateways: what was reported by this split before it did not count."""
        self._part.flags = _owned(self._part.ranges)
        self._part.shadow.report_anew()


def _owned(ranges: Ranges) -> bytearray:
    flags = bytearray([_NOBODY << _OWNER]) * BUCKETS
    for owner, (first, end) in enumerate((ranges.production, ranges.canary)):
        flags[first:end] = bytes([owner << _OWNER]) * (end - first)
    return flags


def _sparse(counts: Sequence[int]) -> dict[int, int]:
    return {index: count for index, count in enumerate(counts) if count}


def _holds_anything(record: Record) -> bool:
    arms = record.production, record.canary
    return bool(
        record.left_out
        or record.shadow is not None
        or record.seen
        or record.slow
        or any(arm.requests or arm.timed or arm.scores or arm.groups for arm in arms)
    )
