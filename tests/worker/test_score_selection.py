"""What is counted when the configuration leaves it open."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from router.core.ids import VersionId
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec, with_edges
from router.protocol.messages import LoadSpec
from router.worker.score_selection import ChosenOutputs, choose_outputs
from tests.worker.test_scores import anything

OPEN = LoadSpec(VersionId("churn", 1), "/nowhere", scores=None)
PROBABILITIES = np.array([[0.25, 0.75], [0.9, 0.1]])
TRUTHS = ClassSpec(0, ("false", "true"))
SCORE = ScoreSpec()


def chosen(answer: Any, *known: Any) -> tuple[Sequence[OutputSpec], str]:
    return choose_outputs(OPEN, answer, lambda: known)[:2]


@pytest.mark.parametrize(
    ("answer", "known", "counted"),
    [
        pytest.param(None, (), SCORE, id="no warm-up"),
        pytest.param([], (), SCORE, id="no rows"),
        pytest.param(np.array([0.0, 1.0]), (), SCORE, id="numbers from 0 to 1"),
        pytest.param(np.array([0.5, math.nan]), (), SCORE, id="NaN among them"),
        pytest.param(np.array([[0.5], [0.25]]), (), SCORE, id="one column of an array"),
        pytest.param(pd.Series([0.5]), (), SCORE, id="a series"),
        pytest.param(pd.DataFrame({"p": [0.5]}), (), SCORE, id="a table of one column"),
        pytest.param({"p": [0.5]}, (), SCORE, id="a mapping of one column"),
        pytest.param([{"p": 0.5}], (), SCORE, id="records of one key"),
        pytest.param(0.5, (), SCORE, id="one number"),
        pytest.param(PROBABILITIES, (), ScoreSpec(1), id="two probabilities"),
        pytest.param(PROBABILITIES.astype(np.float16), (), ScoreSpec(1), id="in half precision"),
        pytest.param(PROBABILITIES.tolist(), (), ScoreSpec(1), id="as lists"),
        pytest.param(np.array([True, False]), (), TRUTHS, id="truths"),
        pytest.param([True], (), TRUTHS, id="a list of truths"),
        pytest.param(np.array(["a"]), ("a", "b"), ClassSpec(0, ("a", "b")), id="labels"),
        pytest.param(["a", math.nan], ("a", "b"), ClassSpec(0, ("a", "b")), id="NaN among labels"),
        pytest.param(np.array([0]), (0, 1, 2), ClassSpec(0, ("0", "1", "2")), id="whole numbers of three"),
        pytest.param(np.array([2.0]), (1.0, 2.0), ClassSpec(0, ("1", "2")), id="whole floats of two"),
        pytest.param(np.array([0, 1]), (0, 1), SCORE, id="0 and 1 are numbers"),
        pytest.param(np.array([0.5]), (1, 2, 3), SCORE, id="probabilities of a classifier"),
    ],
)
def test_what_the_answer_to_the_example_suggests(answer: Any, known: Any, counted: OutputSpec) -> None:
    assert chosen(answer, *known) == ((counted,), "")


@pytest.mark.parametrize(
    ("answer", "known", "said"),
    [
        (np.array([0.5, 1.5]), (), "lie outside [0, 1]; `models.churn.scores` sets another range."),
        (np.array([7]), (), "lie outside [0, 1]"),
        (["spam"], (), "are labels; `models.churn.scores` with `classes` lists those to count."),
        (["spam"], ("ham",), "are labels; "),
        (["a"], ("a", ""), "are labels; "),
        (["a"], ("a", "__other__"), "are labels; "),
        (["a"], tuple("abcdefghijklmnopqrstu"), "labels of 21 classes; `models.churn.scores` with `classes`"),
        ([None], (), "are no numbers; `models.churn.scores` can name an output that is."),
        (np.array([[0.5, 0.25]]), (), "have 2 columns; `models.churn.scores` names those that are scores."),
        (np.array([[-0.5, 1.5]]), (), "have 2 columns"),
        (np.array([[0.5, math.nan]]), (), "have 2 columns"),
        (np.full((1, 3), 1 / 3), (), "have 3 columns"),
        (np.zeros((1, 2, 2)), (), "have no columns"),
        (pd.DataFrame(PROBABILITIES), (), "have 2 columns"),
        ({"a": [0.5], "b": [0.5]}, (), "have 2 columns"),
    ],
)
def test_where_that_is_open_nothing_is_counted_and_it_says_what_to_set(
    answer: Any, known: Any, said: str
) -> None:
    outputs, note = chosen(answer, *known)

    assert outputs == ()
    assert note.startswith("No scores are counted: its answers ")
    assert said in note


@given(answer=anything)
def test_choosing_never_raises(answer: Any) -> None:
    outputs, note = chosen(answer)

    assert bool(outputs) != bool(note)


def test_two_versions_of_one_classifier_have_the_same_classes_whatever_their_examples_are() -> None:
    """What a version has learned decides, not what its example happens to be answered with."""
    assert chosen(["ham"], "ham", "spam") == chosen(["spam"], "ham", "spam")


CHOICE = (ScoreSpec("score"), with_edges(7, -1.0, (0.0, 5.0)), ClassSpec("label", ("a",)))


def test_a_configured_choice_stands_and_what_the_answers_lack_is_said() -> None:
    spec = LoadSpec(VersionId("churn", 1), "/nowhere", CHOICE)
    answer = pd.DataFrame({"label": ["b"], "score": [250.0]})

    assert choose_outputs(spec, answer.assign(**dict.fromkeys("abcdef", 1)))[:2] == (CHOICE, "")
    assert choose_outputs(spec, None)[:2] == (CHOICE, "")
    outputs, note, _ = choose_outputs(spec, answer)
    assert outputs == CHOICE
    assert (
        note == "`models.churn.scores` counts output 7 in 2 bins on [-1, 5], which its answers do not have."
    )


def beside(production: tuple[OutputSpec, ...], answer: Any, *known: Any) -> ChosenOutputs:
    """What is counted of a version that answers so, beside a production that counts that."""
    spec = LoadSpec(VersionId("churn", 2), "/nowhere", None, production_scores=production)
    return choose_outputs(spec, answer, lambda: known)


LABELS = ClassSpec(0, ("a", "b"))


@pytest.mark.parametrize(
    ("production", "answer", "known", "suggested"),
    [
        pytest.param((SCORE,), np.array([1.3]), (), (), id="a regressor whose example lies outside"),
        pytest.param((LABELS,), ["a"], "abc", (ClassSpec(0, ("a", "b", "c")),), id="one more class"),
        pytest.param((ScoreSpec(1),), PROBABILITIES.tolist(), (), (ScoreSpec(1),), id="the same"),
        pytest.param((LABELS,), None, (), (SCORE,), id="no example"),
        pytest.param((), np.array([0.5]), (), (SCORE,), id="nothing"),
    ],
)
def test_what_production_counts_is_counted_of_every_other_version_too(
    production: tuple[OutputSpec, ...], answer: Any, known: Any, suggested: tuple[OutputSpec, ...]
) -> None:
    """Each by its own example would leave nothing that both count alike; the note says what was chosen."""
    found = beside(production, answer, *known)

    assert (found.counted, found.suggested) == (production, suggested)
    assert bool(found.note) is (production != suggested)
    if found.note:
        assert "production" in found.note
        assert "`models.churn.scores`" in found.note


def test_what_its_answers_do_not_have_is_not_counted_for_production_and_its_note_says_so() -> None:
    found = beside((LABELS,), np.array([0.5]))

    assert found.counted == found.suggested == (SCORE,)
    assert found.note == (
        "Its scores are not compared with production's: its answers do not have output 0 by the classes a, b."
    )


def test_what_the_configuration_says_stands_over_production() -> None:
    spec = LoadSpec(VersionId("churn", 2), "/nowhere", (SCORE,), production_scores=(LABELS,))
    assert choose_outputs(spec, ["a"]).counted == (SCORE,)
