"""Evidence on disk and on the wire: small, the same when it is read again, and refused where it is not."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.analysis.criteria import Criteria
from router.analysis.evidence_format import (
    BITMAP_BYTES,
    FRAME_BYTES,
    EvidenceRefused,
    decode_batch,
    decode_cell,
    decode_state,
    encode_batch,
    encode_cell,
    encode_state,
    frame,
    frames,
    pack_buckets,
    unpack_buckets,
)
from router.analysis.fleet_membership import OwnMembership
from router.analysis.run_state import RunState
from router.analysis.statistics.cell_recorder import CellRecorder, Observation
from router.analysis.statistics.records import Batch, Ended, Join, RunCell
from router.analysis.statistics.shadow_record import ShadowCounts, ShadowRecord
from router.core.ids import Alias, GatewayId
from router.core.scores import ScoreSpec
from router.core.split import BUCKETS, Split
from tests.support.evidence import SUBJECT, a_state, batches, buckets, cells, observed

# Sets of buckets


@given(buckets)
def test_a_set_of_buckets_is_the_same_when_it_is_read(buckets: set[int]) -> None:
    packed = pack_buckets(buckets)

    assert unpack_buckets(packed) == sorted(buckets)
    assert len(packed) <= 3 * len(buckets)


@pytest.mark.parametrize("count", [0, 1, 12_499, 12_500, 60_000, BUCKETS])
def test_a_set_takes_no_more_than_a_bitmap_however_many_there_are(count: int) -> None:
    chosen = set(random.Random(count).sample(range(BUCKETS), count))
    packed = pack_buckets(chosen)

    assert len(packed) <= BITMAP_BYTES
    assert unpack_buckets(packed) == sorted(chosen)


def test_neighbours_take_a_byte_each() -> None:
    assert len(pack_buckets(range(10_000))) == 10_000
    assert len(pack_buckets({0, 99_999})) == 4


@given(st.binary(max_size=60))
def test_whatever_else_a_set_holds_it_is_in_range_or_refused(packed: bytes) -> None:
    try:
        found = unpack_buckets(packed)
    except EvidenceRefused:
        return
    assert found == sorted(set(found))
    assert all(0 <= bucket < BUCKETS for bucket in found)


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (b"\x80", "ends within a number"),
        (b"\xff\xff\xff\x01", "too large"),
        (b"\xff\xff\x7f", "out of range"),
        (pack_buckets({99_999}) + b"\x00", "out of range"),
    ],
)
def test_a_set_that_holds_no_buckets_is_refused(packed: bytes, why: str) -> None:
    with pytest.raises(EvidenceRefused, match=why):
        unpack_buckets(packed)


# Cells and batches


@given(cells)
def test_a_cell_is_the_same_when_it_is_read(cell: RunCell) -> None:
    assert decode_cell(encode_cell(cell)) == cell


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, BUCKETS - 1),
            st.sampled_from(["answer", "fault", "batch", "excused", "hung up"]),
            st.sampled_from([0.004, 0.2]),
            st.none() | st.integers(0, 30),
        ),
        max_size=12,
    ),
    st.sampled_from([None, 0.025]),
)
def test_whatever_is_observed_can_be_read(
    requests: list[tuple[int, str, float, int | None]], line: float | None
) -> None:
    """Callers who hang up after the line are slow answers of no request."""
    split = Split(50_000)
    recorder = CellRecorder(Alias("canary"), split, line, ScoreSpec())
    for bucket, what, seconds, bin_index in requests:
        fault = what in ("fault", "batch", "excused")
        recorder.observe(
            Observation(
                bucket,
                bucket < 50_000,
                split,
                fault,
                None if fault else seconds,
                bin_index,
                3 if what == "batch" else None,
                what == "excused" and bucket < 50_000,
                what == "hung up",
            )
        )
    cell = RunCell(True, recorder.ranges, recorder.drain(groups=True))

    assert decode_cell(encode_cell(cell)) == cell


@given(batches)
@example(Batch("0" * 16, 0))
@settings(max_examples=40)
def test_a_batch_is_the_same_when_it_is_read(batch: Batch) -> None:
    assert decode_batch(encode_batch(batch)) == batch


def test_the_longest_name_that_a_gateway_gives_its_host_can_be_read() -> None:
    """Else nobody ever reads its batches."""
    join = OwnMembership(GatewayId("0" * 16, "gw-ä" * 100)).begin(5)
    batch = Batch(join.member, 4, joins=[join], killed=[Ended(join.process, join.host)])

    assert decode_batch(encode_batch(batch)) == batch


@pytest.mark.parametrize("host", ["gw\n1", "gw\x1b[2J"])
def test_a_name_that_moves_a_cursor_is_refused(host: str) -> None:
    join, ended = Join("0" * 16, "0" * 16, host, 5), Ended("0" * 16, host)

    for batch in (Batch("0" * 16, 4, joins=[join]), Batch("0" * 16, 4, killed=[ended])):
        with pytest.raises(EvidenceRefused, match="not printable"):
            decode_batch(encode_batch(batch))


@given(cells, st.data())
@settings(max_examples=60)
def test_a_part_of_a_cell_is_refused(cell: RunCell, data: st.DataObject) -> None:
    packed = encode_cell(cell)
    with pytest.raises(EvidenceRefused):
        decode_cell(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(EvidenceRefused):
        decode_cell(packed + b"\x00")


@given(cells, st.data())
@settings(max_examples=100)
def test_what_was_changed_is_read_as_something_valid_or_refused_and_raises_nothing_else(
    cell: RunCell, data: st.DataObject
) -> None:
    packed = bytearray(encode_cell(cell))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_cell(bytes(packed))
    except EvidenceRefused:
        return
    assert decode_cell(encode_cell(found)) == found


def changed(place: tuple[Any, ...], value: Any) -> bytes:
    """A cell of one record in which one field, by its place, is another."""
    document = msgspec.msgpack.decode(encode_cell(observed()))
    inner = document
    for index in place[:-1]:
        inner = inner[index]
    inner[place[-1]] = value
    return msgspec.msgpack.encode(document)


RECORD = (2, 0)
PRODUCTION, CANARY = (*RECORD, 2), (*RECORD, 3)
BAD = {
    "not a boolean": ((0,), 1),
    "range upside down": ((1, 0), [9, 5]),
    "range too large": ((1, 0), [0, 100_001]),
    "line below zero": ((*RECORD, 1), -0.1),
    "line of days": ((*RECORD, 1), 1e6),
    "line not a number": ((*RECORD, 1), float("nan")),
    "more faults than requests": ((*PRODUCTION, 1), 11),
    "more excused than faults": ((*CANARY, 2), 1),
    "more slow than timed": ((*CANARY, 4), 1),
    "requests below zero": ((*PRODUCTION, 0), -1),
    "requests beyond all counting": ((*PRODUCTION, 0), 2**53),
    "requests as text": ((*PRODUCTION, 0), "10"),
    "requests as a fraction": ((*PRODUCTION, 0), 10.5),
    "a bin that does not exist": ((*PRODUCTION, 6), {100_000: 1}),
    "a score in no bin": ((*PRODUCTION, 7), {202: 1}),
    "a group that does not exist": ((*PRODUCTION, 8), {1_024: [0] * 6}),
    "a group of five": ((*PRODUCTION, 8), {1: [0] * 5}),
    "a group that sums to less than nothing": ((*PRODUCTION, 8), {1: [0, 0, 0, 0, 0, -1]}),
    "a duration that came less than never": ((*PRODUCTION, 6), {3: -1}),
    "a bucket beyond the last": ((*RECORD, 4), b"\xa0\x8d\x06"),
    "a first score without its bucket": ((*RECORD, 9), b"\x01"),
    "a set as a list": ((*RECORD, 4), [1, 2]),
    "a set that is too long": ((*RECORD, 4), bytes(BITMAP_BYTES + 1)),
    "too many records": ((2,), [None] * 65),
}


@pytest.mark.parametrize(("place", "value"), BAD.values(), ids=BAD)
def test_what_is_out_of_range_is_refused_with_a_sentence_that_quotes_nothing(
    place: tuple[Any, ...], value: Any
) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        decode_cell(changed(place, value))

    assert str(value) not in str(refused.value)
    assert str(refused.value)


def a_shadow() -> ShadowRecord:
    """Ten pairs, three of which failed."""
    counts = ShadowCounts(10, 2, 2, 1, 6, 1, 1, 3, 40, 5)
    return ShadowRecord(counts, {0: 3, 14: 2}, {7: 7}, {300: 7}, {1}, {99_999}, {4, 5}, {6})


def with_shadow(place: tuple[int, ...] = (), value: Any = None) -> bytes:
    """A cell of one record with pairs, in which one field of them is another."""
    cell = observed()
    cell.records[0].shadow = a_shadow()
    document = msgspec.msgpack.decode(encode_cell(cell))
    inner = document[2][0][11]
    for index in place[:-1]:
        inner = inner[index]
    if place:
        inner[place[-1]] = value
    return msgspec.msgpack.encode(document)


BAD_SHADOWS = {
    "fewer pairs than faults": ((0, 0), 2),
    "more faults of both than of one": ((0, 3), 3),
    "more that agree than pairs": ((0, 4), 11),
    "more of another type than pairs": ((0, 5), 11),
    "more flips than rows": ((0, 7), 41),
    "dropped below zero": ((0, 9), -1),
    "dropped beyond all counting": ((0, 9), 2**53),
    "a difference in no bin": ((1,), {15: 1}),
    "more differences than pairs": ((1,), {1: 8}),
    "a bin that does not exist": ((2,), {100_000: 1}),
    "more durations than pairs": ((3,), {1: 8}),
    "more buckets than faults of the canary": ((4,), pack_buckets({1, 2})),
    "more buckets than faults of production": ((5,), pack_buckets({1, 2})),
    "a bucket beyond the last": ((4,), b"\xa0\x8d\x06"),
    "more buckets than scores": ((6,), pack_buckets(set(range(8)))),
    "a set that is too long": ((7,), bytes(BITMAP_BYTES + 1)),
}


@pytest.mark.parametrize(("place", "value"), BAD_SHADOWS.values(), ids=BAD_SHADOWS)
def test_pairs_that_can_not_be_are_refused(place: tuple[int, ...], value: Any) -> None:
    assert decode_cell(with_shadow()).records[0].shadow == a_shadow()
    with pytest.raises(EvidenceRefused):
        decode_cell(with_shadow(place, value))


def test_a_record_without_pairs_is_written_as_a_former_version_writes_it() -> None:
    """That one refuses a longer record, so it could not be in a fleet with this one."""
    document = msgspec.msgpack.decode(encode_cell(observed()))
    assert len(document[2][0]) == 11

    document = msgspec.msgpack.decode(with_shadow())
    assert len(document[2][0]) == 12


def test_a_state_that_a_former_version_wrote_can_be_read() -> None:
    data = a_state(3)
    document = msgspec.msgpack.decode(encode_state(data))
    assert document.pop() is None

    assert decode_state(msgspec.msgpack.encode(document)) == data


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda shadow: setattr(shadow, "differed", bytearray(3)), "had a pair"),
        (lambda shadow: setattr(shadow.epoch, "used", bytearray(3)), "had a pair"),
        (lambda shadow: setattr(shadow.counts, "canary_faults", 7), "contradict"),
        (lambda shadow: setattr(shadow, "raised", 2**60), "out of range"),
    ],
)
def test_a_state_of_pairs_that_can_not_be_is_refused(change: Any, why: str) -> None:
    data = RunState.begin(Criteria(shadow=True), None, 5).dump()
    assert decode_state(encode_state(data)) == data

    change(data.shadow)
    with pytest.raises(EvidenceRefused, match=why):
        decode_state(encode_state(data))


def test_a_key_never_stands_in_a_refusal() -> None:
    packed = msgspec.msgpack.encode(["user-4711@example.com", 0, {}])
    with pytest.raises(EvidenceRefused) as refused:
        decode_batch(packed)
    assert "4711" not in str(refused.value)


# States


@pytest.mark.parametrize("cells", [0, 30])
def test_a_state_goes_on_as_the_one_that_was_written_to_the_last_bit(cells: int) -> None:
    data = a_state(cells)
    read = decode_state(encode_state(data))
    assert read == data

    one = RunState.load(data, SUBJECT.criteria, SUBJECT.output)
    other = RunState.load(read, SUBJECT.criteria, SUBJECT.output)
    for state in (one, other):
        state.fold(data.horizon + 1, [observed()])
    assert one.dump() == other.dump()
    assert one.digest() == other.digest()


def test_a_state_takes_no_more_than_300_kb_however_much_was_folded() -> None:
    assert len(encode_state(a_state(30))) < 300_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events", bytes(99_999)),
        ("line", float("inf")),
        ("left_out", 2**60),
        ("horizon", 3),
        ("first_cell", -5),
        ("excused", "none"),
    ],
)
def test_a_state_that_is_out_of_range_is_refused(name: str, value: Any) -> None:
    data = a_state()
    setattr(data, name, value)
    with pytest.raises(EvidenceRefused):
        decode_state(encode_state(data))


def test_a_part_of_a_state_is_refused() -> None:
    packed = encode_state(a_state())
    for size in (0, 1, 100, len(packed) // 2, len(packed) - 1):
        with pytest.raises(EvidenceRefused):
            decode_state(packed[:size])


# Frames


def test_frames_end_where_one_is_not_whole() -> None:
    bodies = [b"", b"one", bytes(1_000)]
    content = b"".join(frame(kind, body) for kind, body in enumerate(bodies))
    assert list(frames(content)) == list(enumerate(bodies))
    ends = [sum(FRAME_BYTES + len(body) for body in bodies[:count]) for count in range(1, 4)]

    for size in range(len(content)):
        whole = sum(1 for end in ends if end <= size)
        assert list(frames(content[:size])) == list(enumerate(bodies))[:whole]


def test_a_flipped_bit_is_found_wherever_it_is() -> None:
    content = frame(3, b"so many requests") + frame(4, b"and so many more")
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            found = list(frames(bytes(damaged)))
            assert found == ([] if place < FRAME_BYTES + 16 else [(3, b"so many requests")])


def test_what_a_machine_that_went_down_left_as_zeros_is_no_frame() -> None:
    content = frame(3, b"counted")
    assert list(frames(content + bytes(4_096))) == [(3, b"counted")]
