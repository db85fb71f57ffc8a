"""What predicts cost, a fixed part and a part per row, is found also where a machine is busy."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.predict_cost import FORGOTTEN_AFTER, PredictCost

SECONDS = st.floats(0.0, 1.0)


def learned(fixed: float, each: float, sizes: list[int], noise: float = 1.0, rounds: int = 40) -> PredictCost:
    """As from predicts that last up to `noise` times as long as they have to."""
    cost, dice = PredictCost(), random.Random(7)
    for _ in range(rounds):
        for rows in sizes:
            cost.learn(rows, (fixed + each * rows) * dice.uniform(1.0, noise))
    return cost


@given(SECONDS, SECONDS, st.sets(st.integers(1, 512), min_size=2, max_size=6))
def test_without_noise_both_parts_are_exact(fixed: float, each: float, sizes: set[int]) -> None:
    cost = learned(fixed, each, sorted(sizes))
    if len({rows.bit_length() for rows in sizes}) > 1:
        for rows in sizes:
            assert cost.least_seconds(rows) == pytest.approx(fixed + each * rows, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("fixed", "each"), [(0.02, 0.0), (0.05, 0.001), (0.002, 0.03), (0.0, 0.01)])
def test_noise_moves_neither_part_by_much_and_is_known_by_itself(fixed: float, each: float) -> None:
    """One to four times as long as it has to take: 1.75 times is a fast one, 2.5 times is usual."""
    cost = learned(fixed, each, [1, 2, 4, 8, 16, 32], noise=4.0)

    for rows in (1, 16, 64):
        assert cost.least_seconds(rows) == pytest.approx(1.75 * (fixed + each * rows), rel=0.35)
        assert cost.usual_seconds(rows) == pytest.approx(2.5 * (fixed + each * rows), rel=0.35)


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.0, 100.0)), min_size=1, max_size=80))
def test_neither_part_is_below_zero_whatever_is_learned(predicts: list[tuple[int, float]]) -> None:
    cost = PredictCost()
    for rows, seconds in predicts:
        cost.learn(rows, seconds)
        assert cost.fixed_seconds >= 0
        assert cost.row_seconds >= 0
        assert cost.slowness >= 1


def test_of_predicts_of_one_size_all_is_taken_for_the_rows() -> None:
    cost = learned(0.5, 0.0, [4])
    assert (cost.fixed_seconds, cost.row_seconds) == (0.0, 0.125)


def test_a_version_that_became_slower_is_known_anew() -> None:
    cost = learned(0.01, 0.001, [1, 8])
    for number in range(FORGOTTEN_AFTER + 8):
        rows = (1, 8)[number % 2]
        cost.learn(rows, 0.1 + 0.02 * rows)
    assert cost.least_seconds(8) == pytest.approx(0.26)


def test_one_endless_predict_in_five_moves_what_is_usual_by_nothing() -> None:
    cost = PredictCost()
    for number in range(50):
        cost.learn(1, 60.0 if number % 5 == 4 else 0.01)
    assert cost.usual_seconds(1) == pytest.approx(0.01)
