"""The state of a run, fed with joined cells, has the numbers that the other program computes."""

import numpy as np
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
        ("latency", 3600, [2] * 800),
    ],
    ids=["two-a-cell", "three-a-cell", "late", "slow"],
)
def test_epochs_end_at_multiples_since_the_first_cell(check: str, seconds: int, requests: list[int]) -> None:
    state, slow = started(), check == "latency"
    state.fold(FIRST, [comparing(Record(HALF, None), history=history(golden.DURATIONS))])
    cells = [[comparing(of_counts(HALF, state.line, (9, 0), (each, 0), slow=slow))] for each in requests[1:]]
    rate = state._latency if slow else state._faults
    numbers = [1, *(rate.state.epoch_number for _ in folded(state, cells))]
    ends = [index for index in range(1, len(numbers)) if numbers[index] > numbers[index - 1]]

    assert ends == golden.epochs_of([0, *requests[1:]], seconds)


def test_a_block_of_time_is_the_fewest_cells_in_a_row() -> None:
    """The run's first cell has no answers, only the history by which the line is known."""
    state = started()
    state.fold(FIRST, [comparing(Record(HALF, None), history=history(golden.DURATIONS))])
    cells = [
        [comparing(of_counts(HALF, state.line, each[:2], each[2:], slow=True))]
        for each in golden.TIMED_BY_CELL
    ]
    betting = state._latency.state.betting
    assert betting is not None
    found = [betting.ln_e for _ in folded(state, cells)]
    blocks = golden.blocks_of([(0, 0, 0, 0), *golden.TIMED_BY_CELL])

    assert found[-1] == six(golden.ln_e_of_blocks([difference for _, difference in blocks]))


@pytest.mark.parametrize("seed", range(2))
def test_any_cells_have_the_numbers_of_the_other_program(seed: int) -> None:
    """Several processes, of which two may report one bucket; a share that is raised, and one that lags."""
    drawn, state, cells, counts = np.random.default_rng(seed), started(), list[golden.Hits](), []
    for index in range(400):
        canary = 5_000 if index < 150 else 25_000
        hits = [set(drawn.integers(0, 60_000, drawn.poisson(0.4)).tolist()) for _ in range(3)]
        calls = [set(drawn.integers(0, 60_000, drawn.poisson(0.1)).tolist()) for _ in range(3)]
        cells.append(golden.Hits(hits, calls, (0, canary), (canary, golden.BUCKETS)))
        parts = parts_of(cells[-1])
        for part in parts:
            n_b, n_c = int(drawn.poisson(10)), int(drawn.poisson(1.2))
            x_b, x_c = int(drawn.binomial(n_b, 0.1)), int(drawn.binomial(n_c, 0.1))
            counted = of_counts(part.began_with, None, (n_b, x_b), (n_c, x_c), slow=False)
            part.records[0].production, part.records[0].canary = counted.production, counted.canary
        counts.append(tuple(sum(each) for each in zip(*map(counts_of, parts), strict=True)))
        lagging = Record(split(1_000), None, faulty={99})
        state.fold(FIRST + index, [*parts, RunCell(False, split(1_000), [lagging])])
    (*before, last), faults = golden.epochs_of([each[2] for each in counts], 900), state._faults.state

    assert faults.cumulative.ln_e == six(golden.ln_e(golden.looks_of(cells)[-1]))
    assert faults.epoch_number == len(before) + 2
    assert faults.epoch.ln_e == six(golden.ln_e(golden.looks_of(cells[last + 1 :])[-1]))
    assert faults.non_inferiority.ln_l == six(golden.ln_l(counts[150:], 0.005)[-1])


def counts_of(part: RunCell) -> tuple[int, int, int, int]:
    production, canary = part.records[0].production, part.records[0].canary
    return production.requests, production.faults, canary.requests, canary.faults
