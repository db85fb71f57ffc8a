"""How long PASS and the proof of a rise take: forecast before, and held against made-up days."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from router.analysis.criteria import FAULTS, Criteria
from router.analysis.statistics.fault_test import cumulative_level
from router.analysis.statistics.forecast import (
    Waiting,
    _distribution,
    requests_until_pass,
    requests_until_proven,
)
from tests.analysis.statistics.days import (
    Traffic,
    canary_requests_until,
    evidence_on,
    failed,
    passed,
)
from tests.analysis.statistics.observed import Observed
from tests.conftest import Figure

RUNS = 50
CRITERIA = Criteria()
LEVEL = cumulative_level(CRITERIA.alpha * FAULTS.budget)


def until_pass(rate: float, share: float, keys: float = 1024.0, effect: float = 1.0) -> Waiting | None:
    return requests_until_pass(rate, CRITERIA.max_increase, share, CRITERIA.ln_pass, effect=effect, keys=keys)


def runs_until_pass(share: float, base: float, most: int) -> list[float]:
    return runs_until(passed, [Traffic(7_000 + run, share=share, base=base) for run in range(RUNS)], most)


def runs_until_proven(share: float, base: float, most: int) -> list[float]:
    rise = FAULTS.shown_rise
    days = [Traffic(8_000 + run, share=share, base=base, rise=rise) for run in range(RUNS)]
    return runs_until(failed, days, most)


def runs_until(said: Callable[[Observed], bool], days: list[Traffic], most: int) -> list[float]:
    """Canary requests of each seeded run; infinite for one that did not come to it."""
    taken = []
    for day in days:
        per_look, all_requests = round(25 / day.share), round(most / day.share)
        done = canary_requests_until(said, evidence_on(day), day, per_look=per_look, most=all_requests)
        taken.append(math.inf if done is None else float(done))
    return taken


def within(taken: list[float], low: float, high: float) -> float:
    return sum(low <= one <= high for one in taken) / len(taken)


def test_the_distribution_is_that_of_a_sum_that_reaches_a_level_first() -> None:
    """Against walks of the same drift and variance."""
    drawn = np.random.default_rng(3)
    walks = np.cumsum(drawn.normal(0.05, 0.4, (2_000, 4_000)), axis=1)
    first = np.argmax(walks >= 3.0, axis=1) + 1.0
    mean, shape = 3.0 / 0.05, 9.0 / 0.16

    for value in (20.0, 40.0, 80.0, 160.0):
        assert _distribution(value, mean, shape) == pytest.approx(np.mean(first <= value), abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_the_forecast_of_a_pass_holds_within_a_factor_of_two_in_four_of_five_runs(
    share: float, figure: Figure
) -> None:
    """50 seeded runs of a canary that is as good as a production that fails one in a thousand."""
    forecast = until_pass(0.001, share)
    assert forecast is not None
    taken = runs_until_pass(share, 0.001, most=6_000)
    hit = within(taken, forecast.about / 2, forecast.about * 2)
    figure(
        f"share {share:.0%}: forecast {forecast.about:.0f}, median {np.median(taken):.0f}, {hit:.0%} of runs"
    )

    assert hit >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("base", [0.0005, 0.005, 0.01])
@pytest.mark.parametrize("share", [0.05, 0.25])
def test_four_of_five_runs_pass_within_the_range(share: float, base: float, figure: Figure) -> None:
    """The more production fails, the more it is chance: then the range is wide, and says so."""
    forecast = until_pass(base, share)
    assert forecast is not None
    taken = runs_until_pass(share, base, most=20_000)
    hit = within(taken, forecast.low, forecast.high)
    figure(f"{share:.0%}, base {base:.1%}: {forecast.low:.0f} to {forecast.high:.0f}, {hit:.0%} of runs")

    assert hit >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("base", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("share", [0.05, 0.25])
def test_a_point_more_faults_shows_within_the_range(share: float, base: float, figure: Figure) -> None:
    forecast = requests_until_proven(FAULTS.shown_rise, base, share, LEVEL, least_keys=CRITERIA.min_hit_keys)
    assert forecast is not None
    taken = runs_until_proven(share, base, most=15_000)
    hit = within(taken, forecast.low, forecast.high)
    figure(f"{share:.0%}, base {base:.1%}: {forecast.low:.0f} to {forecast.high:.0f}, {hit:.0%} of runs")

    assert hit >= 0.8


def test_a_range_holds_what_is_as_likely_more_as_less() -> None:
    for forecast in (until_pass(0.01, 0.25), requests_until_proven(0.01, 0.01, 0.25, LEVEL, least_keys=3)):
        assert forecast is not None
        assert forecast.low < forecast.about < forecast.high


def test_fewer_faults_and_more_keys_make_it_shorter() -> None:
    times = [until_pass(rate, 0.25) for rate in (0.001, 0.01, 0.05)]
    of_keys = [until_pass(0.001, 0.25, keys) for keys in (1024.0, 200.0, 60.0)]

    assert [one.about for one in times if one] == sorted(one.about for one in times if one)
    assert [one.about for one in of_keys if one] == sorted(one.about for one in of_keys if one)


def test_where_a_few_keys_ask_for_nearly_all_it_never_passes() -> None:
    """The design effect that is assumed of them grows as fast as the evidence."""
    assert until_pass(0.001, 0.25, keys=25.0) is None


def test_a_design_effect_makes_it_longer_by_as_much() -> None:
    plain, wide = until_pass(0.01, 0.25, math.inf), until_pass(0.01, 0.25, math.inf, effect=3.0)

    assert plain is not None
    assert wide is not None
    assert 2.0 < wide.about / plain.about < 4.0


@pytest.mark.parametrize(("share", "rate"), [(0.0, 0.01), (1.0, 0.01), (0.5, 1.0)])
def test_what_can_not_be_proven_has_no_time(share: float, rate: float) -> None:
    assert requests_until_proven(0.01, rate, share, LEVEL, least_keys=3) is None


def test_where_production_never_fails_hit_keys_alone_decide() -> None:
    """Three faulty keys of 1 % prove it at a share of 1 %: about 300 requests."""
    forecast = requests_until_proven(0.01, 0.0, 0.01, LEVEL, least_keys=3)

    assert forecast is not None
    assert 200 < forecast.about < 320
