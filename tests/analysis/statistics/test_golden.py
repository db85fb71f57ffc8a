"""Numbers computed beforehand by two programs that share no code; six digits."""

import math

import pytest

from router.analysis.statistics.counts import ArmTotals
from router.analysis.statistics.drift import ks_bound, ks_distance, look_keys, psi, psi_line, psi_noise
from router.analysis.statistics.fault_test import OddsMixture, cumulative_level, epoch_level, keys_to_prove
from router.analysis.statistics.latency import BettingTest
from router.analysis.statistics.non_inferiority import (
    NonInferiorityTest,
    block_evidence,
    design_effect,
    nearest_null,
    requests_to_pass,
)


def six(value: float) -> object:
    return pytest.approx(value, rel=1e-6, abs=6e-7)


@pytest.mark.parametrize(
    ("looks", "ln_e"),
    [
        ([(3, 3, 5000, 100000)], 7.640046),
        ([(12, 12, 50000, 100000)], 7.395564),
        ([(5, 100, 5000, 100000)], -1.627290),
        ([(0, 40, 5000, 100000)], -2.077995),
        ([(2, 10, 5000, 100000), (4, 12, 4998, 99990), (6, 9, 4994, 99978)], 14.311275),
        ([(3, 7, 1000, 100000), (9, 20, 4990, 99993)], 19.032557),
        ([(40, 400, 5000, 100000)], 6.168562),
        ([], 0.0),
    ],
    ids=["all-canary", "all-at-half", "as-due", "none", "three-looks", "share-raised", "twice", "no-look"],
)
def test_evidence_of_looks(looks: list[tuple[int, int, int, int]], ln_e: float) -> None:
    """Looks of (canary's hits, hits, clean canary buckets, clean buckets)."""
    mixture = OddsMixture()
    for hits, events, canary, clean in looks:
        mixture.add(hits, events, canary / clean)

    assert mixture.ln_e == six(ln_e)


def test_levels() -> None:
    assert cumulative_level(0.005) == six(5.991465)
    assert [epoch_level(0.005, number) for number in (1, 2, 10, 96)] == [
        six(level) for level in (6.684612, 7.783224, 10.691945, 15.130524)
    ]


@pytest.mark.parametrize(("share", "keys"), [(0.01, 2), (0.05, 3), (0.1, 4), (0.25, 6), (0.5, 10)])
def test_faulty_canary_keys_in_a_row_that_prove_it(share: float, keys: int) -> None:
    assert keys_to_prove(share, math.log(400)) == keys


@pytest.mark.parametrize(
    ("block", "rate", "margin", "p", "ln_l"),
    [
        (ArmTotals(950, 0, 50, 0), 0.01, 0.005, 0.00983062, 0.082043),
        (ArmTotals(9500, 95, 500, 5), 0.01, 0.005, 0.00983062, 0.464599),
        (ArmTotals(9500, 95, 500, 15), 0.01, 0.005, 0.00983062, -3.525402),
        (ArmTotals(500, 5, 500, 5), 0.01, 0.005, 0.00808452, 0.306799),
        (ArmTotals(1, 0, 1, 1), 0.01, 0.005, 0.00808452, -0.270778),
        (ArmTotals(950, 48, 50, 3), 0.05, 0.05, 0.0486665, 0.464710),
    ],
    ids=["clean", "equal", "worse", "halves", "one-request", "latency"],
)
def test_evidence_of_a_block(block: ArmTotals, rate: float, margin: float, p: float, ln_l: float) -> None:
    assert nearest_null(rate, margin, block.production_requests, block.canary_requests) == six(p)
    assert block_evidence(block, rate, margin) == six(ln_l)


@pytest.mark.parametrize(("margin", "requests"), [(0.005, 650), (0.01, 350), (0.05, 100)])
def test_canary_requests_to_pass_without_a_fault(margin: float, requests: int) -> None:
    """In blocks of 950 and 50 requests."""
    non_inferiority, blocks = NonInferiorityTest(margin), 0
    while non_inferiority.ln_l < math.log(20):
        blocks += 1
        non_inferiority.take(ArmTotals(950 * blocks, 0, 50 * blocks, 0))

    assert blocks * 50 == requests


@pytest.mark.parametrize(
    ("requests", "events", "effect"),
    [
        ([10] * 4, [0, 0, 0, 4], 4.444444),
        ([50, 30, 20], [1, 0, 2], 1.556701),
        ([100, 1, 1, 1, 1], [10, 0, 0, 0, 0], 0.025573),
    ],
    ids=["one-key-fails", "three-keys", "one-key-is-the-arm"],
)
def test_design_effects(requests: list[int], events: list[int], effect: float) -> None:
    assert design_effect(requests, events) == pytest.approx(effect, abs=6e-7)


@pytest.mark.parametrize(
    ("share", "rate", "margin", "needed"),
    [
        (0.05, 0.01, 0.005, 3224.0),
        (0.5, 0.01, 0.005, 4882.2),
        (0.05, 0.001, 0.005, 935.3),
        (0.01, 0.01, 0.05, 89.8),
    ],
)
def test_requests_still_needed(share: float, rate: float, margin: float, needed: float) -> None:
    assert requests_to_pass(0.0, 1.0, rate, margin, (1 - share) / share) == pytest.approx(needed, abs=0.05)


@pytest.mark.parametrize(
    ("differences", "ln_e"),
    [
        ([0.15, 0.15, -0.05], 0.494859),
        ([0.6] * 4, 2.058659),
        ([-0.3, 0.1, 0.2, 0.25, 0.25], 0.316843),
    ],
)
def test_evidence_of_blocks_of_time(differences: list[float], ln_e: float) -> None:
    bet = BettingTest()
    for difference in differences:
        bet.add(difference)

    assert bet.ln_e == six(ln_e)


@pytest.mark.parametrize(
    ("canary", "production", "index", "distance"),
    [
        ([25, 25, 25, 25], [100, 200, 300, 400], 0.227161, 0.2),
        ([0, 0, 50, 50], [250] * 4, 2.262314, 0.5),
    ],
)
def test_sizes_of_shifts(canary: list[int], production: list[int], index: float, distance: float) -> None:
    assert psi(production, canary) == six(index)
    assert psi_noise(4, 1000, 100) == six(0.033)
    assert psi_line(4, 1000, 100) == six(0.182058)
    assert ks_distance(production, canary) == six(distance)


def test_keys_at_which_scores_are_looked_at() -> None:
    assert [look_keys(index) for index in range(1, 9)] == [50, 63, 79, 98, 123, 153, 191, 239]


@pytest.mark.parametrize(
    ("canary", "production", "look", "bound"),
    [(50, 950, 1, 0.278677), (98, 1862, 4, 0.228011), (5000, 95000, 21, 0.036735)],
)
def test_bounds_of_the_distance(canary: int, production: int, look: int, bound: float) -> None:
    assert ks_bound(production, canary, 0.0025 / (look * (look + 1))) == six(bound)
