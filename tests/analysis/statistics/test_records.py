"""Records of one cell merge in any order."""

import random
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.records import (
    UNITS_OF_RANGE,
    ArmRecord,
    Ranges,
    Record,
    first_score,
    joined,
    merge,
    score_units,
)
from router.analysis.statistics.shadow_record import ShadowCounts, ShadowRecord
from router.core.scores import ClassSpec, ScoreSpec

SPLIT = Ranges((5_000, 100_000), (0, 5_000))
INDEXES = 7
COUNT = st.integers(0, 50)
BUCKETS = st.sets(st.integers(0, 30), max_size=6)
SPARSE = st.dictionaries(st.integers(0, 9), st.integers(1, 9), max_size=4)
GROUPS = st.none() | st.dictionaries(
    st.integers(0, 4), st.lists(st.integers(0, 9), min_size=6, max_size=6), max_size=3
)
ARMS = st.builds(ArmRecord, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, SPARSE, SPARSE, GROUPS)
PAIRS = st.builds(
    ShadowRecord, st.builds(ShadowCounts, *[COUNT] * 10), SPARSE, SPARSE, SPARSE, *[BUCKETS] * 4
)
FIRSTS = st.dictionaries(st.integers(0, 30), st.integers(0, INDEXES - 1), max_size=6)


def records(line: float | None = 0.02) -> Any:
    return st.builds(
        Record,
        *map(st.just, (SPLIT, line)),
        *[ARMS] * 2,
        *[BUCKETS] * 4,
        FIRSTS,
        COUNT,
        st.none() | PAIRS,
    )


def merged(each: list[Record]) -> Record:
    into = Record(SPLIT, 0.02)
    for one in each:
        merge(into, one, INDEXES)
    return into


def copied(record: Record) -> Record:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record)


@given(st.lists(records(), min_size=2, max_size=3))
def test_they_merge_in_any_order(each: list[Record]) -> None:
    before = [copied(one) for one in each]
    wholes = [merged(list(order)) for order in permutations(each)]

    assert all(whole == wholes[0] for whole in wholes)
    assert each == before, "what is merged is not changed by it"
    for one, other in zip(each, before, strict=True):
        assert one == other


@given(records(), records(), records())
def test_they_merge_in_any_groups(one: Record, two: Record, three: Record) -> None:
    left, right = merged([merged([one, two]), three]), merged([one, merged([two, three])])

    assert left == right
    assert merged([left]) == left
    assert copied(left) == left


@given(records())
def test_what_is_merged_shares_nothing_with_the_whole(one: Record) -> None:
    before = copied(one)
    whole = merged([one])
    merge(whole, one, INDEXES)
    for taken in (whole.faulty, whole.faulty_calls, whole.slow, whole.seen):
        taken.add(99)
    if whole.shadow is not None:
        whole.shadow.canary_alone.add(99)
        whole.shadow.differences[3] = 99
    for arm in (whole.production, whole.canary):
        for counts in (arm.groups or {}).values():
            counts[0] += 1

    assert one == before


@pytest.mark.parametrize(
    "other", [Record(Ranges((1, 100_000), (0, 1)), 0.02), Record(SPLIT, 0.03), Record(SPLIT, None)]
)
def test_other_splits_and_lines_do_not_add_up(other: Record) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        merge(Record(SPLIT, 0.02), other, INDEXES)


@given(st.lists(records() | records(0.03) | records(None), max_size=4))
def test_joined_they_say_of_slow_answers_what_was_held_against_the_line(each: list[Record]) -> None:
    foreign = Record(Ranges((1, 100_000), (0, 1)), 0.02, ArmRecord(9, 9), faulty={1})
    whole = joined([*each, foreign], SPLIT, 0.02, INDEXES)

    for arm in ("production", "canary"):
        counted = [getattr(one, arm) for one in each]
        timed = [getattr(one, arm) for one in each if one.line == 0.02]
        assert getattr(whole, arm).requests == sum(one.requests for one in counted)
        assert getattr(whole, arm).timed == sum(one.timed for one in timed)
        for column, of in enumerate((counted, counted, timed, timed, counted, counted)):
            by_group = sum(row[column] for one in of for row in (one.groups or {}).values())
            assert sum(row[column] for row in (getattr(whole, arm).groups or {}).values()) == by_group
    pairs = [one.shadow for one in each if one.shadow is not None]
    assert (whole.shadow is None) == (not pairs)
    if whole.shadow is not None:  # whatever line they were told by, which is of no matter to them
        assert whole.shadow.counts.pairs == sum(one.counts.pairs for one in pairs)
        assert whole.shadow.raised == set().union(*(one.raised for one in pairs))
    assert whole.faulty == set().union(*(one.faulty for one in each))
    assert whole.slow == set().union(*(one.slow for one in each if one.line == 0.02))
    assert joined(each, SPLIT, None, INDEXES).slow == set()


def test_the_first_score_of_a_bucket_favours_no_bin() -> None:
    """Over all buckets each of two equally likely bins is taken as often."""
    drawn, taken = random.Random(5), [0] * INDEXES
    for bucket in range(21_000):
        taken[first_score(bucket, drawn.randrange(INDEXES), drawn.randrange(INDEXES), INDEXES)] += 1

    assert all(count == pytest.approx(3_000, rel=0.1) for count in taken)
    assert [first_score(bucket, 0, 6, 7) for bucket in range(8)] == [0, 6, 6, 6, 6, 6, 6, 0]


def test_units_of_scores_are_whole_numbers_of_the_range() -> None:
    units = score_units(ScoreSpec(0, -1.0, 3.0, 4))

    assert units == tuple(part * UNITS_OF_RANGE // 8 for part in (1, 3, 5, 7, 1, 7))
    assert score_units(ClassSpec(0, ("a", "b"))) == (0, 0, 0)
    assert score_units(ScoreSpec(0, -1.7e308, 1.7e308, 1)) == (UNITS_OF_RANGE // 2,) * 3
