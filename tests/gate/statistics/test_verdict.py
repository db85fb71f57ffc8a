"""PASS, FAIL or NOT ENOUGH DATA, from an interval and what is asked of it."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from router.core.verdict import Verdict
from router.gate.statistics.difference import Difference, Method
from router.gate.statistics.verdict import judge

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.NOT_ENOUGH_DATA
AMOUNTS = st.floats(-1, 1)


def difference(low: float, high: float, point: float | None = None, rows: int = 1000) -> Difference:
    middle = point if point is not None else 0.0 if math.isinf(low) else (low + high) / 2
    return Difference("f1", True, 0.5 + middle, 0.5, middle, low, high, rows, None, Method.BOOTSTRAP)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.004, 0.01, PASS),
        (-0.005, 0.01, PASS),
        (-0.0051, 0.01, OPEN),
        (-0.02, -0.005, OPEN),
        (-0.02, -0.0051, FAIL),
        (-math.inf, math.inf, OPEN),
    ],
)
def test_a_candidate_is_not_worse_when_the_whole_interval_is_within_the_loss(
    low: float, high: float, verdict: Verdict
) -> None:
    """PASS when l ≥ −max-loss, FAIL when u < −max-loss."""
    assert judge(difference(low, high), 0.005).verdict is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.02, PASS),
        (0.009, 0.02, OPEN),
        (0.0, 0.0099, FAIL),
        (-0.02, 0.0099, FAIL),  # open whether it is worse, and yet it is not better
        (-0.02, 0.02, OPEN),
        (-0.02, -0.006, FAIL),
    ],
)
def test_a_gain_that_is_asked_for_is_a_second_criterion(low: float, high: float, verdict: Verdict) -> None:
    """Both must pass, one FAIL fails."""
    assert judge(difference(low, high), 0.005, 0.01).verdict is verdict


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.01, 0.02, "not worse: a gain of 0.01 at least, a loss of 0.005 is allowed"),
        (-0.004, 0.02, "not worse: a loss of 0.004 at most, a loss of 0.005 is allowed"),
        (-0.02, -0.01, "worse: a loss of 0.01 at least, a loss of 0.005 is allowed"),
    ],
)
def test_a_bound_is_said_the_way_round_that_is_read(low: float, high: float, sentence: str) -> None:
    assert judge(difference(low, high), 0.005).sentence == sentence


def test_each_criterion_says_what_it_rests_on() -> None:
    found = judge(difference(-0.02, 0.006), 0.005, 0.01)

    assert [(each.name, each.bound, each.verdict) for each in found.criteria] == [
        ("not worse", -0.005, OPEN),
        ("better", 0.01, FAIL),
    ]
    assert found.sentence == "not better: a gain of 0.006 at most, a gain of 0.01 is asked for"


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.003, 0.02, "not worse: a loss of 0.003 at most, a loss of 0.005 is allowed"),
        (0.01, 0.02, "not worse: a gain of 0.01 at least, a loss of 0.005 is allowed"),
        (-0.2, -0.1, "worse: a loss of 0.1 at least, a loss of 0.005 is allowed"),
    ],
)
def test_the_end_of_the_interval_that_decides_is_named_in_words(
    low: float, high: float, sentence: str
) -> None:
    assert judge(difference(low, high), 0.005).sentence == sentence


def test_the_rows_that_would_decide_are_those_at_the_seen_variance() -> None:
    """The bound is 0.005 below the point and the half 0.01: twice as near takes four times the rows."""
    found = judge(difference(-0.01, 0.01), 0.005)

    assert found.rows_to_decide == pytest.approx(4000, abs=1)
    assert found.sentence == (
        "open whether not worse: between a loss of 0.01 and a gain of 0.01, a loss of 0.005 is allowed;"
        f" about {found.rows_to_decide} rows would decide at the seen variance, there are 1000"
    )


@given(point=AMOUNTS, half=st.floats(1e-3, 1), loss=st.floats(0, 1), gain=st.none() | AMOUNTS)
def test_with_the_rows_that_would_decide_it_is_decided(
    point: float, half: float, loss: float, gain: float | None
) -> None:
    found = judge(difference(point - half, point + half, point), loss, gain)
    assume(found.verdict is OPEN and found.rows_to_decide is not None)
    rows = found.rows_to_decide * 1.001 + 1  # rounding

    smaller = half * math.sqrt(1000 / rows)

    assert judge(difference(point - smaller, point + smaller, point), loss, gain).verdict is not OPEN
    assert rows > 1000


@given(low=AMOUNTS, width=st.floats(0, 1), loss=st.floats(0, 1), gain=st.none() | AMOUNTS)
def test_a_larger_allowance_never_makes_it_worse_and_a_better_candidate_neither(
    low: float, width: float, loss: float, gain: float | None
) -> None:
    order = [FAIL, OPEN, PASS]
    before = order.index(judge(difference(low, low + width), loss, gain).verdict)

    assert order.index(judge(difference(low, low + width), loss + 0.1, gain).verdict) >= before
    assert order.index(judge(difference(low + 0.1, low + 0.1 + width), loss, gain).verdict) >= before


def test_where_the_point_is_the_bound_no_number_of_rows_decides() -> None:
    found = judge(difference(-0.01, 0.01, 0.0), 0.0)

    assert found.rows_to_decide is None
    assert "no number of rows is known to decide" in found.sentence
    assert "say too little" in judge(difference(-math.inf, math.inf, 0.1), 0.0).sentence


@pytest.mark.parametrize("loss", [-0.1, math.inf, math.nan])
def test_a_loss_below_zero_or_without_end_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="max_loss"):
        judge(difference(0, 1), loss)


def test_a_difference_that_is_no_number_is_never_judged() -> None:
    with pytest.raises(ValueError, match="no number"):
        judge(difference(math.nan, 1.0, 0.0), 0.1)
    with pytest.raises(ValueError, match="min_gain"):
        judge(difference(0, 1), 0.1, math.nan)
