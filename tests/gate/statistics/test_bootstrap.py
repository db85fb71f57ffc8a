"""The interval of what is a function of all rows, by resampling."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from router.gate.statistics import bootstrap as resampling
from router.gate.statistics.bootstrap import FEWEST_RESAMPLES, MOST_ROWS_DRAWN, Rows, bootstrap
from router.gate.statistics.paired_mean import paired_mean
from tests.gate.statistics.made_up_versions import Answered, MadeUpVersions, f1


def of(rows: Answered) -> Callable[[Rows], float]:
    """Difference of F1 on the rows at some places."""

    def difference(places: Rows) -> float:
        targets = rows.targets[places]
        return f1(targets, rows.candidate[places]) - f1(targets, rows.production[places])

    return difference


def test_its_spread_is_that_of_scipys_bootstrap() -> None:
    rows = MadeUpVersions(300, None).drawing(1).labels()
    difference = of(rows)

    def scipys(places: np.ndarray) -> float:
        return difference(places.astype(int))

    by_scipy = stats.bootstrap(
        (np.arange(300),),
        scipys,
        n_resamples=2000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(7),
    )
    found = bootstrap(difference, difference(np.arange(300)), 300, None)

    expected = stats.t.ppf(0.975, 299) * by_scipy.standard_error * math.sqrt(300 / 299)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.06)
    assert (found.high + found.low) / 2 == pytest.approx(found.point)


@pytest.mark.parametrize("groups", [None, 40])
def test_of_a_mean_it_is_nearly_the_t_interval(groups: int | None) -> None:
    """Of groups, too: so they are drawn whole."""
    draw = MadeUpVersions(500, groups).drawing(3)
    values = draw.losses()
    expected = paired_mean(values, draw.groups, 1.0)

    found = bootstrap(lambda places: float(values[places].mean()), expected.point, 500, draw.groups)

    assert found.low == pytest.approx(expected.low, rel=0.1)
    assert found.high == pytest.approx(expected.high, rel=0.1)


def test_a_drawn_group_comes_with_all_its_rows_and_no_others() -> None:
    groups = np.asarray([2, 0, 1, 1, 2, 2])
    seen = []

    def keep(places: Rows) -> float:
        seen.append(np.bincount(places, minlength=6))
        return 0.0

    bootstrap(keep, 0.0, 6, groups, 50)

    counts = np.asarray(seen)
    assert (counts[:, [2]] == counts[:, [3]]).all()
    assert (counts[:, [0]] == counts[:, [4, 5]]).all()
    assert (counts[:, 0] + counts[:, 1] + counts[:, 2] == 3).all()
    assert len({tuple(each) for each in seen}) > 3


def test_the_same_rows_have_the_same_interval_each_time() -> None:
    difference = of(MadeUpVersions(200, None).drawing(4).labels())

    assert bootstrap(difference, 0.0, 200, None, 100) == bootstrap(difference, 0.0, 200, None, 100)


def test_more_rows_are_resampled_fewer_times_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "MOST_ROWS_DRAWN", 5_000)
    calls = []

    found = bootstrap(lambda places: float(calls.append(places) or len(calls)), 0.0, 50, None)

    assert len(calls) == 100
    assert found.notes == ("100 resamples in the place of 2000, for 50 rows",)
    assert MOST_ROWS_DRAWN == 200_000_000
    bootstrap(lambda places: float(calls.append(places) or 0), 0.0, 5_000, None)
    assert len(calls) == 100 + FEWEST_RESAMPLES


def test_a_metric_without_a_value_in_one_of_ten_resamples_has_no_interval() -> None:
    """Left out of one in a hundred, and it is said."""
    drawn = iter(range(10_000))

    def sometimes(every: int) -> Callable[[Rows], float]:
        return lambda places: math.nan if next(drawn) % every == 0 else float(places.mean())

    rarely, often = (bootstrap(sometimes(every), 50.0, 100, None, 1000) for every in (100, 10))

    assert math.isfinite(rarely.low)
    assert rarely.notes == ("the metric has no value in 10 of 1000 resamples",)
    assert (often.low, often.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("groups", [None, np.zeros(1, dtype=int)], ids=["one row", "one group"])
def test_one_row_or_one_group_says_nothing(groups: np.ndarray | None) -> None:
    assert bootstrap(lambda places: 0.5, 0.5, 1, groups, 20).high == math.inf
