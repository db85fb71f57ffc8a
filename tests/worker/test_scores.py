"""Which numbers of an answer are its scores."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.scores import ClassCounts, ClassSpec, OutputCounts, OutputSpec, ScoreSpec
from router.worker.encoder import split
from router.worker.scores import ScoreTally, column_of, count_scores, numbers_of

FRAME = pd.DataFrame({"label": ["a", "b"], "score": [0.25, 0.75]})


def count(answer: Any, spec: OutputSpec) -> Any:
    """Counts of one output of one answer."""
    [counts] = count_scores(answer, (spec,)).counts
    return counts


ANSWERS = [
    pytest.param(np.array([0.1, 0.2]), 0, [0.1, 0.2], 0, id="vector"),
    pytest.param(np.array([1, 0]), 0, [1, 0], 0, id="integers"),
    pytest.param(np.array([True, False]), 0, [1, 0], 0, id="booleans"),
    pytest.param(np.array([[0.1, 0.9], [0.2, 0.8]]), 1, [0.9, 0.8], 0, id="a column of a matrix"),
    pytest.param(np.array([[0.1, 0.9]]), 5, [], 1, id="a column that a matrix lacks"),
    pytest.param(np.array([[0.1, 0.9]]), "score", [], 1, id="a name for a column without one"),
    pytest.param(np.array(0.5), 0, [0.5], 0, id="zero-dimensional"),
    pytest.param(np.array(["a", "b"]), 0, [], 2, id="vector of strings"),
    pytest.param(np.array([0.5, None, "a"], dtype=object), 0, [0.5], 2, id="mixed vector"),
    pytest.param(np.array([1 + 2j]), 0, [], 1, id="complex"),
    pytest.param([0.1, 2, True], 0, [0.1, 2, 1], 0, id="list"),
    pytest.param([0.1, "a", None, Decimal(1)], 0, [0.1], 3, id="mixed list"),
    pytest.param([10**400, -(10**400)], 0, [np.inf, -np.inf], 0, id="integers beyond floats"),
    pytest.param([[0.1, 0.9], [0.2, 0.8]], 1, [0.9, 0.8], 0, id="list of rows"),
    pytest.param([{"label": "a", "score": 0.25}], "score", [0.25], 0, id="list of records by name"),
    pytest.param([{"label": "a", "score": 0.25}], 1, [0.25], 0, id="list of records by position"),
    pytest.param([{"label": "a"}], "score", [], 1, id="records without the name"),
    pytest.param(
        {"label": ["a", "b"], "score": [0.25, 0.5]}, "score", [0.25, 0.5], 0, id="mapping of columns"
    ),
    pytest.param({"score": 0.25}, 0, [0.25], 0, id="mapping of values"),
    pytest.param(FRAME, "score", [0.25, 0.75], 0, id="frame by name"),
    pytest.param(FRAME, 1, [0.25, 0.75], 0, id="frame by position"),
    pytest.param(FRAME, 0, [], 2, id="frame of strings"),
    pytest.param(FRAME, "gone", [], 2, id="frame without the name"),
    pytest.param(pd.DataFrame({7: [0.5]}), 7, [0.5], 0, id="frame with a number for a name"),
    pytest.param(FRAME["score"], 0, [0.25, 0.75], 0, id="series"),
    pytest.param(pd.Series([0.5, None], dtype="Float64"), 0, [0.5, np.nan], 0, id="nullable series"),
    pytest.param(FRAME.set_axis(["a", "a"], axis=1), "a", [], 2, id="frame with one name twice"),
    pytest.param(
        [{"score": 0.5}, {"label": "a"}, [0.1], 7], "score", [0.5, 7], 2, id="rows of several kinds"
    ),
    pytest.param(np.array([{"score": 0.5}, None], dtype=object), "score", [0.5], 1, id="vector of records"),
    pytest.param(pd.Series(["a"], dtype="category"), 0, [], 1, id="categories"),
    pytest.param(0.5, 0, [0.5], 0, id="number"),
    pytest.param("0.5", 0, [], 1, id="string"),
    pytest.param(None, 0, [], 1, id="None"),
    pytest.param([], 0, [], 0, id="nothing"),
    pytest.param(object(), 0, [], 1, id="object"),
    pytest.param(np.zeros((2, 2, 2)), 0, [], 2, id="three-dimensional"),
]


@pytest.mark.parametrize(("answer", "output", "scores", "non_numeric"), ANSWERS)
def test_scores_are_the_numbers_of_one_column(
    answer: Any, output: int | str, scores: list[float], non_numeric: int
) -> None:
    counts = count(answer, ScoreSpec(output))

    assert counts.non_numeric == non_numeric
    assert sum(counts.bins) + counts.nan + counts.inf == len(scores)
    if scores:
        values, odd = numbers_of(column_of(answer, output))
        np.testing.assert_array_equal(
            values if odd is None else values[~odd], np.asarray(scores, dtype=float)
        )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(answer=anything, output=st.integers(0, 3) | st.text())
def test_counting_never_raises(answer: Any, output: int | str) -> None:
    counts = count(answer, ScoreSpec(output=output))

    assert sum(counts.bins) + counts.nan + counts.inf + counts.non_numeric >= 0


def test_scores_whose_sum_is_no_float_are_counted_all_the_same() -> None:
    counts = count([1.7e308] * 10 + [-1.7e308] * 10, ScoreSpec())

    assert counts.out_of_range == sum(counts.bins) == 20
    assert 0 < counts.positive_sum == counts.negative_sum < float("inf")


def test_counting_leaves_the_answer_as_it_is() -> None:
    answer = np.array([1.7e308, 0.5])

    count(answer, ScoreSpec())

    assert answer.tolist() == [1.7e308, 0.5]


cells = st.floats() | st.sampled_from([0.0, 0.05, 0.5, 1.0, 1e300, None, "a", "b", True, 7, math.nan])
rows = st.lists(st.integers(0, 3), min_size=1, max_size=50)
outputs = st.lists(
    st.sampled_from(
        [ScoreSpec(1), ClassSpec(0, ("a", "7", "true")), ScoreSpec(2, bins=3), ScoreSpec("gone")]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)
shapes = st.sampled_from(["frame", "floats", "objects", "lists", "records"])


@st.composite
def shared_predicts(draw: st.DrawFn) -> tuple[Any, list[int]]:
    """An answer of three columns, and how many of its rows are each request's."""
    lengths, shape = draw(rows), draw(shapes)
    column = st.lists(cells, min_size=sum(lengths), max_size=sum(lengths))
    if shape == "floats":
        column = st.lists(st.floats(), min_size=sum(lengths), max_size=sum(lengths))
    columns = [draw(column) for _ in range(3)]
    if shape == "frame":
        return pd.DataFrame(dict(zip("abc", columns, strict=True))), lengths
    table = [list(row) for row in zip(*columns, strict=True)]
    if shape == "records":
        return [dict(zip("abc", row, strict=True)) for row in table], lengths
    if shape == "lists":
        return table, lengths
    kind = float if shape == "floats" else object
    return np.array(table, dtype=kind).reshape(len(table), 3), lengths


@given(shared_predicts(), outputs)
def test_a_shared_predict_counts_as_its_requests_would_alone(
    shared: tuple[Any, list[int]], counted: list[OutputSpec]
) -> None:
    """The counts are the sum, each request has its own bin, and is NaN only where it would be."""
    answer, lengths = shared
    together = count_scores(answer, counted, lengths)
    alone = [count_scores(piece, counted) for piece in split(answer, lengths) or []]

    assert len(alone) == len(lengths)
    assert list(together.bin_indexes) == [one.bin_indexes[0] for one in alone]
    assert list(together.nan_only) == [one.nan_only[0] for one in alone]
    for place, whole in enumerate(together.counts):
        assert numbers_in(whole) == [
            sum(column) for column in zip(*(numbers_in(one.counts[place]) for one in alone), strict=True)
        ]


def numbers_in(counts: OutputCounts) -> list[int]:
    if isinstance(counts, ClassCounts):
        return [*counts.counts, counts.nan]
    return [*counts.bins, counts.nan, counts.inf, counts.non_numeric, counts.out_of_range]


@given(shared_predicts(), outputs)
def test_a_bin_index_is_where_a_request_of_one_row_is_counted(
    shared: tuple[Any, list[int]], counted: list[OutputSpec]
) -> None:
    answer, lengths = shared
    found = count_scores(answer, counted, [1] * sum(lengths))

    for bin_index, piece in zip(found.bin_indexes, split(answer, [1] * sum(lengths)) or [], strict=True):
        alone = count(piece, counted[0])
        if isinstance(alone, ClassCounts):
            assert bin_index == (None if alone.nan else alone.counts.index(1))
        else:
            assert bin_index == (alone.bins.index(1) if any(alone.bins) else None)


def test_an_answer_is_nan_only_when_every_counted_output_is() -> None:
    """One output that works still is an answer; what is NaN in it is counted, and reported."""
    both = (ScoreSpec(0), ScoreSpec(1))
    answer = np.array([[math.nan, 0.5], [math.nan, math.nan], [0.5, 0.5]])

    assert list(count_scores(answer, both, [1, 1, 1]).nan_only) == [False, True, False]
    assert list(count_scores(answer, both[:1], [1, 1, 1]).nan_only) == [True, True, False]
    assert list(count_scores(answer[:2], both, [2]).nan_only) == [False]


def test_an_answer_shorter_than_its_requests_has_no_bin_indexes() -> None:
    assert list(count_scores(np.array([0.5]), (ScoreSpec(),), [1, 1]).bin_indexes) == [None, None]


def test_nothing_is_counted_where_nothing_is_to_be() -> None:
    assert count_scores(np.array([0.5]), (), [1]) == ScoreTally((), [None], [False])
