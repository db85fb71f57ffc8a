"""The bins of durations, and what is read from them."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.durations import (
    BINS,
    EDGES,
    RATIO,
    add_to,
    bin_of,
    by_request_seconds,
    is_over,
    quantile,
    quantile_at,
)
from router.core.latency_buckets import REQUEST_SECONDS

SECONDS = st.floats(0.00001, 2000.0)


def counted(seconds: list[float]) -> list[int]:
    counts = [0] * BINS
    for each in seconds:
        counts[bin_of(each)] += 1
    return counts


def test_edges_are_from_a_tenth_of_a_millisecond_to_ten_minutes_and_close_together() -> None:
    assert (EDGES[0], EDGES[-1]) == (0.0001, 600.0)
    assert all(1.0 < high / low <= RATIO for low, high in pairwise(EDGES))
    assert BINS < 350


def test_an_edge_ends_its_bin() -> None:
    assert [bin_of(seconds) for seconds in (0.0, 0.0001, 0.00010001, 600.0, 600.1)] == [
        *(0, 0, 1),
        *(BINS - 2, BINS - 1),
    ]


@given(st.lists(SECONDS, max_size=50))
def test_they_fold_into_the_published_histogram_without_a_remainder(seconds: list[float]) -> None:
    published = [0] * (len(REQUEST_SECONDS) + 1)
    for each in seconds:
        published[bisect_left(REQUEST_SECONDS, each)] += 1

    assert by_request_seconds(counted(seconds)) == published


@given(st.lists(st.floats(0.000101, 600.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_a_twentieth_of_the_exact_one(seconds: list[float], share: float) -> None:
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))

    read = quantile(counted(seconds), share)

    assert read is not None
    assert exact / RATIO <= read <= exact * RATIO


def test_a_quantile_of_nothing_is_unknown_and_beyond_the_edges_it_is_the_last() -> None:
    assert quantile([0] * BINS, 0.5) is None
    assert quantile_at((0.0, 1.0), [0, 0], 0.5) is None
    assert quantile_at((0.0, 1.0), [0, 3], 0.5) == 1.0

    counts = counted([1.0] * 94 + [601.0] * 6)
    assert quantile(counts, 0.95) == 600.0
    assert is_over(counts, 0.95)
    assert not is_over(counts, 0.94)
    assert not is_over([0] * BINS, 0.95)


@pytest.mark.parametrize("index", [-1, BINS, 10_000])
def test_bins_that_do_not_exist_are_left_out(index: int) -> None:
    counts = [0] * BINS
    add_to(counts, {3: 2, index: 7, BINS - 1: 1})

    assert (sum(counts), counts[3], counts[-1]) == (3, 2, 1)
