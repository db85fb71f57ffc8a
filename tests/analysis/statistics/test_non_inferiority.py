"""The PASS side: an e-value against "worse by δ or more", and the design effect that sticky keys need."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from router.analysis.statistics import fault_test
from router.analysis.statistics import non_inferiority as pass_side
from router.analysis.statistics.counts import ArmTotals, GroupCounts
from router.analysis.statistics.drift import mean_of_groups, of_means
from router.analysis.statistics.non_inferiority import (
    NonInferiorityTest,
    assumed_effect,
    block_evidence,
    design_effect,
    design_effects,
    effective_keys,
    nearest_null,
    rate_difference,
    wilson,
)

RATES = st.floats(0.001, 0.5)
MARGINS = st.floats(0.002, 0.3)
REQUESTS = st.integers(1, 10_000)


@given(rate=RATES, margin=MARGINS, production=REQUESTS, canary=REQUESTS)
def test_the_nearest_null_is_where_scipy_finds_it(
    rate: float, margin: float, production: int, canary: int
) -> None:
    def distance(p: float) -> float:
        return production * pass_side.divergence(rate, p) + canary * pass_side.divergence(rate, p + margin)

    found = optimize.minimize_scalar(
        distance, bounds=(1e-12, 1 - margin - 1e-12), method="bounded", options={"xatol": 1e-13}
    )
    p = nearest_null(rate, margin, production, canary)

    assert 0 < p < 1 - margin
    assert distance(p) <= found.fun + 1e-9


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (3, 7), (19, 1)], ids=str)
@pytest.mark.parametrize("margin", [0.005, 0.05, 0.2])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.4])
def test_a_block_is_not_expected_to_gain_where_the_canary_is_worse(
    rate: float, margin: float, sizes: tuple[int, int]
) -> None:
    """Exactly, over all counts of both arms: at the margin and beyond, whatever production's rate is."""
    n_b, n_c = sizes
    gained = [
        [math.exp(block_evidence(ArmTotals(n_b, x_b, n_c, x_c), rate, margin)) for x_c in range(n_c + 1)]
        for x_b in range(n_b + 1)
    ]
    for production in (0.0, 0.005, 0.05, 0.2, 0.5):
        for beyond in (0.0, 0.1, 0.3):
            chances_b = stats.binom.pmf(range(n_b + 1), n_b, production)
            chances_c = stats.binom.pmf(range(n_c + 1), n_c, min(1.0, production + margin + beyond))
            expected = float(chances_b @ np.array(gained) @ chances_c)
            assert expected <= 1 + 1e-9


def test_cells_without_a_request_on_either_side_are_joined() -> None:
    joined, at_once = NonInferiorityTest(0.05), NonInferiorityTest(0.05)
    for total in (ArmTotals(0, 0, 4, 0), ArmTotals(0, 0, 9, 1), ArmTotals(80, 2, 9, 1)):
        joined.take(total)
    at_once.take(ArmTotals(80, 2, 9, 1))

    assert joined.ln_l == at_once.ln_l != 0.0
    assert joined.rate == pytest.approx(3.5 / 139)


def test_the_guess_comes_from_earlier_blocks_only() -> None:
    non_inferiority = NonInferiorityTest(0.05)
    non_inferiority.take(ArmTotals(100, 50, 100, 50))

    assert non_inferiority.ln_l == block_evidence(ArmTotals(100, 50, 100, 50), 0.01, 0.05)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=2, max_size=60))
def test_the_design_effect_is_the_residuals_of_the_rate(groups: list[tuple[int, float]]) -> None:
    """As numpy sums them, with the variance that scipy's Bernoulli gives one request."""
    requests = np.array([n for n, _ in groups])
    events = np.array([round(n * part) for n, part in groups])
    total = requests.sum()
    effect = design_effect(requests.tolist(), events.tolist())
    if not 0 < events.sum() < total or (requests > 0).sum() < 2:
        assert effect == 1.0
        return
    rate = events.sum() / total
    seen = requests > 0
    variance = np.var((events - rate * requests)[seen], ddof=1) * seen.sum() / total**2

    assert effect == pytest.approx(variance / (stats.bernoulli(rate).var() / total))


def test_independent_requests_have_no_design_effect() -> None:
    drawn = np.random.default_rng(8)
    requests = drawn.poisson(20, 1024)
    events = drawn.binomial(requests, 0.02)

    assert design_effect(requests.tolist(), events.tolist()) == pytest.approx(1.0, abs=0.1)


def test_a_key_that_always_fails_widens_it() -> None:
    requests, events = [20] * 50, [0] * 49 + [20]

    assert design_effect(requests, events) == pytest.approx(20.0, rel=0.03)


def test_effective_keys_are_those_who_ask_equally_often() -> None:
    assert effective_keys([5] * 30) == pytest.approx(30)
    assert effective_keys([1000, 1, 1]) == pytest.approx(1, abs=0.01)
    assert effective_keys([]) == 0.0


def test_a_canary_with_few_keys_is_taken_to_be_correlated() -> None:
    groups = GroupCounts()
    groups.add(0, {key: [10, 0, 0, 0, 0, 0] for key in range(100)})
    groups.add(1, {key: [100, 0, 0, 0, 0, 0] for key in range(4)})
    counts = groups.faults

    assert assumed_effect(counts.requests[1]) == pytest.approx(1 + 0.05 * 99)
    assert design_effects(counts) == (1.0, pytest.approx(5.95))


# How much longer


@given(rate=RATES, margin=MARGINS, share=st.floats(0.01, 0.99))
def test_equal_versions_gain_on_the_way_to_a_pass(rate: float, margin: float, share: float) -> None:
    weight = (1 - share) / share
    gain = pass_side.gain(rate, margin, weight)

    assert gain > 0
    assert gain == pytest.approx(
        pass_side.observed_gain(rate, margin, weight, rate, rate), rel=1e-6, abs=1e-12
    )
    assert pass_side.observed_gain(rate, margin, weight, rate, min(0.999, rate + 1.5 * margin)) < gain


@pytest.mark.parametrize(
    ("increase", "rate", "share", "measured"),
    [(0.01, 0.01, 0.05, 2140), (0.01, 0.01, 0.5, 4300), (0.01, 0.01, 0.01, 2050), (0.05, 0.01, 0.05, 150)],
)
def test_what_would_show_agrees_with_what_was_measured(
    increase: float, rate: float, share: float, measured: int
) -> None:
    """Median canary requests to FAIL, measured with both guards at ln 400."""
    reported = fault_test.requests_to_show(increase, rate, share, math.log(400))

    assert reported == pytest.approx(measured, rel=0.4)


def test_events_still_needed_shrink_as_the_evidence_grows() -> None:
    needed = [fault_test.events_to_fail(ln_e, math.log(400), 0.05, 40, 8) for ln_e in (0.0, 2.0, 4.0, 7.0)]

    assert None not in needed
    assert needed == sorted(needed, reverse=True)  # type: ignore[type-var]
    assert needed[-1] == 0.0


@pytest.mark.parametrize(("hits", "canary"), [(0, 0), (100, 3)], ids=["nothing", "no-rise"])
def test_no_time_is_reported_for_a_rise_that_is_not_there(hits: int, canary: int) -> None:
    assert fault_test.events_to_fail(0.0, 6.0, 0.05, hits, canary) is None


# Intervals, for display


@given(requests=st.integers(1, 5000), part=st.floats(0, 1))
def test_wilsons_interval_is_scipys(requests: int, part: float) -> None:
    events = round(requests * part)
    theirs = stats.binomtest(events, requests).proportion_ci(method="wilson")

    assert wilson(events, requests) == pytest.approx((theirs.low, theirs.high), abs=1e-7)


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe 1998, table II, (a): 56/70 against 48/80, method 10."""
    assert rate_difference((80, 48), (70, 56), (1.0, 1.0)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.tuples(REQUESTS, st.floats(0, 1)), st.tuples(REQUESTS, st.floats(0, 1)), st.floats(1.0, 20.0))
def test_sticky_keys_widen_the_interval_around_the_difference(
    production: tuple[int, float], canary: tuple[int, float], effect: float
) -> None:
    arms = [(requests, round(requests * part)) for requests, part in (production, canary)]
    narrow, wide = (
        rate_difference(arms[0], arms[1], (1.0, 1.0)),
        rate_difference(arms[0], arms[1], (effect, effect)),
    )
    difference = arms[1][1] / arms[1][0] - arms[0][1] / arms[0][0]

    assert narrow
    assert wide
    assert wide[0] - 1e-12 <= narrow[0] <= difference + 1e-12
    assert difference - 1e-12 <= narrow[1] <= wide[1] + 1e-12
    assert wide[0] >= -1.0
    assert wide[1] <= 1.0


def test_the_mean_of_groups_is_that_of_all_and_scatters_as_groups_do() -> None:
    drawn = np.random.default_rng(4)
    requests = [1] * 500
    scores = drawn.normal(0.5, 0.1, 500)

    reported = mean_of_groups(requests, scores.tolist())

    assert reported
    assert reported[0] == pytest.approx(scores.mean())
    assert reported[1] == pytest.approx(scores.var(ddof=1) / 500)
    assert mean_of_groups([5], [2.5]) is None
    low, high = of_means((0.5, 0.0001), (0.6, 0.0001))
    assert (low + high) / 2 == pytest.approx(0.1)
    assert high - low == pytest.approx(2 * stats.norm.ppf(0.975) * math.sqrt(0.0002), rel=1e-6)
