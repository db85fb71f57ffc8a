"""Requests share a predict only where that changes no answer, and each still gets its own."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.work import Answer, Query, Verdict
from router.worker.independence import ENOUGH_TRIALS, Effort, Sample, efforts, equal
from router.worker.load import Loaded, bring_up
from tests.worker.versions import json_query, predictions, spec_of, text_query

Get = Callable[[str], Loaded]


def together(loaded: Loaded, *queries: Query) -> tuple[list[Answer], int]:
    """Each request's answer, and how many predicts they took."""
    answers: dict[int, Answer] = {}
    batches = 0
    for places, told in loaded.scorer.together(queries):
        assert not answers.keys() & set(places)
        answers.update(zip(places, told, strict=True))
        batches += 1
    return [answers[place] for place in range(len(queries))], batches


def earn(loaded: Loaded, most: int = 3 * ENOUGH_TRIALS) -> Any:
    """What is found out from requests that are predicted alone."""
    assert loaded.earning is not None
    for number in range(most):
        query = text_query("x" * (number % 7 + 1), "y" * number)
        prepared = loaded.scorer.prepare(query)
        assert not isinstance(prepared, Answer)
        with efforts() as took:
            predicted = loaded.scorer.predict([prepared])
        loaded.earning.note(Sample(prepared, query.body, predicted.predictions, took[0]))
        if loaded.earning.verdict is not None:
            return loaded.earning.verdict
    return None


@pytest.mark.parametrize(
    ("name", "merges", "why"),
    [
        ("signed", True, "input example is predicted alike"),
        ("counts_rows_with_example", False, "predicted differently"),
        ("centres_with_example", False, "predicted differently"),
        ("plain", False, "yet to show"),
    ],
)
def test_an_example_shows_whether_rows_are_independent(
    loaded: Get, name: str, *, merges: bool, why: str
) -> None:
    batching = loaded(name).info.batching
    assert batching.merges is merges
    assert why in batching.why


@pytest.mark.parametrize(
    ("name", "merges", "why"),
    [
        ("plain", True, "equalled"),
        ("mutates", True, "equalled"),
        ("waits_once", True, "equalled"),
        ("counts_rows", False, "differently"),
        ("centres", False, "differently"),
        ("answers_once", False, "one item per row"),
        ("refuses_many", False, "fails on requests together"),
        ("waits_per_row", False, "side by side"),
    ],
)
def test_without_an_example_it_is_earned_by_requests_predicted_twice(
    versions: Path, name: str, *, merges: bool, why: str
) -> None:
    verdict = earn(bring_up(spec_of(versions, name)))
    assert verdict.merges is merges
    assert why in verdict.why


def test_the_same_request_again_and_again_shows_nothing(versions: Path) -> None:
    """A version that subtracts the mean answers two equal rows like one."""
    loaded = bring_up(spec_of(versions, "centres"))
    assert loaded.earning is not None
    query = text_query("one text")
    prepared = loaded.scorer.prepare(query)
    assert not isinstance(prepared, Answer)
    predicted = loaded.scorer.predict([prepared])
    for _ in range(3 * ENOUGH_TRIALS):
        loaded.earning.note(Sample(prepared, query.body, predicted.predictions, Effort(0.001, 0.001, 0.001)))
    assert loaded.earning.verdict is None


def test_switched_off_nothing_is_looked_at(versions: Path) -> None:
    loaded = bring_up(replace(spec_of(versions, "signed"), batches=False))
    assert loaded.earning is None
    assert (loaded.info.batching.merges, loaded.info.batching.why) == (False, "it is switched off")


def test_requests_of_one_shape_take_one_predict_and_each_gets_its_own_rows(loaded: Get) -> None:
    queries = [text_query(*["x" * (10 * i + j) for j in range(i % 3 + 1)]) for i in range(64)]
    answers, predicts = together(loaded("signed"), *queries)

    assert predicts == 1
    for i, answer in enumerate(answers):
        assert predictions(answer.body) == pytest.approx([0.01 * (10 * i + j) for j in range(i % 3 + 1)])
        assert (answer.rows, answer.answer_rows, answer.verdict) == (i % 3 + 1, i % 3 + 1, Verdict.OK)


def test_a_version_logged_as_code_is_decoded_like_one_that_was_pickled(loaded: Get) -> None:
    """MLflow loads chats and agents in the same way, whose formats are their own."""
    prepared = loaded("from_code").scorer.prepare(text_query("good"))
    assert not isinstance(prepared, Answer)
    assert prepared.part is not None


def test_a_poisoned_request_among_64_fails_alone(loaded: Get) -> None:
    queries = [text_query("good" if i != 40 else "poison") for i in range(64)]
    answers, _ = together(loaded("poisoned"), *queries)

    assert [i for i, answer in enumerate(answers) if answer.verdict is not Verdict.OK] == [40]
    assert (answers[40].status, answers[40].verdict) == (500, Verdict.MODEL_ERROR)


def test_a_bad_request_among_others_is_refused_alone(loaded: Get) -> None:
    good, bad, better = text_query("good"), Query(b"{", None), text_query("better")
    answers, predicts = together(loaded("plain"), good, bad, better)

    assert [answer.status for answer in answers] == [200, 400, 200]
    assert predicts == 2


def test_requests_of_other_shapes_stand_in_tables_of_their_own(loaded: Get) -> None:
    """One integer beside one float would become a float."""
    ints, floats = ([{"text": "a", "n": number}] for number in (1, 1.5))
    queries = [json_query({"dataframe_records": rows}) for rows in (ints, floats, ints)]
    answers, predicts = together(loaded("plain"), *queries)

    assert [answer.status for answer in answers] == [200] * 3
    assert predicts == 2


def test_what_mlflow_decodes_shares_a_predict_as_well(loaded: Get) -> None:
    queries = [Query(f"text\n{'x' * n}\n".encode(), "text/csv") for n in (1, 2, 3)]
    answers, predicts = together(loaded("signed"), *queries)

    assert predicts == 1
    assert [predictions(answer.body) for answer in answers] == [[0.01], [0.02], [pytest.approx(0.03)]]


def test_scores_of_a_shared_predict_are_counted_once_and_nan_where_it_is(loaded: Get) -> None:
    queries = [text_query("good"), text_query("nan"), text_query("nan", "good")]
    answers, predicts = together(loaded("not_a_number"), *queries)

    assert predicts == 1
    [counts] = [answer.scores for answer in answers if answer.scores is not None]
    assert (sum(counts.bins), counts.nan) == (2, 2)
    assert [answer.all_nan for answer in answers] == [False, True, False]


numbers = st.floats() | st.integers(-(2**60), 2**60) | st.text(max_size=3) | st.booleans() | st.none()


@given(st.lists(numbers, max_size=5))
def test_predictions_equal_themselves(values: list[Any]) -> None:
    assert equal(values, json.loads(json.dumps(values)), 0.0)
    series = pd.Series(values, dtype=object)
    assert equal(series, series.copy(), 0.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], [1.0]),
        ([1], [True]),
        (["a"], ["b"]),
        ([1.0, 2.0], [1.0]),
        (np.array([1.0]), [1.0]),
        (np.array([1.0]), np.array([1.0], dtype=np.float32)),
        (np.array([1]), np.array([2])),
        (np.array([math.nan]), np.array([1.0])),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        ({"a": 1}, {"a": 2}),
        ([1.0], [1.0 + 1e-8]),
    ],
)
def test_predictions_that_differ_are_seen(one: Any, other: Any) -> None:
    assert not equal(one, other, 1e-9)


def test_floats_may_differ_by_the_tolerance_and_by_none_without() -> None:
    one, other = np.array([1.0, 1e-300, math.inf]), np.array([1.0 + 1e-12, 1e-300, math.inf])
    assert equal(one, other, 1e-9)
    assert not equal(one, other, 0.0)
