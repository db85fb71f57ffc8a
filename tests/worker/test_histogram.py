"""Score bins: counts that add up, edges as Prometheus' `le`, and two paths that count alike."""

import json
import math
import sys
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.scores import ScoreCounts, ScoreSpec, with_edges
from router.worker import scores as worker_scores
from router.worker.scores import FEW_SCORES, count_and_locate

SPECS = [
    ScoreSpec(),
    ScoreSpec(low=-1, high=1, bins=8),
    ScoreSpec(low=0.0, high=0.7, bins=7),
    ScoreSpec(low=-3.5, high=-0.25, bins=3),
    ScoreSpec(low=1e5, high=1e6, bins=1),
    with_edges(0, -2.0, (-1.5, 0.0, 0.1, 1.0)),
]
specs = st.sampled_from(SPECS)
ordinary = st.floats(-2, 2) | st.sampled_from([edge for spec in SPECS for edge in (spec.low, *spec.edges())])
scores = st.lists(ordinary | st.floats(), max_size=3 * FEW_SCORES)


def count(values: list[float], spec: ScoreSpec, non_numeric: int = 0) -> ScoreCounts:
    return count_and_locate(np.array(values, dtype=np.float64), spec, (), non_numeric=non_numeric)[0]


def count_by_hand(values: list[float], spec: ScoreSpec) -> ScoreCounts:
    """The same counts, one score after the other and from first principles."""
    finite = [value for value in values if math.isfinite(value)]
    counts = [0] * spec.bins
    for value in finite:
        counts[min(bisect_left(spec.edges(), value), spec.bins - 1)] += 1
    return ScoreCounts(
        tuple(counts),
        positive_sum=total([value for value in finite if value > 0]),
        negative_sum=total([-value for value in finite if value < 0]),
        nan=sum(value != value for value in values),
        inf=sum(abs(value) == math.inf for value in values),
        out_of_range=sum(value < spec.low or value > spec.high for value in finite),
    )


def total(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError:
        return sys.float_info.max


@given(scores, specs)
@example([1.0] * (FEW_SCORES + 1), ScoreSpec())
@example([math.nan, math.inf, -math.inf] * FEW_SCORES, ScoreSpec())
def test_counts_equal_a_plain_bisect(values: list[float], spec: ScoreSpec) -> None:
    assert count(values, spec) == count_by_hand(values, spec)


@given(scores, specs)
def test_few_scores_and_many_are_counted_alike(values: list[float], spec: ScoreSpec) -> None:
    """Below some thirty rows numpy is the slower way; which way was taken must not show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_scores, "FEW_SCORES", -1)
        vectorised = count_and_locate(np.array(values, dtype=np.float64), spec, range(len(values)))
        patch.setattr(worker_scores, "FEW_SCORES", len(values))
        plain = count_and_locate(np.array(values, dtype=np.float64), spec, range(len(values)))

    assert vectorised == plain


@given(scores, specs, st.data())
def test_bin_indexes_are_of_the_scores_they_are_asked_of(
    values: list[float], spec: ScoreSpec, data: st.DataObject
) -> None:
    firsts = (
        data.draw(st.lists(st.sampled_from(range(len(values))), unique=True).map(sorted)) if values else []
    )
    _, bin_indexes = count_and_locate(np.array(values, dtype=np.float64), spec, firsts)

    alone = [count_by_hand([values[first]], spec).bins for first in firsts]
    assert bin_indexes == [bins.index(1) if any(bins) else None for bins in alone]


@given(scores, specs)
def test_every_score_is_counted_once(values: list[float], spec: ScoreSpec) -> None:
    counts = count(values, spec)

    assert sum(counts.bins) + counts.nan + counts.inf == len(values)
    assert counts.out_of_range <= sum(counts.bins)
    assert counts.positive_sum >= 0
    assert counts.negative_sum >= 0


@given(scores, specs)
def test_bins_summed_from_below_are_what_le_promises(values: list[float], spec: ScoreSpec) -> None:
    """`le`: less than or equal to the upper edge. The last bin alone also takes what lies above."""
    counts = count(values, spec)

    for place, edge in enumerate(spec.edges()[:-1], start=1):
        assert sum(counts.bins[:place]) == sum(value <= edge for value in values if math.isfinite(value))


@given(scores, scores, specs)
def test_counting_two_batches_and_adding_is_counting_both(
    one: list[float], other: list[float], spec: ScoreSpec
) -> None:
    added = count(one, spec) + count(other, spec)
    together = count([*one, *other], spec)

    assert (added.bins, added.nan, added.inf, added.out_of_range) == (
        together.bins,
        together.nan,
        together.inf,
        together.out_of_range,
    )
    if together.positive_sum < sys.float_info.max and together.negative_sum < sys.float_info.max:
        assert math.isclose(added.positive_sum, together.positive_sum, rel_tol=1e-12)
        assert math.isclose(added.negative_sum, together.negative_sum, rel_tol=1e-12)


@given(scores, specs, st.integers(0, 5))
def test_no_scores_is_the_zero_of_addition(values: list[float], spec: ScoreSpec, non_numeric: int) -> None:
    counts, nothing = count(values, spec, non_numeric), ScoreCounts((0,) * spec.bins)

    assert counts + nothing == nothing + counts == counts
    assert counts.non_numeric == non_numeric
    assert count([], spec) == nothing


def test_counts_of_different_bins_do_not_add() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ScoreCounts((0,) * 20) + ScoreCounts((0,) * 10)


@pytest.mark.parametrize("repeat", [1, FEW_SCORES], ids=["few", "many"])
def test_ends_edges_and_invalid_scores_by_hand(repeat: int) -> None:
    spec = ScoreSpec(low=0.0, high=1.0, bins=4)
    below = math.nextafter(0.25, 0)
    values = [0.0, 0.25, below, 0.2500001, 0.75, 1.0, -0.5, 1.5, math.nan, math.inf, -math.inf]

    counts = count(values * repeat, spec)

    assert counts == ScoreCounts(
        bins=(4 * repeat, repeat, repeat, 2 * repeat),
        positive_sum=math.fsum([0.25, below, 0.2500001, 0.75, 1.0, 1.5] * repeat),
        negative_sum=0.5 * repeat,
        nan=repeat,
        inf=2 * repeat,
        out_of_range=2 * repeat,
    )


@pytest.mark.parametrize("repeat", [2, FEW_SCORES + 1], ids=["few", "many"])
def test_absurd_scores_do_not_raise_and_their_sum_stays_finite(repeat: int) -> None:
    """A sum that is infinite would become null on its way to the gateway."""
    counts = count([1e308, -1e308] * repeat, ScoreSpec())

    assert counts.positive_sum == counts.negative_sum == sys.float_info.max
    assert counts.out_of_range == 2 * repeat


@pytest.mark.parametrize("repeat", [1, FEW_SCORES], ids=["few", "many"])
def test_counts_are_plain_numbers_that_json_can_write(repeat: int) -> None:
    counts = count([0.5, math.nan] * repeat, ScoreSpec())

    assert json.loads(json.dumps([counts.bins, counts.positive_sum, counts.nan, counts.out_of_range]))


def test_edges_are_short_labels() -> None:
    """They are labels of metrics: 0.15000000000000002 would have to be typed into a query."""
    assert ScoreSpec().edges()[:4] == (0.05, 0.1, 0.15, 0.2)
    assert ScoreSpec(low=-1, high=1, bins=4).edges() == (-0.5, 0.0, 0.5, 1.0)
    assert ScoreSpec(high=0.7, bins=7).edges() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert ScoreSpec(bins=3).edges() == (0.333333333333, 0.666666666667, 1.0)


@pytest.mark.parametrize("high", [1, 1.0])
def test_edges_are_floats_however_the_range_was_written(high: float) -> None:
    assert [type(edge) for edge in ScoreSpec(low=0, high=high, bins=2).edges()] == [float, float]


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.integers(1, 200))
def test_edges_rise_and_end_at_high_or_the_range_is_refused(low: float, width: float, bins: int) -> None:
    try:
        spec = ScoreSpec(low=low, high=low + width, bins=bins)
    except ValueError:
        assert width / bins < 1e-10 * max(abs(low), abs(low + width))
        return

    edges = spec.edges()
    assert len(edges) == bins
    assert edges[-1] == spec.high
    assert edges[0] > spec.low
    assert all(a < b for a, b in pairwise(edges))


@pytest.mark.parametrize(
    "build",
    [
        lambda: ScoreSpec(bins=0),
        lambda: ScoreSpec(bins=-1),
        lambda: ScoreSpec(low=1.0, high=1.0),
        lambda: ScoreSpec(low=1.0, high=0.0),
        lambda: ScoreSpec(low=math.nan),
        lambda: ScoreSpec(high=math.inf),
        lambda: ScoreSpec(low=-math.inf),
        lambda: ScoreSpec(low=-1.7e308, high=1.7e308),
        lambda: ScoreSpec(low=1e15, high=1e15 + 1),
        lambda: with_edges(0, 0.0, (0.0, 1.0)),
        lambda: with_edges(0, 0.0, (0.5, 0.5)),
        lambda: with_edges(0, 0.0, (0.5, math.inf)),
        lambda: ScoreSpec(bins=2, upper=(1.0,)),
        lambda: ScoreSpec(bins=2, upper=(0.5, 2.0)),
    ],
)
def test_a_range_without_distinct_bins_is_refused(build: Callable[[], ScoreSpec]) -> None:
    with pytest.raises(ValueError, match=r"bins must|a range is"):
        build()


@pytest.mark.parametrize(
    ("values", "non_numeric", "all_nan"),
    [
        ([math.nan], 0, True),
        ([math.nan] * 40, 0, True),
        ([math.nan, 0.5], 0, False),
        ([math.nan, math.inf], 0, False),
        ([math.nan], 1, False),
        ([], 0, False),
        ([], 3, False),
        ([7.0], 0, False),
    ],
)
def test_scores_are_all_nan_when_there_are_some_and_each_is(
    values: list[float], non_numeric: int, all_nan: bool
) -> None:
    assert count(values, ScoreSpec(), non_numeric).all_nan is all_nan
