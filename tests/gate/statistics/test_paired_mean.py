"""The interval of a mean of paired differences, with and without groups."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from router.gate.statistics.difference import FEW_DIFFER
from router.gate.statistics.paired_mean import paired_mean

differences = st.lists(st.floats(-10, 10), min_size=2, max_size=60).map(np.asarray)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Differences, and groups of which there are two at least."""
    values = draw(differences)
    raw = [0, 1, *draw(st.lists(st.integers(0, 8), min_size=len(values) - 2, max_size=len(values) - 2))]
    return values, np.unique(raw, return_inverse=True)[1]


def test_without_groups_it_is_scipys_paired_t_interval() -> None:
    drawn = np.random.default_rng(1)
    candidate, production = drawn.normal(size=(2, 50))
    expected = stats.ttest_rel(candidate, production).confidence_interval(0.95)

    found = paired_mean(candidate - production, None, 1.0)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.notes == ()


def test_groups_of_one_size_count_as_their_means() -> None:
    """Then the ratio of totals is the mean of means, and its variance that of a t interval over them."""
    values = np.random.default_rng(2).normal(size=(30, 4))
    expected = stats.ttest_1samp(values.mean(axis=1), 0.0).confidence_interval(0.95)

    found = paired_mean(values.ravel(), np.repeat(np.arange(30), 4), 1.0)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_the_variance_over_groups_is_that_of_the_jackknife_of_groups() -> None:
    """By other means: leave out one group at a time (Cochran §6.17); they agree where groups are many."""
    drawn = np.random.default_rng(3)
    groups = np.unique(drawn.integers(0, 400, 4000), return_inverse=True)[1]
    values = drawn.normal(size=400)[groups] + drawn.normal(size=4000)
    count = groups.max() + 1
    left_out = np.asarray([values[groups != one].mean() for one in range(count)])
    error = math.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())

    found = paired_mean(values, groups, 1.0)

    assert (found.high - found.low) / 2 == pytest.approx(1.97 * error, rel=0.01)


@given(differences)
def test_a_group_of_its_own_for_each_row_is_no_group(values: np.ndarray) -> None:
    alone, together = paired_mean(values, np.arange(len(values)), 1.0), paired_mean(values, None, 1.0)

    assert (alone.low, alone.high) == pytest.approx((together.low, together.high), rel=1e-6, abs=1e-9)


@given(grouped())
def test_swapped_versions_negate_it(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    values, groups = drawn
    for by in (None, groups):
        found, swapped = paired_mean(values, by, 1.0), paired_mean(-values, by, 1.0)

        assert (swapped.point, swapped.low, swapped.high) == (-found.point, -found.high, -found.low)


@given(grouped(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_groups_change_nothing(
    drawn: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    values, groups = drawn
    order = np.asarray(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    renamed = np.unique((groups.max() - groups)[order], return_inverse=True)[1]

    found, shuffled = paired_mean(values, groups, 1.0), paired_mean(values[order], renamed, 1.0)

    assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), rel=1e-9, abs=1e-9)


def test_a_few_large_groups_among_many_small_ones_leave_few_degrees_of_freedom() -> None:
    """Two groups that hold nearly all rows say no more than two groups do."""
    values = np.random.default_rng(4).normal(size=2020)
    even = np.repeat(np.arange(101), 20)
    uneven = np.concatenate([np.repeat([0, 1], 985), np.arange(50) + 2])

    assert paired_mean(values, even, 1.0).high < 0.1
    assert math.isfinite(paired_mean(values[:2020], uneven, 1.0).high)
    assert paired_mean(np.where(uneven == 0, 1.0, 0.9), uneven, 1.0).high > 1.3


@pytest.mark.parametrize("groups", [None, np.zeros(1, dtype=int)], ids=["one row", "one group"])
def test_one_row_or_one_group_says_nothing(groups: np.ndarray | None) -> None:
    found = paired_mean(np.asarray([0.5]), groups, 1.0)

    assert (found.low, found.high) == (-math.inf, math.inf)


def test_versions_that_agree_on_40_rows_may_differ_on_one_in_eleven() -> None:
    """No variance is seen, and little data is never a pass."""
    found = paired_mean(np.zeros(40), None, 1.0)

    assert (found.low, found.high) == pytest.approx((-math.log(40) / 40, math.log(40) / 40))
    assert found.notes == ("the versions differ in 0 of 40 rows, so the interval allows for unseen ones",)


def test_what_is_allowed_for_unseen_rows_holds_the_truth() -> None:
    """Versions that differ on one row in 200, all to the candidate's loss, are rarely met in 150 rows."""
    drawn = np.random.default_rng(5)
    inside = 0
    for _ in range(1000):
        interval = paired_mean(-(drawn.random(150) < 0.005).astype(float), None, 1.0)
        inside += interval.low <= -0.005 <= interval.high

    assert inside >= 930


def test_enough_differing_rows_need_no_allowance() -> None:
    values = np.zeros(10_000)
    values[:FEW_DIFFER] = 1e-6

    found = paired_mean(values, None, 1.0)

    assert found.high < 1e-6
    assert found.notes == ()
