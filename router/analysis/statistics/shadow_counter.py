"""What one process counts of shadow requests of one split; what is reported when, see `cell_recorder`."""

from math import isfinite
from typing import NamedTuple

from router.analysis.statistics.bucket_set import BucketSet
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.shadow_record import ShadowRecord, difference_bin
from router.core.split import Split


class ShadowPair(NamedTuple):
    """Two answers to the same bytes, or a fault in place of either."""

    bucket: int
    """0 to 99 999."""
    split: Split
    """By which the request was routed to production."""
    production_fault: bool
    canary_fault: bool
    agrees: bool
    same_type: bool
    same_length: bool
    flips: int
    rows: int
    difference: float | None
    """Canary's score minus production's."""
    production_seconds: float
    canary_seconds: float


class ShadowCounter:
    """Counts pairs. A bucket is reported in one cell, and then once an epoch; its difference once a step.

    In which order two gateways saw a bucket within a cell nobody knows, so all that one cell says of it is
    reported, whatever came first here.
    """

    __slots__ = ("_alone", "_differed", "_record")

    def __init__(self) -> None:
        self._record: ShadowRecord | None = None
        self._alone, self._differed = (_Reported() for _ in range(2))

    def count(self, pair: ShadowPair) -> None:
        """One request."""
        record = self._present()
        counts, bucket = record.counts, pair.bucket
        counts.pairs += 1
        counts.production_faults += pair.production_fault
        counts.canary_faults += pair.canary_fault
        counts.both_faults += pair.production_fault and pair.canary_fault
        counts.agreed += pair.agrees
        counts.other_type += not pair.same_type
        counts.other_length += not pair.same_length
        counts.flips += pair.flips
        counts.rows += pair.rows
        if pair.production_fault != pair.canary_fault and self._alone.is_new(bucket):
            (record.canary_alone if pair.canary_fault else record.production_alone).add(bucket)
        if pair.production_fault or pair.canary_fault:
            return
        _count(record.production_durations, bin_of(pair.production_seconds))
        _count(record.canary_durations, bin_of(pair.canary_seconds))
        difference = pair.difference
        if difference is not None and isfinite(difference):
            _count(record.differences, difference_bin(difference))
            if difference and self._differed.is_new(bucket):
                (record.raised if difference > 0.0 else record.lowered).add(bucket)

    def drop(self) -> None:
        """One request that was to be compared was not."""
        self._present().counts.dropped += 1

    def drain(self) -> ShadowRecord | None:
        """What came since the last time; None for nothing."""
        record, self._record = self._record, None
        return record

    def end_cell(self) -> None:
        """What was reported in this cell is not reported again."""
        self._alone.end_cell()
        self._differed.end_cell()

    def begin_epoch(self) -> None:
        """Buckets that one version failed alone are reported anew."""
        self._alone.forget()

    def report_anew(self) -> None:
        """What was reported did not count."""
        self._alone.forget()
        self._differed.forget()

    def _present(self) -> ShadowRecord:
        if self._record is None:
            self._record = ShadowRecord()
        return self._record


class _Reported:
    """Which buckets were reported in former cells."""

    __slots__ = ("_before", "_in_cell")

    def __init__(self) -> None:
        self._before: BucketSet | None = None
        self._in_cell: set[int] = set()

    def is_new(self, bucket: int) -> bool:
        """Whether to report it, and then it is."""
        if self._before is not None and bucket in self._before:
            return False
        self._in_cell.add(bucket)
        return True

    def end_cell(self) -> None:
        if self._in_cell:
            self._before = self._before or BucketSet()
            self._before.add(self._in_cell)
            self._in_cell = set()

    def forget(self) -> None:
        self._before = None


def _count(counts: dict[int, int], index: int) -> None:
    counts[index] = counts.get(index, 0) + 1
