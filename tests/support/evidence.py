"""Evidence of an imaginary run: what gateways observed of it, and its state."""

from hypothesis import strategies as st

from router.analysis.criteria import Criteria
from router.analysis.run_key import RunSubject, subject_of
from router.analysis.run_state import RunState, RunStateData
from router.analysis.statistics.records import ArmRecord, Batch, Ended, Join, Ranges, Record, RunCell, RunId
from router.analysis.statistics.shadow_record import ShadowCounts, ShadowRecord
from router.core.ids import CANARY, VersionId
from router.core.scores import ScoreSpec

RANGES = Ranges((5_000, 100_000), (0, 5_000))
SUBJECT = subject_of(
    CANARY, VersionId("sentiment", 7), VersionId("sentiment", 8), "salt", [ScoreSpec()], Criteria()
)
RUN = RunId(SUBJECT.key, 1)
FIRST = 340_000_000
"""Cell in which it began."""


def subject(version: int = 8, model: str = "sentiment") -> RunSubject:
    """The same of another version, or of another model."""
    versions = VersionId(model, 7), VersionId(model, version)
    return subject_of(CANARY, *versions, "salt", [ScoreSpec()], Criteria())


def a_state(cells: int = 0) -> RunStateData:
    """One into which so many cells were folded."""
    state = RunState.begin(SUBJECT.criteria, SUBJECT.output, FIRST)
    for cell in range(FIRST, FIRST + cells):
        state.fold(cell, [observed(10, 2, buckets=range(cell % 1000, cell % 1000 + 12))])
    return state.dump()


def observed(production: int = 10, canary: int = 2, buckets: range = range(4_990, 5_002)) -> RunCell:
    """So many requests of both arms, to these buckets, without a fault."""
    record = Record(RANGES, None, ArmRecord(production), ArmRecord(canary), seen=set(buckets))
    return RunCell(compares=True, began_with=RANGES, records=[record])


buckets = st.sets(st.integers(0, 99_999), max_size=40)
counts = st.integers(0, 2**53 - 1)

# What a cell holds many of is cut out of bytes: drawn one by one it takes ten times as long.


def parts(raw: bytes, size: int) -> list[bytes]:
    """`raw` in pieces of `size` bytes; what is left over is dropped."""
    return [raw[at : at + size] for at in range(0, len(raw) - size + 1, size)]


def number(raw: bytes, numbers: int) -> int:
    """0 to `numbers` − 1."""
    return int.from_bytes(raw) % numbers


def count_by(indexes: int, most: int) -> st.SearchStrategy[dict[int, int]]:
    """Counts by an index, of which there are so many; `most` of them."""
    return st.binary(max_size=9 * most).map(
        lambda raw: {number(one[:2], indexes): number(one[2:], 2**53) for one in parts(raw, 9)}
    )


buckets_of_a_cell = st.sampled_from([set(), {0}, {99_999}, {0, 127, 255, 16_639, 99_999}]) | st.binary(
    max_size=60
).map(lambda raw: {number(one, 100_000) for one in parts(raw, 3)})
rows_by_group = st.binary(max_size=3 * 44).map(
    lambda raw: {
        number(one[:2], 1_024): [number(each, 2**53) for each in parts(one[2:], 7)] for one in parts(raw, 44)
    }
)
first_scores = st.binary(max_size=80).map(
    lambda raw: {number(one[:3], 100_000): number(one[3:], 202) for one in parts(raw, 4)}
)


def arm(
    raw: bytes, durations: dict[int, int], scores: dict[int, int], groups: dict[int, list[int]] | None
) -> ArmRecord:
    """Counts of one arm that do not contradict each other, by 12 bytes."""
    requests = number(raw[:2], 1_001)
    faults, timed, invalid = (number(raw[at : at + 2], requests + 1) for at in (2, 4, 6))
    excused, slow = number(raw[8:10], faults + 1), number(raw[10:], timed + 1)
    return ArmRecord(requests, faults, excused, timed, slow, invalid, durations, scores, groups)


arms = st.builds(
    arm,
    st.binary(min_size=12, max_size=12),
    count_by(301, 5),
    count_by(202, 5),
    st.none() | rows_by_group,
)
halves = st.sampled_from([(0, 50_000), (0, 100_000), (5_000, 100_000), (50_000, 50_000), (49_999, 50_001)])
ranges = st.builds(Ranges, halves, halves)


def shadow_counts(raw: bytes) -> ShadowCounts:
    """Counts that do not contradict each other, and leave room for what a record holds of them."""
    pairs = 1_000 + number(raw[:2], 1_000)
    both, canary, production = (100 + number(raw[at : at + 1], 100) for at in (2, 3, 4))
    agreed, other_type, other_length = (number(raw[at : at + 2], pairs + 1) for at in (5, 7, 9))
    rows = number(raw[11:13], 9_000)
    flips, dropped = number(raw[13:15], rows + 1), number(raw[15:], 2**53)
    return ShadowCounts(
        pairs, production + both, canary + both, both, agreed, other_type, other_length, flips, rows, dropped
    )


def few_by(indexes: int) -> st.SearchStrategy[dict[int, int]]:
    """The same as `count_by`, of which there are few."""
    return count_by(indexes, 5).map(lambda counted: {index: count % 100 for index, count in counted.items()})


shadows = st.builds(
    ShadowRecord,
    st.binary(min_size=22, max_size=22).map(shadow_counts),
    few_by(15),
    few_by(301),
    few_by(301),
    *[buckets_of_a_cell] * 4,
)
records = st.builds(
    Record,
    ranges,
    st.none() | st.floats(1e-6, 600.0),
    arms,
    arms,
    buckets_of_a_cell,
    buckets_of_a_cell,
    buckets_of_a_cell,
    buckets_of_a_cell,
    first_scores,
    counts,
    st.none() | shadows,
)
cells = st.builds(
    RunCell,
    st.booleans(),
    ranges,
    st.lists(records, max_size=3),
    st.none() | count_by(301, 5),
    st.none() | st.binary(max_size=20),
    st.booleans(),
)
keys = st.binary(min_size=16, max_size=16).map(bytes.hex)
some_ids = st.sampled_from(["0" * 16, "0123456789abcdef", "f" * 16])
some_hosts = st.sampled_from(["", "gw-1", "münchen"])
batches = st.builds(
    Batch,
    st.binary(min_size=8, max_size=8).map(bytes.hex),
    st.integers(0, 2**40),
    st.dictionaries(keys, st.tuples(st.integers(1, 2**53 - 1), cells), min_size=1, max_size=2),
    st.lists(st.builds(Join, some_ids, some_ids, some_hosts, st.integers(0, 2**40)), max_size=2),
    st.lists(st.builds(Ended, some_ids, some_hosts), max_size=2),
)
