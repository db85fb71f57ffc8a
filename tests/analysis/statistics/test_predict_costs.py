"""What predicts take of a processor is a line through those that say something of most."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.predict_costs import FAR, MOST_GROUPS, CostLine, PredictCosts

PREDICTS = st.lists(st.tuples(st.integers(1, 10_000), st.floats(1e-6, 100.0)), min_size=1, max_size=80)


def costs_of(predicts: list[tuple[int, float]]) -> PredictCosts:
    costs = PredictCosts()
    for rows, seconds in predicts:
        costs.take(rows, seconds)
    return costs


APART = st.sets(
    st.sampled_from([*range(1, 17), *range(18, 33, 2), 64, 100, 300, 2000]), min_size=2, max_size=8
)
"""Each is a size of its own."""


@given(st.floats(1e-5, 1.0), st.floats(1e-6, 1.0), APART)
def test_without_noise_both_parts_are_exact(fixed: float, each: float, sizes: set[int]) -> None:
    line = costs_of([(rows, fixed + each * rows) for rows in sizes for _ in range(20)]).line()

    for rows in sizes:
        assert line.seconds(rows) == pytest.approx(fixed + each * rows, rel=1e-6)


@given(PREDICTS)
def test_neither_part_is_ever_below_zero(predicts: list[tuple[int, float]]) -> None:
    line = costs_of(predicts).line()

    assert line.fixed_seconds >= 0.0
    assert line.row_seconds >= 0.0
    assert line.seconds(1) > 0.0


@given(PREDICTS, st.randoms(use_true_random=False))
def test_in_whatever_order_predicts_come_they_make_one_line(
    predicts: list[tuple[int, float]], dice: random.Random
) -> None:
    shuffled = sorted(predicts, key=lambda _: dice.random())

    assert costs_of(shuffled).line() == pytest.approx(costs_of(predicts).line(), rel=1e-6, abs=1e-12)


@given(PREDICTS, PREDICTS)
def test_parts_that_are_added_are_as_if_taken_together(
    one: list[tuple[int, float]], other: list[tuple[int, float]]
) -> None:
    added = costs_of(one)
    added.add(costs_of(other))

    assert (added.predicts, added.rows) == (len(one) + len(other), sum(rows for rows, _ in one + other))
    assert added.line() == pytest.approx(costs_of(one + other).line(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("times", [8.0, 100.0, 10_000.0])
def test_a_few_predicts_that_took_far_longer_move_nothing(times: float) -> None:
    """One in thirty: a collection of garbage, a first use."""
    dice, costs = random.Random(7), PredictCosts()
    for number in range(6000):
        rows = dice.choice([1, 2, 3, 8, 20, 64])
        seconds = (0.002 + 0.0001 * rows) * dice.uniform(0.9, 1.1)
        costs.take(rows, seconds * times if number % 30 == 0 else seconds)

    assert costs.line() == pytest.approx((0.002, 0.0001), rel=0.02)


def test_one_large_predict_among_small_ones_that_took_far_longer_moves_nothing() -> None:
    """Alone in its size, where no median is against it."""
    predicts = [(rows, 0.002 + 0.0001 * rows) for rows in (1, 2, 3, 4) for _ in range(200)]

    assert costs_of([*predicts, (500, 60.0)]).line() == pytest.approx((0.002, 0.0001), rel=0.01)


def test_golden_numbers() -> None:
    """By hand: weights 1/t² at the line itself, which goes through all three."""
    assert costs_of([(1, 0.003), (3, 0.005), (11, 0.013)]).line() == pytest.approx((0.002, 0.001))


def test_of_predicts_of_one_size_all_is_taken_for_the_rows() -> None:
    assert costs_of([(4, 0.5)] * 9).line() == pytest.approx(CostLine(0.0, 0.125))


def test_where_more_rows_take_less_all_of_it_is_fixed() -> None:
    line = costs_of([(1, 0.012)] * 50 + [(20, 0.010)] * 50).line()

    assert line.row_seconds == 0.0
    assert 0.010 < line.fixed_seconds < 0.012


def test_memory_is_bounded_whatever_comes() -> None:
    """Sizes by an eighth of a doubling, times by a doubling."""
    dice, costs = random.Random(1), PredictCosts()
    for _ in range(20_000):
        rows = round(2 ** dice.uniform(0, 17))
        costs.take(rows, (0.001 + 0.0001 * rows) * dice.uniform(0.8, 1.0 / 0.8))

    assert len(costs.groups) <= MOST_GROUPS
    assert costs.line() == pytest.approx((0.001, 0.0001), rel=0.05)
    assert FAR == 4.0


def forged(dice: random.Random, predicts: int) -> PredictCosts:
    """Any rows and seconds that a worker's frame may hold."""
    return costs_of(
        [(round(2 ** dice.uniform(0, 63)), 10 ** dice.uniform(-300, 9)) for _ in range(predicts)]
        + [(round(2 ** dice.uniform(0, 31)), 10 ** dice.uniform(-9, 6)) for _ in range(predicts)]
    )


def test_whatever_a_worker_says_of_its_predicts_the_groups_are_bounded_and_all_of_them_count() -> None:
    dice, total = random.Random(2), PredictCosts()
    parts = [forged(dice, 4 * MOST_GROUPS) for _ in range(4)]
    for part in parts:
        total.add(part)

    for costs in (*parts, total):
        assert len(costs.groups) == MOST_GROUPS
        assert sum(group.predicts for group in costs.groups.values()) == costs.predicts
        assert sum(group.rows for group in costs.groups.values()) == costs.rows
    assert total.predicts == 4 * 8 * MOST_GROUPS
    assert total.line().seconds(1) > 0.0


def test_beyond_the_bound_predicts_count_for_the_nearest_size_and_of_that_for_the_nearest_time() -> None:
    """13 rows count with 14 and 9 rows with 10, each by its time among those."""
    costs = costs_of([(10, 2.0**power) for power in (-20, -10, 19)] + [(14, 2.0**-20), (14, 1.0)])
    for rows in (eighth << power for power in range(2, 28) for eighth in range(8, 16)):
        for seconds in (1.0, 100.0):
            if len(costs.groups) < MOST_GROUPS:
                costs.take(rows, seconds)
    before = {place: group.rows for place, group in costs.groups.items()}
    costs.take(13, 2.0)
    costs.take(9, 2.0**-12)

    [of_13, of_9] = [
        (group.rows - before[place], group.seconds / group.predicts)
        for place, group in sorted(costs.groups.items(), reverse=True)
        if group.rows != before[place]
    ]
    assert of_13 == (13, 1.5)
    assert of_9 == (9, pytest.approx((2.0**-10 + 2.0**-12) / 2))
