"""How far two answers may be from each other: exact where they are exact, else the rounding of their type."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router.worker.tolerance import equal

SINGLE, DOUBLE, RTOL = np.float32, np.float64, 1e-9
ROUNDING = float(np.finfo(np.float32).eps)


def converted(number: float) -> float:
    """As `.tolist()` or `astype(float)` gives what was computed in float32."""
    return float(np.float32(number))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SINGLE([0.7]), SINGLE([0.7 * (1 + 60 * ROUNDING)])),
        (SINGLE([3e-8, 1.0]), SINGLE([-9e-8, 1.0])),
        (SINGLE([1e6]), SINGLE([1e6 * (1 + 60 * ROUNDING)])),
        (SINGLE(0.7), SINGLE(0.7 + 2 * ROUNDING)),
        (np.complex64([0.7j]), np.complex64([0.7j + 2j * ROUNDING])),
        (pd.DataFrame({"a": SINGLE([0.7])}), pd.DataFrame({"a": SINGLE([0.7 + 2 * ROUNDING])})),
        ([{"score": converted(0.7)}], [{"score": converted(0.7 + 2 * ROUNDING)}]),
        (DOUBLE([converted(0.99999994)]), DOUBLE([1.0])),
        (DOUBLE([0.0]), DOUBLE([converted(3e-8)])),
        (np.float16([0.7]), np.float16([0.7 * 1.001])),
        ([0.7], [0.7 * (1 + 0.9e-9)]),
        (DOUBLE([3e-17, 1.0]), DOUBLE([-2e-17, 1.0])),
    ],
)
def test_rounding_is_no_difference_but_where_the_same_bits_are_demanded(one: Any, other: Any) -> None:
    assert equal(one, other, RTOL)
    assert equal(other, one, RTOL)
    assert not equal(one, other, 0.0)


def test_what_is_no_number_equals_itself() -> None:
    odd = SINGLE([math.inf, -math.inf, math.nan])
    assert equal(odd, odd.copy(), 0.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SINGLE([7.0]), SINGLE([7.0 * (1 + 70 * ROUNDING)])),
        (SINGLE([0.0]), SINGLE([70 * ROUNDING])),
        (DOUBLE([0.7]), DOUBLE([0.7 + 2 * ROUNDING])),
        (DOUBLE([0.7]), DOUBLE([converted(0.7)])),
        (DOUBLE([1_000_000.0]), DOUBLE([1_000_001.0])),
        ([1_000_000.0], [1_000_001.0]),
        ([1_000_000], [1_000_001]),
        (np.float16([0.7]), np.float16([0.7 * 1.005])),
        (SINGLE([math.inf]), SINGLE([1e38])),
        (DOUBLE([math.inf]), DOUBLE([-math.inf])),
        (SINGLE([math.nan]), SINGLE([0.0])),
        (SINGLE([0.7]), DOUBLE([converted(0.7)])),
        (["a"], ["b"]),
    ],
)
def test_more_is_one(one: Any, other: Any) -> None:
    assert not equal(one, other, RTOL)
    assert not equal(other, one, RTOL)


def test_an_operator_may_allow_float32_more_and_not_less_but_the_same_bits() -> None:
    one, other = SINGLE([0.7]), SINGLE([0.7001])
    assert equal(one, other, 0.01)
    assert equal(one, SINGLE([0.7 + 2 * ROUNDING]), 1e-12)
