"""The same version costs the same at 5 % and at 95 % of the keys, and one that takes twice as much, twice."""

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.cost_ratio import LEAST_BLOCKS, LEAST_PREDICTS, Block, compare_costs
from router.analysis.statistics.predict_costs import PredictCosts

BLOCKS = 12
SECONDS = 240.0
RATE = 1000.0
"""Requests per second of both arms."""
Rows = Callable[[random.Random], int]
Cost = Callable[[int], float]


def one_row(_dice: random.Random) -> int:
    return 1


def few_rows(dice: random.Random) -> int:
    return dice.choice([1, 1, 1, 2, 3, 5])


def line(fixed: float, each: float) -> Cost:
    return lambda rows: fixed + each * rows


def served(
    dice: random.Random, rate: float, rows_of: Rows, cost: Cost, wobble: float = 0.0
) -> list[PredictCosts]:
    """Predicts of one worker that shares each among all requests that wait, at most 64, as a gateway's does.

    Every predict takes 15 % more or less, one in a hundred many times as much. `wobble`: how far the machine
    is slower or faster at times.
    """
    blocks = [PredictCosts() for _ in range(BLOCKS)]
    free, arrives, speed = 0.0, dice.expovariate(rate), 1.0
    while arrives < SECONDS:
        start, rows, requests = max(free, arrives), 0, 0
        while arrives <= start and requests < 64:
            rows, requests = rows + rows_of(dice), requests + 1
            arrives += dice.expovariate(rate)
        speed = min(1.0 + wobble, max(1.0 - wobble, speed + dice.gauss(0.0, wobble / 50)))
        seconds = cost(rows) * dice.lognormvariate(0.0, 0.15) * speed
        if dice.random() < 0.01:
            seconds *= dice.uniform(3.0, 30.0)
        blocks[min(BLOCKS - 1, int(start / SECONDS * BLOCKS))].take(rows, seconds)
        free = start + seconds
    return blocks


def both(
    seed: int, share: float, rows_of: Rows, production: Cost, canary: Cost, wobble: float = 0.0
) -> list[Block]:
    dice = random.Random(seed)
    arms = (
        served(dice, RATE * part, rows_of, cost, wobble)
        for part, cost in ((1.0 - share, production), (share, canary))
    )
    return list(zip(*arms, strict=True))


FAST, SLOW = line(0.001, 0.00005), line(0.010, 0.00005)
"""With the second, production shares a predict among 15 requests, and a canary with 5 % has one or two."""


@pytest.mark.parametrize("rows_of", [one_row, few_rows])
@pytest.mark.parametrize("cost", [FAST, SLOW], ids=["fast", "slow"])
@pytest.mark.parametrize(("share", "within"), [(0.05, 0.1), (0.5, 0.03)])
def test_the_same_version_costs_the_same_at_any_share(
    rows_of: Rows, cost: Cost, share: float, within: float
) -> None:
    for seed in range(2):
        found = compare_costs(both(seed, share, rows_of, cost, cost, wobble=0.03))

        assert found.ratio == pytest.approx(1.0, abs=within)
        assert found.interval is not None
        assert 0.8 < found.interval.low <= found.ratio <= found.interval.high < 1.25


@pytest.mark.parametrize("rows_of", [one_row, few_rows])
@pytest.mark.parametrize("cost", [FAST, SLOW], ids=["fast", "slow"])
def test_twice_the_processor_time_is_shown_as_twice(rows_of: Rows, cost: Cost) -> None:
    found = compare_costs(both(3, 0.05, rows_of, cost, lambda rows: 2.0 * cost(rows), wobble=0.03))

    assert found.ratio == pytest.approx(2.0, abs=0.15)
    assert found.interval is not None
    assert found.interval.low > 1.2


def test_why_seconds_per_row_would_be_wrong() -> None:
    """As they came, the same version looks many times as dear at 5 %."""
    blocks = both(1, 0.05, one_row, SLOW, SLOW)
    rows = [sum(arm.rows for arm in arms) for arms in zip(*blocks, strict=True)]
    seconds = [
        sum(group.seconds for arm in arms for group in arm.groups.values())
        for arms in zip(*blocks, strict=True)
    ]

    assert (seconds[1] / rows[1]) / (seconds[0] / rows[0]) > 5.0
    assert compare_costs(blocks).ratio == pytest.approx(1.0, abs=0.1)


def test_looking_again_and_again_makes_no_dearer_canary_of_the_same_version() -> None:
    """A FAIL stays, so one look of many must not be enough for it. 0.2 is the least limit that may be set."""
    for seed in range(40):
        dice = random.Random(seed)
        blocks: list[Block] = []
        for _ in range(BLOCKS):
            speed = max(0.5, dice.gauss(1.0, 0.1))
            arms = (few(dice, speed, (1, 2, 3, 5, 10, 20), 200), few(dice, speed, (1, 1, 1, 2, 3), 12))
            blocks.append(arms)
            interval = compare_costs(blocks).interval
            assert interval is None or interval.low <= 1.2, f"seed {seed}, look {len(blocks)}"


def few(dice: random.Random, speed: float, sizes: Sequence[int], predicts: int) -> PredictCosts:
    """Predicts of one stretch at a machine's `speed`, one in a hundred many times as dear."""
    costs = PredictCosts()
    for _ in range(predicts):
        rows = dice.choice(sizes)
        seconds = FAST(rows) * speed * dice.lognormvariate(0.0, 0.15)
        costs.take(rows, seconds * (dice.uniform(3.0, 30.0) if dice.random() < 0.01 else 1.0))
    return costs


def even(sizes: Sequence[int], cost: Cost, seed: int, predicts: int = 40) -> list[PredictCosts]:
    dice, blocks = random.Random(seed), [PredictCosts() for _ in range(BLOCKS)]
    for block in blocks:
        for rows in sizes:
            for _ in range(predicts):
                block.take(rows, cost(rows) * dice.uniform(0.9, 1.1))
    return blocks


def test_what_was_never_predicted_is_left_open_by_the_interval() -> None:
    """A canary that only ever predicted one row may cost nothing more for thirty, or thirty times as much."""
    for production in (line(0.03, 0.0), line(0.0, 0.001), line(0.01, 0.0005)):
        blocks = list(zip(even([20, 40], production, 1), even([1], production, 2), strict=True))

        found = compare_costs(blocks)

        assert found.interval is not None
        assert found.interval.low <= 1.0 <= found.interval.high
        assert found.interval.low <= found.production.line.seconds(1) / found.production.seconds * 1.02
        assert found.ratio == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("missing", ["predicts", "time", "canary"])
def test_too_little_is_no_figure(missing: str) -> None:
    production = even([1, 2, 4], FAST, 1)
    canary = even([1, 2, 4], FAST, 2)
    if missing == "predicts":
        canary = even([1], FAST, 2, predicts=(LEAST_PREDICTS - 1) // BLOCKS)
    elif missing == "time":
        canary = [*canary[: LEAST_BLOCKS - 1], *(PredictCosts() for _ in range(BLOCKS - LEAST_BLOCKS + 1))]
    else:
        canary = [PredictCosts() for _ in range(BLOCKS)]

    found = compare_costs(list(zip(production, canary, strict=True)))

    assert (found.ratio, found.interval) == (None, None)
    assert found.production.predicts == BLOCKS * 120
    assert found.rows == pytest.approx(7 / 3)


PREDICTS = st.lists(
    st.tuples(
        st.integers(0, BLOCKS - 1),
        st.booleans(),
        st.integers(1, 2**63) | st.integers(1, 4),
        st.floats(5e-324, 1e9) | st.floats(0.001, 0.002),
    ),
    max_size=30,
)


@given(PREDICTS)
def test_whatever_workers_say_it_is_a_number_in_its_interval_or_none(
    predicts: list[tuple[int, bool, int, float]],
) -> None:
    """They are processes in which a version's code runs."""
    blocks = [(PredictCosts(), PredictCosts()) for _ in range(BLOCKS)]
    for block, of_canary, rows, seconds in predicts:
        for _ in range(LEAST_PREDICTS // 5):
            blocks[block][of_canary].take(rows, seconds)

    found = compare_costs(blocks)

    assert (found.ratio is None) is (found.interval is None)
    if found.ratio is not None and found.interval is not None:
        assert 0.0 < found.interval.low <= found.ratio <= found.interval.high < math.inf
    assert all(map(math.isfinite, (found.rows, found.production.seconds, found.canary.seconds)))


def test_nothing_at_all_is_no_figure() -> None:
    assert compare_costs(()).ratio is None


def test_golden_numbers() -> None:
    """By hand, at 5.5 rows: production 1 ms and 0.1 ms a row, the canary 2 ms and 0.1 ms. 2.55 / 1.55."""
    production, canary = line(0.001, 0.0001), line(0.002, 0.0001)
    blocks: list[Block] = []
    for _ in range(6):
        one, other = PredictCosts(), PredictCosts()
        for rows in range(1, 11):
            one.take(rows, production(rows))
            other.take(min(rows, 3), canary(min(rows, 3)))
        blocks.append((one, other))

    found = compare_costs(blocks)

    assert found.rows == 5.5
    assert found.production.seconds == pytest.approx(0.00155)
    assert found.canary.seconds == pytest.approx(0.00255)
    assert found.ratio == pytest.approx(1.645161, rel=1e-5)
    assert found.interval == pytest.approx((1.645161, 1.645161), rel=1e-5)


def intervals(seeds: range, share: float, factor: float) -> list[tuple[float, float]]:
    found = []
    for seed in seeds:
        comparison = compare_costs(both(seed, share, few_rows, FAST, lambda rows: factor * FAST(rows)))
        assert comparison.interval is not None
        found.append(comparison.interval)
    return found


@pytest.mark.slow
def test_intervals_hold_the_truth_in_about_95_of_100() -> None:
    held = sum(low <= 1.5 <= high for low, high in intervals(range(100), 0.05, 1.5))

    assert held >= 88
