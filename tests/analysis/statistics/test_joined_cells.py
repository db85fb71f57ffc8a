"""The state of a run, fed with joined cells, has the numbers that the other program computes."""

import pytest

from router.analysis.checks import Criteria
from router.analysis.run_state import RunState
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.records import Ranges, Record, RunCell
from tests.analysis.statistics import golden_numbers as golden
from tests.analysis.statistics.cells import comparing, folded, of_counts, split

FIRST = 1_000_003
"""A cell that is no multiple of a minute, nor of an epoch."""
HALF = split(50_000)


def six(value: float) -> object:
    return pytest.approx(value, rel=1e-6, abs=6e-7)


def started(criteria: Criteria = Criteria()) -> RunState:  # noqa: B008 - frozen
    return RunState.begin(criteria, None, FIRST)


def history(durations: tuple[float, ...]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for seconds in durations:
        counts[bin_of(seconds)] = counts.get(bin_of(seconds), 0) + 1
    return counts


def parts_of(hits: golden.Hits) -> list[RunCell]:
    """One part for each process, and one that only answered well."""
    ranges = Ranges(hits.production, hits.canary)
    parts = [comparing(Record(ranges, None))]
    for index in range(max(len(hits.own), len(hits.calls))):
        record = Record(ranges, None)
        record.faulty = set(hits.own[index]) if index < len(hits.own) else set()
        record.faulty_calls = set(hits.calls[index]) if index < len(hits.calls) else set()
        parts.append(comparing(record))
    return parts


def test_buckets_of_the_union_count_once() -> None:
    state = started()
    found = [
        state.report().faults.cumulative.ln_e
        for _ in folded(state, [parts_of(each) for each in golden.JOINED])
    ]

    assert found == [six(golden.ln_e(looks)) for looks in golden.looks_of(golden.JOINED)]


@pytest.mark.parametrize("margin", [0.005, 0.05])
def test_a_block_of_a_pass_is_a_cell_or_cells(margin: float) -> None:
    state = started(Criteria(max_increase=margin))
    cells = [
        [comparing(of_counts(HALF, None, each[:2], each[2:], slow=False))] for each in golden.REQUESTS_BY_CELL
    ]
    found = [state.report().faults.ln_l for _ in folded(state, cells)]

    assert found == [six(each) for each in golden.ln_l(golden.REQUESTS_BY_CELL, margin)]


@pytest.mark.parametrize("durations", [golden.DURATIONS, golden.FAST_DURATIONS], ids=["slow", "fast"])
def test_the_line_is_beyond_the_95th_percentile(durations: tuple[float, ...]) -> None:
    """Of the histories of all members: here half of it at each of two."""
    state = started()
    halves = history(durations[::2]), history(durations[1::2])
    state.fold(FIRST, [comparing(Record(HALF, None), history=each) for each in halves])

    assert state.line == six(golden.line(durations))


@pytest.mark.parametrize(
    ("check", "seconds", "requests"),
    [
        ("faults", 900, [2] * 1000),
        ("faults", 900, [3] * 1000),
        ("faults", 900, [0] * 200 + [100] * 400),
        ("latency", 3600, [2] * 2000),
    ],
    ids=["two-a-cell", "three-a-cell", "late", "slow"],
)
def test_epochs_end_at_multiples_since_the_first_cell(check: str, seconds: int, requests: list[int]) -> None:
    state, slow = started(), check == "latency"
    state.fold(FIRST, [comparing(Record(HALF, None), history=history(golden.DURATIONS))])
    cells = [[comparing(of_counts(HALF, state.line, (9, 0), (each, 0), slow=slow))] for each in requests[1:]]
    ends, before = [], 1
    for cell in folded(state, cells):
        number = getattr(state.report(), check).epoch_number
        ends += [cell - FIRST] * (number - before)
        before = number

    assert ends == golden.epochs_of([0, *requests[1:]], seconds)
