"""DeLong's interval, against its definition over all pairs, and Obuchowski's over groups."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from router.gate.statistics.delong import Areas, delong
from router.gate.statistics.difference import Floats
from tests.gate.statistics.made_up_versions import MadeUpVersions


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, Floats, Floats, np.ndarray]:
    """Rows of both classes, two of each at least, with many ties; and groups."""
    rows = draw(st.integers(4, 40))
    several = {"min_size": rows, "max_size": rows}
    positive = np.asarray([True, True, False, False, *draw(st.lists(st.booleans(), **several))[4:]])
    scores = st.lists(st.integers(0, 12), **several).map(lambda each: np.asarray(each) / 12)
    groups = np.unique([0, 1, 0, 1, *draw(st.lists(st.integers(0, 6), **several))[4:]], return_inverse=True)[
        1
    ]
    return positive, draw(scores), draw(scores), groups


def wins(positive: np.ndarray, scores: Floats) -> Floats:
    """Of each pair of a positive and a negative row 1, ½ or 0, by the definition: O(n²)."""
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return (np.sign(difference) + 1) / 2


def variance_by_definition(positive: np.ndarray, candidate: Floats, production: Floats) -> float:
    """DeLong's S10/m + S01/n of both areas, contracted with (1, −1)."""
    pairs = [wins(positive, each) for each in (candidate, production)]
    of_positive = np.cov([each.mean(axis=1) for each in pairs])
    of_negative = np.cov([each.mean(axis=0) for each in pairs])
    covariance = of_positive / positive.sum() + of_negative / (~positive).sum()
    return float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def variance_over_groups(
    positive: np.ndarray, candidate: Floats, production: Floats, groups: np.ndarray
) -> float:
    """Obuchowski's (1997), eq. 2 to 5, group by group, over all pairs."""
    pairs = wins(positive, candidate) - wins(positive, production)
    of_positive, of_negative, point = pairs.mean(axis=1), pairs.mean(axis=0), pairs.mean()
    sums = []
    for one in np.unique(groups):
        mine, others = groups[positive] == one, groups[~positive] == one
        sums.append(
            (
                mine.any(),
                others.any(),
                (of_positive[mine] - point).sum(),
                (of_negative[others] - point).sum(),
            )
        )
    with_positive, with_negative = sum(each[0] for each in sums), sum(each[1] for each in sums)
    m, n, count = positive.sum(), (~positive).sum(), len(sums)
    s10 = with_positive / ((with_positive - 1) * m) * sum(each[2] ** 2 for each in sums)
    s01 = with_negative / ((with_negative - 1) * n) * sum(each[3] ** 2 for each in sums)
    s11 = count / (count - 1) * sum(each[2] * each[3] for each in sums)
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


def half(areas: Areas) -> float:
    return (areas.interval.high - areas.interval.low) / 2


@given(scored())
def test_both_areas_are_scikit_learns(drawn: tuple[np.ndarray, Floats, Floats, np.ndarray]) -> None:
    positive, candidate, production, _ = drawn

    found = delong(positive, candidate, production, None)

    assert found.candidate == pytest.approx(roc_auc_score(positive, candidate), abs=1e-12)
    assert found.production == pytest.approx(roc_auc_score(positive, production), abs=1e-12)
    assert found.interval.point == pytest.approx(found.candidate - found.production, abs=1e-12)


def test_the_variance_is_that_of_the_definition_over_all_pairs() -> None:
    for seed in range(5):
        rows = MadeUpVersions(400, None).drawing(seed).scores()
        positive = rows.targets == 1
        candidate = np.round(rows.candidate, 1)  # with ties
        error = math.sqrt(variance_by_definition(positive, candidate, rows.production))

        found = delong(positive, candidate, rows.production, None)

        # Between the normal quantile and that of as many degrees as the rarer class has rows.
        assert 1.9599 * error < half(found) <= stats.t.ppf(0.975, positive.sum() - 2) * error


def test_the_variance_over_groups_is_obuchowskis_over_all_pairs() -> None:
    for seed in range(5):
        rows = MadeUpVersions(300, 25).drawing(seed).scores()
        assert rows.groups is not None
        positive = rows.targets == 1
        variance = variance_over_groups(positive, rows.candidate, rows.production, rows.groups)
        holding = min(len(np.unique(rows.groups[positive])), len(np.unique(rows.groups[~positive])))

        found = delong(positive, rows.candidate, rows.production, rows.groups)

        assert half(found) == pytest.approx(stats.t.ppf(0.975, holding - 1) * math.sqrt(variance), rel=1e-9)


def test_a_worked_example_by_hand() -> None:
    """Two positive and three negative rows, of whose six pairs the candidate wins all.

    Production's wins are (1, 1, 1) and (0, ½, 1): means 1 and ½ of positive rows, ½, ¾ and 1 of negative
    ones. Differences (0, ½), variance 1/8, over 2; and (½, ¼, 0), variance 1/16, over 3: in all 1/12.
    """
    positive = np.asarray([True, True, False, False, False])
    candidate = np.asarray([0.9, 0.8, 0.3, 0.2, 0.1])
    production = np.asarray([0.9, 0.5, 0.6, 0.5, 0.4])
    degrees = (1 / 12) ** 2 / ((1 / 16) ** 2 / 1 + (1 / 48) ** 2 / 2)

    found = delong(positive, candidate, production, None)

    assert (found.candidate, found.production) == (1.0, 0.75)
    unwidened = stats.t.ppf(0.975, degrees) * math.sqrt(1 / 12)
    assert half(found) == pytest.approx(max(unwidened, math.log(40) / 2))


@given(scored())
def test_swapped_versions_negate_it(drawn: tuple[np.ndarray, Floats, Floats, np.ndarray]) -> None:
    positive, candidate, production, groups = drawn
    for by in (None, groups):
        found = delong(positive, candidate, production, by).interval
        swapped = delong(positive, production, candidate, by).interval

        assert (swapped.point, swapped.low, swapped.high) == pytest.approx(
            (-found.point, -found.high, -found.low), abs=1e-12
        )


@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(
    drawn: tuple[np.ndarray, Floats, Floats, np.ndarray], random: object
) -> None:
    positive, candidate, production, groups = drawn
    order = np.asarray(random.sample(range(len(positive)), len(positive)))  # type: ignore[attr-defined]
    for by in (None, groups):
        found = delong(positive, candidate, production, by).interval
        shuffled = delong(
            positive[order], candidate[order], production[order], by if by is None else by[order]
        ).interval

        assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), abs=1e-9)


@given(scored())
def test_only_the_order_of_scores_counts(drawn: tuple[np.ndarray, Floats, Floats, np.ndarray]) -> None:
    positive, candidate, production, _ = drawn

    found = delong(positive, candidate, production, None)

    assert delong(positive, np.exp(3 * candidate), production - 7, None) == found


@given(scored())
def test_scores_without_ties_have_the_area_of_won_pairs(
    drawn: tuple[np.ndarray, Floats, Floats, np.ndarray],
) -> None:
    positive, candidate, production, _ = drawn
    apart = candidate + np.arange(len(candidate)) * 1e-6
    pairs = itertools.product(apart[positive], apart[~positive])

    found = delong(positive, apart, production, None)

    assert found.candidate == pytest.approx(np.mean([one > other for one, other in pairs]))


@given(scored())
def test_a_group_of_its_own_for_each_row_has_delongs_variance(
    drawn: tuple[np.ndarray, Floats, Floats, np.ndarray],
) -> None:
    positive, candidate, production, _ = drawn
    variance = variance_by_definition(positive, candidate, production)
    rarer = int(min(positive.sum(), (~positive).sum()))

    found = delong(positive, candidate, production, np.arange(len(positive)))

    expected = stats.t.ppf(0.975, rarer - 1) * math.sqrt(max(0.0, variance))
    assert half(found) == pytest.approx(expected, abs=1e-9) or found.interval.notes


def test_rows_that_are_there_three_times_say_no_more_where_groups_show_it() -> None:
    rows = MadeUpVersions(500, None).drawing(1).scores()
    positive, groups = rows.targets == 1, np.arange(500)

    once = delong(positive, rows.candidate, rows.production, groups)
    thrice = delong(*(np.tile(each, 3) for each in (positive, rows.candidate, rows.production, groups)))

    assert (thrice.interval.low, thrice.interval.high) == pytest.approx(
        (once.interval.low, once.interval.high)
    )


@pytest.mark.parametrize("positive", [np.ones(5, dtype=bool), np.zeros(5, dtype=bool)])
def test_one_class_has_no_area(positive: np.ndarray) -> None:
    with pytest.raises(ValueError, match="both classes"):
        delong(positive, np.arange(5.0), np.arange(5.0), None)


def test_one_positive_row_says_nothing() -> None:
    found = delong(np.asarray([True, False, False]), np.arange(3.0), np.ones(3), None)

    assert (found.interval.low, found.interval.high) == (-math.inf, math.inf)


def test_equal_scores_of_300_positive_rows_may_differ_in_unseen_ones() -> None:
    rows = MadeUpVersions(1000, None).drawing(2).scores()
    positives = int(rows.targets.sum())

    found = delong(rows.targets == 1, rows.candidate, rows.candidate, None)

    assert half(found) == pytest.approx(math.log(40) / positives)
    assert found.interval.notes
