"""What one process observes of a run: counted once, by the split that routed it, in parts that add up."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.cell_recorder import (
    FAULT_CELLS,
    SLOW_CELLS,
    CellRecorder,
    Observation,
    ranges_of,
)
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.records import Ranges, Record, first_score, merge
from router.core.ids import CANARY, Alias
from router.core.score_events import ReadScore
from router.core.scores import SCORED_LATER, ClassSpec, ScoreSpec
from router.core.split import Split

SPLIT, WIDER = Split(5_000), Split(25_000)
SCORE = ScoreSpec(0, 0.0, 1.0, 20)
LINE = 0.1


def recorder(split: Split = SPLIT, line: float | None = LINE, **said: Any) -> CellRecorder:
    return CellRecorder(**{"alias": CANARY, "split": split, "line": line, "output": None, **said})


def request(bucket: int, split: Split = SPLIT, **said: Any) -> Observation:
    facts: dict[str, Any] = {
        "bucket": bucket,
        "canary": bucket < split.canary,
        "split": split,
        "fault": False,
        "seconds": None if said.get("fault") else 0.01,
        "bin_index": None,
        "blamed_batch": None,
        "excused": False,
    }
    return Observation(**{**facts, **said})


def only(records: Iterable[Record]) -> Record:
    [record] = records
    return record


def observed(seen: CellRecorder, *requests: Observation, groups: bool = False) -> list[Record]:
    for one in requests:
        seen.observe(one)
    return seen.drain(groups=groups)


def test_a_record_counts_what_came_since_the_last_one() -> None:
    seen = recorder(output=SCORE)
    first = only(
        observed(
            seen,
            request(1, bin_index=3),
            request(2, fault=True, excused=True),
            request(3, seconds=0.5, bin_index=20),
            request(60_000),
            request(60_000, fault=True),
        )
    )
    canary, production = first.canary, first.production

    assert (canary.requests, canary.faults, canary.excused, canary.timed, canary.slow) == (3, 1, 1, 2, 1)
    assert (production.requests, production.faults, production.timed, production.slow) == (2, 1, 1, 0)
    assert (canary.scores, canary.invalid, production.invalid) == ({3: 1, 20: 1}, 0, 1)
    assert canary.durations == {bin_of(0.01): 1, bin_of(0.5): 1}
    assert (first.faulty, first.slow, first.seen) == ({2, 60_000}, {3}, {1, 2, 3, 60_000})
    assert first.first_scores == {1: 3, 3: 20}
    assert canary.groups is None

    second = only(observed(seen, request(1), request(4)))
    assert (second.canary.requests, second.seen, second.first_scores) == (2, {4}, {})
    assert seen.drain(groups=False) == []


def test_counts_by_group_hold_all_since_they_were_asked_for_last() -> None:
    seen = recorder(output=SCORE)
    observed(seen, request(1, bin_index=0), request(1 + 1024, fault=True))
    record = only(observed(seen, request(1, seconds=1.0, bin_index=19), groups=True))
    units = [round(middle * 2**20) for middle in (0.025, 0.975)]

    assert record.canary.requests == 1
    assert record.canary.groups == {1: [3, 1, 2, 1, 2, sum(units)]}
    assert record.production.groups == {}
    assert only(observed(seen, request(2), groups=True)).canary.groups == {2: [1, 0, 1, 0, 0, 0]}


def test_a_bucket_is_reported_once_per_event_and_again_when_an_epoch_may_begin() -> None:
    seen = recorder()
    both = [request(7, fault=True), request(8, seconds=1.0), request(9, fault=True, blamed_batch=1)]

    def reported(cells: int, batch: int) -> tuple[set[int], set[int], set[int]]:
        seen.begin_cell(cells)
        record = only(observed(seen, *both[:2], both[2]._replace(blamed_batch=batch)))
        return record.faulty, record.slow, record.faulty_calls

    assert reported(1, 1) == ({7}, {8}, {9})
    assert reported(2, 2) == (set(), set(), set())
    assert reported(FAULT_CELLS, 3) == ({7}, set(), {9})
    assert reported(SLOW_CELLS, 4) == ({7}, {8}, {9})


def test_a_call_that_failed_as_a_whole_is_one_event_of_its_first_bucket() -> None:
    seen = recorder()
    record = only(
        observed(seen, *(request(bucket, fault=True, blamed_batch=5) for bucket in (11, 12, 13)), request(12))
    )

    assert (record.canary.requests, record.canary.faults) == (4, 3)
    assert (record.faulty, record.faulty_calls) == (set(), {11})


def test_a_bucket_may_fault_in_a_call_and_by_itself() -> None:
    """Which of both it counts as is settled where the records of all gateways are joined."""
    record = only(observed(recorder(), request(11, fault=True, blamed_batch=5), request(11, fault=True)))

    assert (record.faulty, record.faulty_calls) == ({11}, {11})


def test_of_the_scores_of_a_bucket_in_one_cell_the_same_is_the_first_in_whatever_order_they_come() -> None:
    bins = [3, 18, 21, 0]
    for bucket in (0, 5, 19):
        wanted = bins[0]
        for one in bins[1:]:
            wanted = first_score(bucket, wanted, one, SCORE.index_count)
        for seed in range(10):
            shuffled = random.Random(seed).sample(bins, k=4)
            seen = recorder(output=SCORE)
            reported: dict[int, int] = {}
            for bin_index in shuffled:
                for record in observed(seen, request(bucket, bin_index=bin_index)):
                    reported |= record.first_scores
            assert reported == {bucket: wanted}
            seen.begin_cell(1)
            later = only(observed(seen, request(bucket, bin_index=(bucket - 1) % 22), request(bucket)))
            assert later.first_scores == {}, "in a later cell no further one is the first"


def test_a_score_that_can_not_be_counted_is_none() -> None:
    seen = recorder(output=ClassSpec("label", ("a", "b")))
    record = only(observed(seen, *(request(1, bin_index=index) for index in (None, -2, 3, 2)), groups=True))

    assert (record.canary.scores, record.canary.invalid) == ({2: 1}, 3)
    assert record.canary.groups == {1: [4, 0, 4, 0, 0, 0]}


def test_a_request_counts_by_the_split_that_routed_it_whatever_is_configured_since() -> None:
    seen = recorder()
    seen.observe(request(1))
    seen.change_split(WIDER)
    seen.observe(request(20_000, WIDER))
    seen.observe(request(20_000, SPLIT))  # production had it then
    seen.observe(request(1, WIDER, fault=True))
    before, late, now = seen.drain(groups=False)

    assert [one.ranges for one in (before, late, now)] == [
        Ranges((5_000, 100_000), (0, 5_000)),
        Ranges((5_000, 100_000), (0, 5_000)),
        Ranges((25_000, 100_000), (0, 25_000)),
    ]
    assert (before.canary.requests, late.production.requests, now.canary.requests) == (1, 1, 2)
    assert now.faulty == {1}
    assert before.canary.groups == {1: [1, 0, 1, 0, 0, 0]}, "nobody asks for what is over"
    assert late.production.groups is not None
    assert now.canary.groups is None


def test_what_a_bucket_did_by_a_former_split_is_reported_by_the_new_one_too() -> None:
    seen = recorder()
    observed(seen, request(1, fault=True))
    seen.change_split(WIDER)
    before, late, now = observed(seen, request(1, SPLIT, fault=True), request(1, WIDER, fault=True))

    assert (before.faulty, late.faulty, now.faulty) == (set(), {1}, {1})
    assert before.canary.groups == {1: [1, 1, 0, 0, 0, 0]}


def test_the_same_shares_read_anew_are_the_same_split() -> None:
    seen = recorder()
    observed(seen, request(1, fault=True))
    seen.change_split(Split(5_000))
    record = only(observed(seen, request(1, Split(5_000), fault=True), request(2, fault=True)))

    assert (record.canary.requests, record.faulty) == (2, {2})


def test_requests_of_too_many_splits_are_left_out_and_counted() -> None:
    seen = recorder()
    for canary in range(1, 5):
        seen.observe(request(50_000, Split(canary)))
    records = seen.drain(groups=False)

    assert sum(record.production.requests for record in records) == 2
    assert sum(record.left_out for record in records) == 2


def test_a_request_whose_bucket_is_not_of_the_arm_that_had_it_is_left_out() -> None:
    record = only(observed(recorder(), request(7, canary=False), request(60_000, canary=True)))

    assert (record.left_out, record.seen, record.canary.requests) == (2, set(), 0)


def test_another_line_begins_another_record_and_a_bucket_may_be_slow_by_it_again() -> None:
    seen = recorder(line=None)
    seen.observe(request(1, seconds=5.0))
    seen.change_line(LINE)
    seen.change_line(LINE)
    before, now = observed(seen, request(1, seconds=5.0, fault=False), request(1, seconds=5.0))

    assert (before.line, before.canary.timed, before.canary.requests) == (None, 0, 1)
    assert (now.line, now.canary.timed, now.canary.slow, now.slow) == (LINE, 2, 2, {1})
    assert now.seen == set(), "it was seen before"
    assert before.canary.groups is not None


def test_who_hung_up_counts_as_slow_or_as_nothing() -> None:
    gone = [
        request(bucket, seconds=took, abandoned=True) for bucket, took in ((1, 0.05), (2, 0.5), (60_000, 9))
    ]
    record = only(observed(recorder(), *gone, groups=True))

    assert (record.canary.requests, record.canary.timed, record.canary.slow) == (0, 1, 1)
    assert (record.production.timed, record.production.slow) == (1, 1)
    assert record.seen == {1, 2, 60_000}
    assert record.canary.groups == {2: [0, 0, 1, 1, 0, 0]}
    assert observed(recorder(line=None), request(1, abandoned=True)) != []


def test_an_outage_is_25_of_the_last_50_requests_of_the_canary_in_this_step() -> None:
    seen = recorder()
    excused = [request(n, fault=True, excused=True) for n in range(30)]
    observed(seen, *excused, *(request(60_000 + n, fault=True) for n in range(60)))
    assert not seen.outage.broken
    observed(seen, *(request(n, fault=True) for n in range(24)))
    assert not seen.outage.broken
    observed(seen, request(24, fault=True))
    assert seen.outage.broken
    seen.change_split(WIDER)
    assert not seen.outage.broken


def test_after_a_step_began_for_all_gateways_what_did_not_count_is_reported_again() -> None:
    seen = recorder()
    observed(seen, request(7, fault=True))
    seen.report_anew()
    record = only(observed(seen, request(7, fault=True)))

    assert (record.faulty, record.seen) == ({7}, {7})


def test_a_further_alias_owns_the_highest_buckets() -> None:
    challenger = Alias("challenger")
    split = Split(10_000, (challenger, 20_000))
    seen = recorder(split, alias=challenger)
    record = only(observed(seen, request(85_000, split, canary=True), request(50_000, split, canary=False)))

    assert ranges_of(split, challenger) == Ranges((10_000, 80_000), (80_000, 100_000))
    assert (record.canary.requests, record.production.requests, record.left_out) == (1, 1, 0)


requests = st.lists(
    st.builds(
        request,
        st.sampled_from([1, 2, 1025, 4_999, 5_000, 60_000, 99_999]),
        fault=st.booleans(),
        bin_index=st.none() | st.integers(0, 21),
        blamed_batch=st.none() | st.integers(1, 3),
        excused=st.booleans(),
        abandoned=st.booleans(),
    ),
    max_size=60,
)


@given(requests, st.lists(st.booleans(), min_size=60, max_size=60))
def test_the_parts_of_a_cell_merge_to_the_cell(seen: list[Observation], ends: list[bool]) -> None:
    """Whenever what came since the last time is asked for: it is written each second."""
    whole = recorder(output=SCORE)
    at_once = observed(whole, *seen, groups=True)
    in_parts, merged = recorder(output=SCORE), Record(whole.ranges, LINE)
    for one, end in zip(seen, ends, strict=False):
        in_parts.observe(one)
        for record in in_parts.drain(groups=False) if end else ():
            merge(merged, record, SCORE.index_count)
    for record in in_parts.drain(groups=True):
        merge(merged, record, SCORE.index_count)

    if at_once:
        assert merged == only(at_once)


@pytest.mark.parametrize("bucket", [0, 4_999, 5_000, 99_999])
def test_whose_a_bucket_is_ends_where_the_range_does(bucket: int) -> None:
    record = only(observed(recorder(), request(bucket)))

    assert (record.canary.requests, record.production.requests) == ((1, 0) if bucket < 5_000 else (0, 1))


# Scores that are read after the answer went out


def merged(records: Iterable[Record]) -> Record:
    whole = Record(ranges_of(SPLIT, CANARY), LINE)
    for record in records:
        merge(whole, record, SCORE.index_count)
    return whole


@pytest.mark.parametrize("seed", range(10))
def test_scores_that_come_later_add_up_to_what_they_would_have_been(seed: int) -> None:
    """Of one cell, in whatever order, in however many records: but for those that are never read."""
    rng = random.Random(seed)
    scored = [
        request(bucket, seconds=rng.choice((0.01, 0.5)), bin_index=rng.choice((*range(22), None)))
        for bucket in rng.choices((*range(20), *range(60_000, 60_030)), k=200)
    ]
    at_once, later = recorder(output=SCORE), recorder(output=SCORE)
    of_later, under_way = [], []
    for one in scored:
        later.observe(one._replace(bin_index=SCORED_LATER))
        under_way.append(one)
        if rng.random() < 0.1:
            of_later += later.drain(groups=rng.random() < 0.5)
        while under_way and rng.random() < 0.6:
            read = under_way.pop(0)
            later.score(ReadScore(read.bucket, read.split, read.bin_index), canary=read.canary)
    for read in under_way:
        later.score(ReadScore(read.bucket, read.split, read.bin_index), canary=read.canary)
    of_later += later.drain(groups=True)
    expected = merged(observed(at_once, *scored, groups=True))
    whole = merged(of_later)

    assert whole == expected
    for record in of_later:
        assert record.production.invalid <= record.production.requests
        assert record.canary.invalid <= record.canary.requests


def test_scores_that_are_never_read_are_neither_counted_nor_invalid() -> None:
    seen = recorder(output=SCORE)
    record = only(observed(seen, *[request(1, bin_index=SCORED_LATER)] * 3, groups=True))

    assert (record.canary.requests, record.canary.invalid, record.canary.scores) == (3, 0, {})
    assert record.canary.groups == {1: [3, 0, 3, 0, 0, 0]}


def test_more_scores_without_a_number_than_requests_of_a_record_wait_for_later_ones() -> None:
    """Whoever reads a record refuses one with more of them than requests."""
    seen = recorder(output=SCORE)
    observed(seen, *[request(1, bin_index=SCORED_LATER)] * 3)
    for _ in range(3):
        seen.score(ReadScore(1, SPLIT, None), canary=True)

    assert seen.drain(groups=False) == []
    assert [only(observed(seen, request(1, bin_index=5))).canary.invalid for _ in range(4)] == [1, 1, 1, 0]


def test_scores_without_a_number_that_wait_for_a_record_outlast_another_line() -> None:
    seen = recorder(output=SCORE)
    observed(seen, *[request(1, bin_index=SCORED_LATER)] * 3)
    for _ in range(3):
        seen.score(ReadScore(1, SPLIT, None), canary=True)
    seen.change_line(0.125)

    assert only(seen.drain(groups=False)).canary.invalid == 0, (
        "it has no requests but those of a record before"
    )
    assert [only(observed(seen, request(1, bin_index=5))).canary.invalid for _ in range(4)] == [1, 1, 1, 0]


def test_a_later_score_counts_by_the_split_that_routed_its_request() -> None:
    seen = recorder(output=SCORE)
    observed(seen, request(1, bin_index=SCORED_LATER), groups=True)
    seen.change_split(WIDER)
    seen.score(ReadScore(1, SPLIT, 4), canary=True)
    seen.score(ReadScore(20_000, WIDER, 6), canary=True)
    seen.score(ReadScore(20_000, WIDER, 7), canary=False)
    before, after = (record for record in seen.drain(groups=True) if record.first_scores)

    assert (before.ranges, before.canary.scores, before.first_scores) == (
        ranges_of(SPLIT, CANARY),
        {4: 1},
        {1: 4},
    )
    assert (after.ranges, after.canary.scores, after.production.scores) == (
        ranges_of(WIDER, CANARY),
        {6: 1},
        {},
    )


def test_a_later_score_of_what_is_not_counted_is_left_out() -> None:
    seen = recorder()
    observed(seen, request(1, bin_index=SCORED_LATER))
    seen.score(ReadScore(1, SPLIT, 4), canary=True)

    assert seen.drain(groups=True)[0].canary.scores == {}
