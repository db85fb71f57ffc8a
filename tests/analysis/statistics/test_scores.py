"""Scores, blocks of time and the edge of slowness: the pieces, against scipy and by their properties."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from router.analysis.statistics.counts import RECENT_SECONDS, ArmTotals, RecentTotals
from router.analysis.statistics.drift import (
    DriftTest,
    ScoreHistograms,
    classes_bound,
    ks_bound,
    ks_distance,
    psi,
    psi_line,
    psi_noise,
    size_of,
    total_variation,
)
from router.analysis.statistics.latency import BettingTest, SlowThreshold, TimeBlocks, edge_at, quantile
from router.core.latency_buckets import REQUEST_SECONDS

HISTOGRAMS = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(
        *(st.lists(st.integers(0, 60), min_size=bins, max_size=bins).filter(any) for _ in range(2))
    )
)


@given(HISTOGRAMS)
def test_the_distance_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    production, canary = pair
    samples = [np.repeat(np.arange(len(counts)), counts) for counts in pair]

    assert ks_distance(production, canary) == pytest.approx(
        stats.ks_2samp(*samples, method="asymp").statistic
    )
    assert ks_distance(production, canary) <= total_variation(production, canary) + 1e-12


@given(HISTOGRAMS)
def test_psi_is_symmetric_and_nothing_for_equal_shares(pair: tuple[list[int], list[int]]) -> None:
    production, canary = pair

    assert psi(production, canary) == pytest.approx(psi(canary, production))
    assert psi(production, canary) >= 0.0
    assert psi(production, production) == 0.0


@pytest.mark.parametrize("bins", [2, 3, 5, 10, 20, 40])
def test_the_line_is_scipys_chi_square(bins: int) -> None:
    """Wilson and Hilferty are off by 8 % with one degree of freedom, by 0.3 % with nineteen."""
    exact = stats.chi2.ppf(0.999, bins - 1)

    assert psi_line(bins, 1000, 100) / 0.011 == pytest.approx(exact, rel=0.09 if bins < 4 else 0.02)


def test_twenty_bins_have_the_line_of_the_specification() -> None:
    assert psi_line(20, 2, 2) == pytest.approx(43.95, abs=0.005)
    assert psi_line(1, 2, 2) == 0.0


def test_the_noise_floor_is_what_equal_versions_show() -> None:
    """Within 6 % from 200 + 200 keys on."""
    drawn = np.random.default_rng(3)
    shares = drawn.dirichlet(np.full(20, 5.0))
    measured = np.mean(
        [
            psi(drawn.multinomial(4000, shares).tolist(), drawn.multinomial(200, shares).tolist())
            for _ in range(2000)
        ]
    )

    assert measured == pytest.approx(psi_noise(20, 4000, 200), rel=0.06)


def test_the_bound_of_the_distance_holds() -> None:
    """Equal versions in 20 equal bins exceed it with less than α."""
    drawn = np.random.default_rng(6)
    alpha, days, shares = 0.05, 2000, np.full(20, 0.05)
    beyond = sum(
        ks_distance(drawn.multinomial(2000, shares).tolist(), drawn.multinomial(100, shares).tolist())
        > ks_bound(2000, 100, alpha)
        for _ in range(days)
    )

    assert beyond / days <= alpha


@pytest.mark.parametrize("alpha", [0.00125, 1e-4, 1e-6])
def test_the_bound_of_the_distance_is_scipys(alpha: float) -> None:
    """Kolmogorov's limit, of which the bound is the first term."""
    exact = stats.kstwobign.isf(alpha) * math.sqrt(1 / 950 + 1 / 50)

    assert ks_bound(950, 50, alpha) == pytest.approx(exact, rel=1e-6)
    assert ks_bound(950, 50, alpha) >= exact - 1e-12


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_bound_of_total_variation_holds(classes: int) -> None:
    drawn = np.random.default_rng(7)
    shares = np.full(classes, 1 / classes)
    alpha, days = 0.05, 2000
    beyond = sum(
        total_variation(drawn.multinomial(2000, shares).tolist(), drawn.multinomial(100, shares).tolist())
        > classes_bound(classes, 2000, 100, alpha)
        for _ in range(days)
    )

    assert beyond / days <= alpha
    assert classes_bound(2, 2000, 100, alpha) == pytest.approx(ks_bound(2000, 100, alpha))


@pytest.mark.parametrize(
    ("index", "size"), [(0.04, "none"), (0.06, "small"), (0.16, "moderate"), (0.31, "large")]
)
def test_words_for_sizes(index: float, size: str) -> None:
    assert size_of(index, 0.03, 0.05) == size


def test_looks_are_few_and_go_on_through_steps() -> None:
    shift = DriftTest(0.0025, classes=False)
    for keys in range(1, 64):
        shift.look([1000, 1000], [keys, 0])
    assert (shift.looks, shift.in_step, shift.proven) == (2, 3, True)
    assert shift.bound == ks_bound(2000, 63, 0.0025 / 6)

    shift.restart()
    assert (shift.distance, shift.in_step, shift.proven) == (None, 1, True)
    shift.look([1000, 1000], [100, 100])

    assert (shift.looks, shift.in_step) == (3, 8)
    assert shift.bound == ks_bound(2000, 200, 0.0025 / 12)


def test_no_look_is_spent_while_production_has_few_keys() -> None:
    shift = DriftTest(0.0025, classes=False)
    shift.look([25, 24], [400, 400])

    assert shift.looks == 0


def test_nothing_is_said_of_fewer_than_fifty_keys() -> None:
    scores = ScoreHistograms(2, 0.0025, classes=False, edges=(0.0, 0.5, 1.0))
    for key in range(49):
        scores.add(1, key, first=True, canary=True)
        scores.add(0, key, first=True, canary=False)
    output = scores.shift()

    assert (output.psi, output.noise, output.size, output.ks) == (None, None, None, None)
    assert output.canary.mean == 0.75
    assert output.canary.p50 == pytest.approx(0.75)


@pytest.mark.parametrize(("bin_count", "edges"), [(0, None), (3, (0.0, 1.0))], ids=["none", "too-few-edges"])
def test_bins_have_their_edges(bin_count: int, edges: tuple[float, ...] | None) -> None:
    with pytest.raises(ValueError, match="bin_count"):
        ScoreHistograms(bin_count, 0.0025, classes=False, edges=edges)


# TimeBlocks of time


@pytest.mark.parametrize("high", [0.05, 0.25, 1.0])
def test_a_bet_is_not_expected_to_gain(high: float) -> None:
    """Exactly, for differences of two values whose mean is 0 within the clip; clipping only takes gains."""
    low = -0.2
    chance = -low / (high - low)
    gains = []
    for difference in (high, low):
        bet = BettingTest()
        bet.add(difference)
        gains.append(math.exp(bet.ln_e))

    assert chance * gains[0] + (1 - chance) * gains[1] <= 1 + 1e-12


def test_blocks_last_half_a_minute_and_twenty_canary_requests() -> None:
    blocks = TimeBlocks(0.0)

    assert blocks.close(29.0, ArmTotals(100, 0, 40, 4)) is None
    assert blocks.close(31.0, ArmTotals(100, 0, 40, 4)) == pytest.approx(0.1)
    assert blocks.close(62.0, ArmTotals(300, 0, 59, 9)) is None
    assert blocks.close(63.0, ArmTotals(300, 20, 60, 10)) == pytest.approx(0.3 - 0.1)
    assert blocks.close(99.0, ArmTotals(300, 20, 90, 10)) is None, "production had no request"


@pytest.mark.parametrize(
    ("difference", "needed"), [(0.25, 12), (0.9, 12), (0.12, 21), (0.0, None), (-0.3, None)]
)
def test_blocks_still_needed_are_those_that_it_takes(difference: float, needed: int | None) -> None:
    """Twelve blocks, which are six minutes, where every answer of the canary is slow."""
    level, bet = math.log(800), BettingTest()
    assert bet.blocks_until(level, difference) == needed

    for taken in range(needed or 0):
        assert bet.ln_e < level
        assert bet.blocks_until(level, difference) == (needed or 0) - taken
        bet.add(difference)
    assert needed is None or bet.ln_e >= level
    assert needed is None or bet.blocks_until(level, -1.0) == 0


def test_the_block_under_way_ends_with_its_half_minute_and_its_requests() -> None:
    blocks = TimeBlocks(0.0)
    assert blocks.seconds_left(10.0, ArmTotals(100, 0, 25, 4), 2.5) == 20.0
    assert blocks.seconds_left(10.0, ArmTotals(100, 0, 10, 4), 0.2) == 50.0
    assert blocks.seconds_left(40.0, ArmTotals(100, 0, 25, 4), 2.5) == 0.0
    assert math.isinf(blocks.seconds_left(40.0, ArmTotals(100, 0, 10, 4), 0.0))


def test_the_edge_is_at_or_above_the_p95() -> None:
    edge = SlowThreshold()
    for index in range(200):
        assert edge.seconds is None
        edge.add(0.004 if index < 190 else 0.3)

    assert edge.seconds == 0.005
    edge_of_slow = edge_at([0] * len(REQUEST_SECONDS) + [10], 0.95)
    assert edge_of_slow == REQUEST_SECONDS[-1]


@given(st.lists(st.floats(0.0001, 59.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_the_bin_of_the_exact_one(seconds: list[float], share: float) -> None:
    counts = np.histogram(seconds, bins=[0.0, *np.nextafter(REQUEST_SECONDS, 1e9)])[0].tolist()
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))
    bin_of = int(np.searchsorted(REQUEST_SECONDS, exact))
    low = 0.0 if bin_of == 0 else REQUEST_SECONDS[bin_of - 1]

    reported = quantile((0.0, *REQUEST_SECONDS), counts, share)

    assert reported is not None
    assert low <= reported <= REQUEST_SECONDS[bin_of]


def test_a_quantile_of_nothing_is_unknown_and_beyond_the_edges_it_is_the_last() -> None:
    assert quantile((0.0, 1.0), [0, 0], 0.5) is None
    assert quantile((0.0, 1.0), [0, 3], 0.5) == 1.0


# The last five minutes


def test_recent_counts_are_of_five_minutes_and_bounded() -> None:
    recent, drawn, now = RecentTotals(0.0), random.Random(1), 0.0
    total = ArmTotals()
    history = [(0.0, total)]
    for _ in range(3000):
        now += drawn.random()
        total = ArmTotals(total.production_requests + 9, 0, total.canary_requests + 1, 0)
        recent.add(now, total)
        history.append((now, total))

    counted = recent.totals(total).canary_requests
    assert RECENT_SECONDS - 6.0 <= recent.seconds(now) <= RECENT_SECONDS
    exact = sum(1 for at, _ in history if at > now - recent.seconds(now) + 1e-9)
    assert abs(counted - exact) <= 1
    assert len(recent._snapshots) <= 62
