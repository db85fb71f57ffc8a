"""The exact test of one trait, and the correction for many, against the same by other means."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from router.analysis.statistics.association import Stratum, holm, p_value, surprise


@st.composite
def strata(draw: st.DrawFn, largest: int = 60) -> Stratum:
    faults, good = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    return Stratum(faults, good, draw(st.integers(0, faults)), draw(st.integers(0, good)))


def by_convolution(tables: Sequence[Stratum]) -> float:
    """The same chance, from scipy's distributions and numpy's convolution."""
    chances = np.ones(1)
    for faults, good, faults_with, good_with in filter(lambda table: table.faults + table.good, tables):
        numbers = np.arange(faults + 1)
        chances = np.convolve(
            chances, stats.hypergeom.pmf(numbers, faults + good, faults_with + good_with, faults)
        )
    return float(chances[sum(one.faults_with for one in tables) :].sum())


@given(strata())
def test_of_one_stratum_it_is_fishers_exact_test(table: Stratum) -> None:
    faults, good, faults_with, good_with = table
    cells = [[faults_with, good_with], [faults - faults_with, good - good_with]]

    expected = stats.fisher_exact(cells, alternative="greater").pvalue if faults and good else 1.0
    assert p_value([table]) == pytest.approx(expected, rel=1e-9)


@given(st.lists(strata(25), max_size=5))
def test_of_several_it_is_that_of_the_sum_of_what_chance_deals_in_each(tables: list[Stratum]) -> None:
    assert p_value(tables) == pytest.approx(by_convolution(tables), rel=1e-9, abs=1e-300)
    assert p_value(tables) == p_value(tables[::-1])


@pytest.mark.parametrize(
    ("table", "p"),
    [
        (Stratum(8, 100, 8, 0), 2.8407022573521e-12),
        (Stratum(8, 100, 8, 3), 4.6871587246310e-10),
        (Stratum(8, 8, 4, 4), 0.6903651903652),
        (Stratum(250, 6, 250, 0), 2.7134626662688e-12),
        (Stratum(3, 200, 0, 10), 1.0),
        (Stratum(40, 400, 20, 200), 0.5657412078468),
    ],
)
def test_golden_numbers_of_fishers_exact_test(table: Stratum, p: float) -> None:
    assert p_value([table]) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(("faults", "good", "having"), [(6, 9, 5), (10, 10, 8), (3, 40, 11)])
@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01])
def test_chance_alone_is_called_a_pattern_no_more_often_than_alpha(
    faults: int, good: int, having: int, alpha: float
) -> None:
    rejected = 0.0
    for faults_with in range(max(0, having - good), min(faults, having) + 1):
        if p_value([Stratum(faults, good, faults_with, having - faults_with)]) <= alpha:
            rejected += float(stats.hypergeom.pmf(faults_with, faults + good, having, faults))

    assert rejected <= alpha


def test_times_in_which_both_faults_and_the_trait_are_frequent_make_no_pattern() -> None:
    """At night nearly all have it and nearly all fail; within day and night neither matters."""
    day, night = Stratum(4, 196, 0, 20), Stratum(160, 40, 128, 32)
    pooled = Stratum(164, 236, 128, 52)

    assert p_value([pooled]) < 1e-20
    assert p_value([day, night]) > 0.4


@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=12), st.integers(0, 20))
def test_holm_corrects_as_its_definition_says(p_values: list[float], others: int) -> None:
    tests = len(p_values) + others
    order = np.argsort(p_values, kind="stable")
    expected = np.empty(len(p_values))
    expected[order] = np.minimum(
        np.maximum.accumulate(np.array(p_values)[order] * (tests - np.arange(len(p_values)))), 1.0
    )
    assert holm(p_values, tests) == pytest.approx(list(expected))


@given(strata(), strata())
def test_more_faults_with_the_trait_are_a_greater_surprise_and_less_likely(
    one: Stratum, other: Stratum
) -> None:
    for first, second in itertools.permutations((one, other)):
        if first.faults_with < first.faults and first.good_with > 0:
            more = first._replace(faults_with=first.faults_with + 1, good_with=first.good_with - 1)
            assert surprise([more, second]) >= surprise([first, second]) or not more.informs
            assert p_value([more, second]) <= p_value([first, second]) * (1 + 1e-9)
