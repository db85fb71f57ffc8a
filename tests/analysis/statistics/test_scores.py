"""Scores, blocks of time and the line of slowness: the pieces, against scipy and by their properties."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from router.analysis.statistics.counts import RECENT_CELLS, ArmTotals, GroupCounts, RecentTotals
from router.analysis.statistics.drift import (
    DriftTest,
    FirstScores,
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
from router.analysis.statistics.durations import BINS, bin_of
from router.analysis.statistics.latency import BettingTest, TimeBlocks, slow_line
from router.analysis.statistics.records import score_units
from router.core.scores import ClassSpec, ScoreSpec
from router.worker.scores import count_and_locate

HISTOGRAMS = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(
        *(st.lists(st.integers(0, 60), min_size=bins, max_size=bins).filter(any) for _ in range(2))
    )
)


def first(bins: list[int]) -> FirstScores:
    return FirstScores(bins)


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
        shift.look(first([1000, 1000]), first([keys, 0]))
    assert (shift.looks, shift.in_step, shift.proven) == (2, 3, True)
    assert shift.bound == ks_bound(2000, 63, 0.0025 / 6)

    shift.restart()
    assert (shift.distance, shift.in_step, shift.proven) == (None, 1, True)
    shift.look(first([1000, 1000]), first([100, 100]))

    assert (shift.looks, shift.in_step) == (3, 8)
    assert shift.bound == ks_bound(2000, 200, 0.0025 / 12)


def test_no_look_is_spent_while_production_has_few_keys() -> None:
    shift = DriftTest(0.0025, classes=False)
    shift.look(first([25, 24]), first([400, 400]))

    assert shift.looks == 0


def test_nothing_is_said_of_fewer_than_fifty_keys() -> None:
    spec = ScoreSpec(bins=2)
    scores, groups = ScoreHistograms(spec, 0.0025), GroupCounts()
    for arm, bin_index in enumerate((0, 1)):
        scores.take(arm, {bin_index: 49}, [bin_index] * 49, 0)
        groups.add(arm, {key: [1, 0, 0, 0, 1, score_units(spec)[bin_index]] for key in range(49)})
    output = scores.shift(groups)

    assert (output.psi, output.noise, output.size, output.ks) == (None, None, None, None)
    assert output.canary.mean == 0.75
    assert output.canary.p50 == pytest.approx(0.75)
    assert output.mean_difference == 0.5
    assert output.mean_interval == (0.5, 0.5)


def test_means_come_from_whole_numbers_that_are_as_exact_as_a_millionth_of_the_range() -> None:
    spec, drawn = ScoreSpec(0, -3.0, 7.0, 30), random.Random(8)
    middles = [(low + high) / 2 for low, high in zip((spec.low, *spec.edges()), spec.edges(), strict=False)]
    scores, groups, values = ScoreHistograms(spec, 0.0025), GroupCounts(), ([], [])
    for arm in (0, 1):
        for _ in range(500):
            bin_index, group = drawn.randrange(30), drawn.randrange(40)
            scores.take(arm, {bin_index: 1}, [], 0)
            groups.add(arm, {group: [1, 0, 0, 0, 1, score_units(spec)[bin_index]]})
            values[arm].append(middles[bin_index])
    shift = scores.shift(groups)

    assert shift.mean_difference == pytest.approx(np.mean(values[1]) - np.mean(values[0]), abs=1e-5)
    assert shift.canary.mean == pytest.approx(np.mean(values[1]))
    assert shift.mean_interval
    assert sum(shift.mean_interval) / 2 == pytest.approx(shift.mean_difference)


@pytest.mark.parametrize("output", [ScoreSpec(bins=3), ClassSpec(0, ("a", "b"))], ids=["score", "class"])
def test_bins_are_as_many_as_what_was_dumped_has(output: ScoreSpec | ClassSpec) -> None:
    state = ScoreHistograms(output, 0.0025).state

    assert ScoreHistograms(output, 0.0025, state).state is state
    with pytest.raises(ValueError, match="4 bins"):
        ScoreHistograms(ScoreSpec(bins=4), 0.0025, state)


def test_a_bin_that_does_not_exist_is_no_score() -> None:
    scores = ScoreHistograms(ClassSpec(0, ("a",)), 0.0025)
    scores.take(1, {0: 2, 1: 3, 2: 4, -1: 5}, [0, 2, -1], 6)
    arm = scores.state.canary

    assert (arm.every, arm.first.bins, arm.invalid) == ([2, 3], [1, 0], 15)


# Blocks of time


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


def test_blocks_are_the_fewest_cells_with_half_a_minute_and_twenty_canary_requests() -> None:
    blocks = TimeBlocks(100)

    assert blocks.close(105, ArmTotals(100, 0, 40, 4)) is None
    assert blocks.close(106, ArmTotals(100, 0, 40, 4)) == pytest.approx(0.1)
    assert blocks.close(112, ArmTotals(300, 0, 59, 9)) is None
    assert blocks.close(113, ArmTotals(300, 20, 60, 10)) == pytest.approx(0.3 - 0.1)
    assert blocks.close(119, ArmTotals(300, 20, 90, 10)) is None, "production had no request"
    assert blocks.close(120, ArmTotals(310, 20, 90, 10)) == pytest.approx(0.0)


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
    blocks = TimeBlocks(0)
    assert blocks.seconds_left(2, ArmTotals(100, 0, 25, 4), 2.5) == 20.0
    assert blocks.seconds_left(2, ArmTotals(100, 0, 10, 4), 0.2) == 50.0
    assert blocks.seconds_left(8, ArmTotals(100, 0, 25, 4), 2.5) == 0.0
    assert math.isinf(blocks.seconds_left(8, ArmTotals(100, 0, 10, 4), 0.0))


@pytest.mark.parametrize(
    ("seconds", "line"), [(0.1, 0.12), (0.01, 0.012), (0.004, 0.006)], ids=["ratio", "both", "2 ms"]
)
def test_the_line_is_above_the_p95_by_a_factor_and_by_two_milliseconds(seconds: float, line: float) -> None:
    counts = [0] * BINS
    counts[bin_of(seconds)], counts[bin_of(5 * seconds)] = 190, 9
    assert slow_line(counts, 1.2, 0.002) is None, "199 answers say nothing"

    counts[bin_of(5 * seconds)] = 10
    assert slow_line(counts, 1.2, 0.002) == pytest.approx(line, rel=0.05)
    assert slow_line(counts, 1.0, 0.0) == pytest.approx(seconds, rel=0.05)


# The last five minutes


def test_recent_counts_are_of_five_minutes_and_bounded() -> None:
    recent, drawn, total = RecentTotals.since(50), random.Random(1), ArmTotals()
    history = [total]
    for cell in range(50, 250):
        total = total.plus(ArmTotals(9, 0, drawn.randrange(5), 0))
        history.append(total)
        recent.add(cell + 1, total)

        since = max(0, len(history) - 1 - RECENT_CELLS)
        assert recent.totals() == total.since(history[since])
        assert recent.seconds() == 5 * (len(history) - 1 - since)
        assert len(recent.snapshots) <= RECENT_CELLS + 1


SCORES = st.lists(st.floats(-3.0, 4.0), min_size=60, max_size=120)


@given(SCORES, SCORES)
def test_scores_are_never_further_apart_than_is_said_at_the_edges_and_out_of_range(
    production: list[float], canary: list[float]
) -> None:
    """Beyond both ends all count alike, so that their distance alone does not show it."""
    spec = ScoreSpec(bins=4)
    histograms = ScoreHistograms(spec, 0.0025)
    for arm, values in enumerate((production, canary)):
        _, bin_indexes = count_and_locate(np.array(values), spec, range(len(values)))
        histograms.take(arm, {}, [index for index in bin_indexes if index is not None], 0)
    histograms.look()
    shift = histograms.shift(GroupCounts())

    points = [*spec.edges(), *(value for value in (*production, *canary) if not 0.0 <= value <= 1.0)]
    farthest = max(
        abs(np.mean(np.array(production) <= point) - np.mean(np.array(canary) <= point)) for point in points
    )
    assert shift.ks is not None
    assert shift.ks_at_most is not None
    assert shift.ks <= shift.ks_at_most + 1e-12
    assert shift.ks_at_most >= farthest - 1e-12
    assert shift.production.keys_out_of_range == sum(not 0.0 <= value <= 1.0 for value in production)


@pytest.mark.parametrize(("other", "saturated"), [(0, False), (10, False), (11, True), (100, True)])
def test_labels_on_no_list_may_be_any(other: int, saturated: bool) -> None:
    histograms = ScoreHistograms(ClassSpec(0, ("a", "b")), 0.0025)
    for arm in (0, 1):
        histograms.take(arm, {}, [2 if turn < other else turn % 2 for turn in range(100)], 0)
    histograms.look()
    shift = histograms.shift(GroupCounts())

    assert shift.saturated is saturated
    assert shift.ks == 0.0
    assert shift.ks_at_most == pytest.approx(other / 100)
    assert shift.canary.keys_out_of_range == other
