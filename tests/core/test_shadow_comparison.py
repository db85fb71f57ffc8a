"""Two answers to one request, compared by what they say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.scores import ClassSpec, ScoreSpec, middle_of
from router.core.shadow_comparison import AnswersCompared, compare_answers


def compared(production: Any, canary: Any, output: Any = None, cut_off: float = 0.5) -> AnswersCompared:
    bodies = (json.dumps({"predictions": one}).encode() for one in (production, canary))
    return compare_answers(*bodies, output, cut_off)


def test_scores_on_two_sides_of_the_cut_off_flip_and_the_first_difference_has_its_sign() -> None:
    assert compared([0.4, 0.6, 0.9], [0.6, 0.4, 0.8]) == AnswersCompared(
        flips=2, rows=3, difference=pytest.approx(0.2)
    )
    assert compared([0.4, 0.6], [0.3, 0.7]).flips == 0
    assert compared([10, 30], [30, 10], cut_off=20.0).flips == 2


def test_a_score_that_only_one_of_them_has_is_a_flip() -> None:
    assert compared([None, 0.6], [0.2, None]) == AnswersCompared(flips=2, rows=2)
    assert compared([None], [None]).flips == 0


def test_labels_flip_where_they_differ() -> None:
    assert compared(["ham", "spam", "ham"], ["ham", "ham", "ham"]) == AnswersCompared(flips=1, rows=3)
    classes = ClassSpec(0, ("0", "1"))
    assert compared([0, 1], [1, 1], classes) == AnswersCompared(flips=1, rows=2)


def test_the_counted_output_is_compared() -> None:
    ours = [{"label": "a", "p": 0.4}]
    theirs = [{"label": "b", "p": 0.6}]
    assert compared(ours, theirs, ScoreSpec("p")).difference == pytest.approx(0.2)
    assert compared(ours, theirs, ClassSpec("label", ("a", "b"))).flips == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1], [1.5], True),
        ([1], ["1"], False),
        ([[1, 2]], [[1, 2, 3]], False),
        ([[1], [1, 2]], [[1, 2, 3], [4]], True),
        ([{"a": 1}], [{"b": 1}], False),
        ([None], ["a"], True),
        ([True], [1], False),
    ],
)
def test_the_types_of_their_items_are_compared(ours: Any, theirs: Any, same: bool) -> None:
    assert compared(ours, theirs).same_type is same
    assert compared(theirs, ours).same_type is same


def test_answers_of_two_lengths_are_not_compared_row_by_row() -> None:
    assert compared([0.1], [0.9, 0.1]) == AnswersCompared()


def test_a_difference_beyond_any_float_is_none() -> None:
    assert compared([-1.7e308], [1.7e308]).difference is None


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
answers = st.recursive(
    values, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=2), one)
)


@given(answers, answers)
def test_whatever_is_answered_the_two_sides_are_treated_alike(ours: Any, theirs: Any) -> None:
    there, back = compared(ours, theirs), compared(theirs, ours)
    assert (there.same_type, there.flips, there.rows) == (back.same_type, back.flips, back.rows)
    assert there.flips <= there.rows
    same = compared(ours, ours)
    assert (same.same_type, same.flips, same.difference or 0.0) == (True, 0, 0.0)


@given(st.binary(), st.binary())
def test_no_bytes_raise(ours: bytes, theirs: bytes) -> None:
    assert compare_answers(ours, theirs, None, 0.5).flips >= 0


def test_the_middle_of_a_range_of_the_largest_numbers_is_a_number() -> None:
    assert middle_of(ScoreSpec(low=1e308, high=1.5e308, bins=1)) == pytest.approx(1.25e308)
