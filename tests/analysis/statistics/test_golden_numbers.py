"""The golden numbers are what a program without a line of the gateway computes."""

import pytest

from tests.analysis.statistics.golden_numbers import numbers

GOLDEN: dict[str, list[float]] = {
    "looks: ln E": [7.640046, 7.395564, -1.627290, -2.077995, 14.311275, 19.032557, 6.168562, 0.0],
    "levels: from the start, epochs 1, 2, 10, 96": [5.991465, 6.684612, 7.783224, 10.691945, 15.130524],
    "faulty canary keys in a row at 1, 5, 10, 25, 50 %": [2, 3, 4, 6, 10],
    "blocks of counts: p": [0.00983062, 0.00983062, 0.00983062, 0.00808452, 0.00808452, 0.0486665],
    "blocks of counts: L": [0.082043, 0.464599, -3.525402, 0.306799, -0.270778, 0.464710],
    "no faults: canary requests to pass at 0.5, 1, 5 points": [650, 350, 100],
    "design effects": [4.444444, 1.556701, 0.025573],
    "still needed": [3224.00, 4882.24, 935.328, 89.8266],
    "blocks of time: ln E": [0.494859, 2.058659, 0.316843],
    "scores: PSI, floor, line, K-S": [0.227161, 0.033, 0.182058, 0.2, 2.262314, 0.033, 0.182058, 0.5],
    "scores: keys at looks": [50, 63, 79, 98, 123, 153, 191, 239],
    "scores: K-S bound": [0.278677, 0.228011, 0.036735],
    "joined cells: ordinary k, d": [2, 4, 0, 0, 2, 3, 1, 2, 6, 6],
    "joined cells: whole calls k, d": [1, 1, 0, 0, 1, 2, 0, 0, 0, 0],
    "joined cells: π before each": [0.05, 0.0499725, 0.0499725, 0.249925, 0.249920],
    "joined cells: ln E after each": [2.743605, 2.743605, 4.816191, 4.643098, 11.487000],
    "pairs: ln E of buckets after each cell": [-0.0972831, -0.744174, -0.744174, -0.667407, -0.118241],
    "pairs: ln E of cells after each cell": [0.501723, -0.768577, -0.768577, -0.450504, -0.0972831],
    "PASS by cells: L after each at 0.5 points": [0, 0.0254587, 0.0763761, 0.0763761, -0.308206, -0.0758705],
    "PASS by cells: L after each at 5 points": [0, 0.260018, 0.780055, 0.780055, -0.795323, 1.746049],
    "blocks of time: last cells": [5, 11, 21, 27],
    "blocks of time: D": [0.230622, 0.457895, 0.00789474, 0.397368],
    "blocks of time by cells: ln E": [1.500221],
    "epochs of 900 s at 2 canary requests a cell: last cells": [359, 719],
    "epochs of 900 s at 3": [179, 359, 539, 719, 899],
    "epochs of 900 s, none, then 100 a cell": [359, 539],
    "epochs of 3 600 s at 1 and at 2": [719, 1439, 719, 1439],
    "line: q, line": [0.0290309, 0.0348371],
    "line of fast answers: q, line": [0.00290309, 0.00490309],
}
"""Six digits."""


@pytest.fixture(scope="module")
def computed() -> dict[str, list[float]]:
    return numbers()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_other_program_gives_the_golden_numbers(name: str, computed: dict[str, list[float]]) -> None:
    assert computed[name] == pytest.approx(GOLDEN[name], rel=5e-6, abs=6e-7)


def test_every_number_of_the_other_program_is_held(computed: dict[str, list[float]]) -> None:
    assert list(computed) == list(GOLDEN)
