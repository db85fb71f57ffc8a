"""How evidence is written: one form for disk and wire, compact, and read strictly.

Whatever is read is checked: types, ranges, sizes. What is refused is named by a sentence that quotes none of
it. Sets of buckets are their differences as numbers of seven bits a byte, or a bitmap, whichever is shorter.
"""

from collections.abc import Collection, Iterator
from itertools import chain, pairwise
from math import isfinite
from struct import Struct as Layout
from typing import Annotated, Any, TypeVar
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from router.analysis.fleet_messages import MOST_CELL, MOST_COUNT, MOST_NAME, MOST_PROCESSES, MOST_RUNS
from router.analysis.run_key import MOST_BYTES as MOST_SUBJECT_BYTES
from router.analysis.run_state import RunStateData
from router.analysis.statistics.bucket_set import BITMAP_BYTES
from router.analysis.statistics.counts import GROUPS
from router.analysis.statistics.durations import BINS
from router.analysis.statistics.records import ArmRecord, Batch, Ended, Join, Ranges, Record, RunCell
from router.analysis.statistics.shadow_record import DIFFERENCE_BINS, ShadowCounts, ShadowRecord
from router.core.scores import MAX_BINS
from router.core.split import BUCKETS

MOST_RECORDS = 64
"""Of one run in one cell: one for each split and line."""
_SCORE_INDEXES = MAX_BINS + 2
_MOST_FIELDS = 64
"""Of a struct, which is a list of different things when it is looked at; a longer one holds counts alone."""
_LONGEST_LINE = 7200.0
"""Seconds. `min_ratio` is 10 at most, and the last edge of durations 600 s."""

Cell = Annotated[int, Meta(ge=0, le=MOST_CELL)]
Count = Annotated[int, Meta(ge=0, le=MOST_COUNT)]
Process = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
Host = Annotated[str, Meta(max_length=MOST_NAME)]
RunKey = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
RunNumber = Annotated[int, Meta(ge=1, le=MOST_COUNT)]
_Bucket = Annotated[int, Meta(ge=0, le=BUCKETS)]
_DurationBin = Annotated[int, Meta(ge=0, lt=BINS)]
_DifferenceBin = Annotated[int, Meta(ge=0, lt=DIFFERENCE_BINS)]
_ScoreBin = Annotated[int, Meta(ge=0, lt=_SCORE_INDEXES)]
_Group = Annotated[int, Meta(ge=0, lt=GROUPS)]
_Set = Annotated[bytes, Meta(max_length=BITMAP_BYTES)]

T = TypeVar("T")


class EvidenceRefused(ValueError):
    """What was read is no evidence of this format. The message quotes nothing of it."""


# Sets of buckets


def pack_buckets(buckets: Collection[int]) -> bytes:
    """A set of buckets in as few bytes as either form takes; nothing for an empty one."""
    ascending = sorted(buckets)
    if len(ascending) >= BITMAP_BYTES:
        return _bitmap(ascending)
    packed = bytearray()
    for before, bucket in pairwise(chain((-1,), ascending)):
        gap = bucket - before - 1
        while gap > 0x7F:
            packed.append(gap & 0x7F | 0x80)
            gap >>= 7
        packed.append(gap)
    return bytes(packed) if len(packed) < BITMAP_BYTES else _bitmap(ascending)


def unpack_buckets(packed: bytes) -> list[int]:
    """The buckets of `pack_buckets`, ascending. Raises EvidenceRefused."""
    if len(packed) == BITMAP_BYTES:
        return [8 * place + bit for place, byte in enumerate(packed) if byte for bit in _BITS[byte]]
    buckets: list[int] = []
    bucket, gap, shift = -1, 0, 0
    for byte in packed:
        gap |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 14:
                raise EvidenceRefused("a set of buckets holds a difference that is too large")
            continue
        bucket += gap + 1
        buckets.append(bucket)
        gap = shift = 0
    if shift:
        raise EvidenceRefused("a set of buckets ends within a number")
    if bucket >= BUCKETS:
        raise EvidenceRefused("a bucket is out of range")
    return buckets


def _bitmap(buckets: Collection[int]) -> bytes:
    bits = bytearray(BITMAP_BYTES)
    for bucket in buckets:
        bits[bucket >> 3] |= 1 << (bucket & 7)
    return bytes(bits)


_BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]


# Records


class _Arm(Struct, array_like=True, forbid_unknown_fields=True):
    """`ArmRecord`, field by field, with the ranges of what is read."""

    requests: Count
    faults: Count
    excused: Count
    timed: Count
    slow: Count
    invalid: Count
    durations: dict[_DurationBin, Count]
    scores: dict[_ScoreBin, Count]
    groups: dict[_Group, tuple[Count, Count, Count, Count, Count, Count]] | None


class _Ranges(Struct, array_like=True, forbid_unknown_fields=True):
    production: tuple[_Bucket, _Bucket]
    canary: tuple[_Bucket, _Bucket]


class _ShadowCounts(Struct, array_like=True, forbid_unknown_fields=True):
    """`ShadowCounts`, field by field."""

    pairs: Count
    production_faults: Count
    canary_faults: Count
    both_faults: Count
    agreed: Count
    other_type: Count
    other_length: Count
    flips: Count
    rows: Count
    dropped: Count


class _Shadow(Struct, array_like=True, forbid_unknown_fields=True):
    """`ShadowRecord`, field by field."""

    counts: _ShadowCounts
    differences: dict[_DifferenceBin, Count]
    production_durations: dict[_DurationBin, Count]
    canary_durations: dict[_DurationBin, Count]
    canary_alone: _Set
    production_alone: _Set
    raised: _Set
    lowered: _Set


class _Record(Struct, array_like=True, forbid_unknown_fields=True):
    ranges: _Ranges
    line: float | None
    production: _Arm
    canary: _Arm
    faulty: _Set
    faulty_calls: _Set
    slow: _Set
    seen: _Set
    scored: _Set
    """Buckets with a first score…"""
    first_scores: Annotated[bytes, Meta(max_length=BUCKETS)]
    """…and the `bin_index` of each, a byte."""
    left_out: Count
    shadow: _Shadow | None = None
    """A gateway of a former version writes none, and reads none: see `_packed`."""


class _RunCell(Struct, array_like=True, forbid_unknown_fields=True):
    compares: bool
    began_with: _Ranges
    records: Annotated[list[_Record], Meta(max_length=MOST_RECORDS)]
    history: dict[_DurationBin, Count] | None
    subject: Annotated[bytes, Meta(max_length=MOST_SUBJECT_BYTES)] | None
    outage: bool


class _Join(Struct, array_like=True, forbid_unknown_fields=True):
    member: Process
    process: Process
    host: Host
    since: Cell


class _Ended(Struct, array_like=True, forbid_unknown_fields=True):
    process: Process
    host: Host


class _Batch(Struct, array_like=True, forbid_unknown_fields=True):
    process: Process
    cell: Cell
    runs: Annotated[dict[RunKey, tuple[RunNumber, _RunCell]], Meta(max_length=MOST_RUNS)]
    joins: Annotated[list[_Join], Meta(max_length=MOST_PROCESSES)]
    killed: Annotated[list[_Ended], Meta(max_length=MOST_PROCESSES)]


_encoder = msgspec.msgpack.Encoder()
_cells = msgspec.msgpack.Decoder(_RunCell, strict=True)
_batches = msgspec.msgpack.Decoder(_Batch, strict=True)
_states = msgspec.msgpack.Decoder(RunStateData, strict=True)


def encode_cell(cell: RunCell) -> bytes:
    """What one process observed of one run in one cell, or in a part of it."""
    return _encoder.encode(_packed_cell(cell))


def decode_cell(packed: bytes) -> RunCell:
    """What `encode_cell` gave. Raises EvidenceRefused."""
    return _unpacked_cell(decoded(_cells, packed))


def encode_batch(batch: Batch) -> bytes:
    """All that one process observed in one cell."""
    runs = {key: (number, _packed_cell(cell)) for key, (number, cell) in batch.runs.items()}
    return _encoder.encode((batch.process, batch.cell, runs, batch.joins, batch.killed))


def decode_batch(packed: bytes) -> Batch:
    """What `encode_batch` gave. Raises EvidenceRefused."""
    batch = decoded(_batches, packed)
    hosts = [*(join.host for join in batch.joins), *(ended.host for ended in batch.killed)]
    if not all(map(str.isprintable, hosts)):
        raise EvidenceRefused("a host's name is not printable")
    runs = {key: (number, _unpacked_cell(cell)) for key, (number, cell) in batch.runs.items()}
    joins = [Join(one.member, one.process, one.host, one.since) for one in batch.joins]
    killed = [Ended(one.process, one.host) for one in batch.killed]
    return Batch(batch.process, batch.cell, runs, joins, killed)


def decoded(decoder: "msgspec.msgpack.Decoder[T]", packed: bytes) -> T:
    """What `decoder` makes of it. Raises EvidenceRefused, without msgspec's sentence, which may quote."""
    try:
        return decoder.decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        raise EvidenceRefused("it is no evidence of this format, or out of range") from None


def _packed_cell(cell: RunCell) -> tuple[Any, ...]:
    records = [_packed(record) for record in cell.records]
    return cell.compares, cell.began_with, records, cell.history, cell.subject, cell.outage


def _packed(record: Record) -> tuple[Any, ...]:
    # Without shadow requests a record is what a former version wrote, and can be read by it.
    shadow = () if record.shadow is None else (_packed_shadow(record.shadow),)
    firsts = sorted(record.first_scores.items())
    return (
        record.ranges,
        record.line,
        record.production,
        record.canary,
        pack_buckets(record.faulty),
        pack_buckets(record.faulty_calls),
        pack_buckets(record.slow),
        pack_buckets(record.seen),
        pack_buckets(record.first_scores),
        bytes(bin_index for _, bin_index in firsts),
        record.left_out,
        *shadow,
    )


def _packed_shadow(shadow: ShadowRecord) -> tuple[Any, ...]:
    sets = shadow.canary_alone, shadow.production_alone, shadow.raised, shadow.lowered
    durations = shadow.production_durations, shadow.canary_durations
    return (shadow.counts, shadow.differences, *durations, *map(pack_buckets, sets))


def _unpacked_cell(cell: _RunCell) -> RunCell:
    records = [_unpacked(record) for record in cell.records]
    began_with = _ranges(cell.began_with)
    return RunCell(cell.compares, began_with, records, cell.history, cell.subject, cell.outage)


def _unpacked(record: _Record) -> Record:
    scored, bins = unpack_buckets(record.scored), record.first_scores
    if len(scored) != len(bins):
        raise EvidenceRefused("there are not as many first scores as buckets that have one")
    if bins and max(bins) >= _SCORE_INDEXES:
        raise EvidenceRefused("a first score is in no bin")
    if record.line is not None and not (isfinite(record.line) and 0 < record.line <= _LONGEST_LINE):
        raise EvidenceRefused("a line is out of range")
    return Record(
        _ranges(record.ranges),
        record.line,
        _arm(record.production),
        _arm(record.canary),
        set(unpack_buckets(record.faulty)),
        set(unpack_buckets(record.faulty_calls)),
        set(unpack_buckets(record.slow)),
        set(unpack_buckets(record.seen)),
        dict(zip(scored, bins, strict=True)),
        record.left_out,
        None if record.shadow is None else _shadow(record.shadow),
    )


def _shadow(shadow: _Shadow) -> ShadowRecord:
    counts = ShadowCounts(*(getattr(shadow.counts, name) for name in shadow.counts.__struct_fields__))
    packed = shadow.canary_alone, shadow.production_alone, shadow.raised, shadow.lowered
    canary_alone, production_alone, raised, lowered = (set(unpack_buckets(one)) for one in packed)
    _check_shadow_counts(counts)
    production, canary, differences = (
        sum(counted.values())
        for counted in (shadow.production_durations, shadow.canary_durations, shadow.differences)
    )
    answered = counts.pairs - counts.production_faults - counts.canary_faults + counts.both_faults
    fits = (
        len(canary_alone) <= counts.canary_faults - counts.both_faults,
        len(production_alone) <= counts.production_faults - counts.both_faults,
        max(production, canary, differences, len(raised), len(lowered)) <= answered,
    )
    if not all(fits):
        raise EvidenceRefused("there are more buckets of shadow requests than requests")
    return ShadowRecord(
        counts,
        shadow.differences,
        shadow.production_durations,
        shadow.canary_durations,
        canary_alone,
        production_alone,
        raised,
        lowered,
    )


def _check_shadow_counts(counts: ShadowCounts) -> None:
    """Raises EvidenceRefused where no requests can be counted so."""
    faults = counts.production_faults + counts.canary_faults - counts.both_faults
    fits = (
        counts.both_faults <= min(counts.production_faults, counts.canary_faults),
        faults <= counts.pairs,
        max(counts.agreed, counts.other_type, counts.other_length) <= counts.pairs,
        counts.flips <= counts.rows,
    )
    if not all(fits):
        raise EvidenceRefused("counts of shadow requests contradict each other")


def _arm(arm: _Arm) -> ArmRecord:
    counted = arm.faults <= arm.requests and arm.excused <= arm.faults and arm.invalid <= arm.requests
    # A request whose caller hung up after the line is a slow answer, and else no request.
    timed = arm.slow <= arm.timed <= arm.requests + arm.slow
    if not (counted and timed):
        raise EvidenceRefused("counts of one arm contradict each other")
    groups = None if arm.groups is None else {group: list(counts) for group, counts in arm.groups.items()}
    return ArmRecord(
        arm.requests,
        arm.faults,
        arm.excused,
        arm.timed,
        arm.slow,
        arm.invalid,
        arm.durations,
        arm.scores,
        groups,
    )


def _ranges(ranges: _Ranges) -> Ranges:
    if any(first > end for first, end in (ranges.production, ranges.canary)):
        raise EvidenceRefused("a range of buckets ends before it begins")
    return Ranges(ranges.production, ranges.canary)


# States


def encode_state(state: RunStateData) -> bytes:
    """All that is known of one run."""
    return _encoder.encode(state)


def decode_state(packed: bytes) -> RunStateData:
    """What `encode_state` gave. Raises EvidenceRefused."""
    state = decoded(_states, packed)
    check_state(state)
    return state


def check_state(state: RunStateData) -> None:
    """Raises EvidenceRefused where `state` is none that a run dumps, as far as its numbers show."""
    if len(state.events) != BUCKETS:
        raise EvidenceRefused("a state does not say what each bucket had")
    if not _numbers_in_range(msgspec.to_builtins(state, builtin_types=(bytes,))):
        raise EvidenceRefused("a number of a state is out of range")
    if state.shadow is not None:
        _check_shadow_counts(state.shadow.counts)
        bitmaps = state.shadow.differed, state.shadow.cumulative.used, state.shadow.epoch.used
        if any(len(bits) != BITMAP_BYTES for bits in bitmaps):
            raise EvidenceRefused("a state does not say which buckets had a pair")
    if state.horizon < state.first_cell - 1 or not 0 <= state.first_cell <= MOST_CELL:
        raise EvidenceRefused("cells of a state are out of range")


def _numbers_in_range(value: Any) -> bool:
    if isinstance(value, list) and len(value) > _MOST_FIELDS and isinstance(value[0], int):
        return bool(min(value) >= -MOST_COUNT and max(value) <= MOST_COUNT)
    if isinstance(value, list | tuple):
        return all(map(_numbers_in_range, value))
    if isinstance(value, float):
        return isfinite(value)
    return not isinstance(value, int) or -MOST_COUNT <= value <= MOST_COUNT


# Frames: length, kind, CRC-32 of both and the body, and the body

_HEAD = Layout("<IBI")
_CHECKED = Layout("<IB")
FRAME_BYTES = _HEAD.size
"""Of a frame besides its body."""


def frame(kind: int, body: bytes) -> bytes:
    """A body that shows whether it is whole. `kind`: 0 to 255."""
    length = len(body)
    return _HEAD.pack(length, kind, crc32(body, crc32(_CHECKED.pack(length, kind)))) + body


def frames(content: bytes, begin: int = 0) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each frame from `begin` on, up to the first that is not whole."""
    view, size = memoryview(content), len(content)
    while begin + _HEAD.size <= size:
        length, kind, checksum = _HEAD.unpack_from(content, begin)
        begin += _HEAD.size
        body = view[begin : begin + length]
        if len(body) < length or crc32(body, crc32(_CHECKED.pack(length, kind))) != checksum:
            return
        begin += length
        yield kind, bytes(body)
