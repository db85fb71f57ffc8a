"""Our answers beside those of MLflow's own `invocations`, as its server gives them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from msgspec.structs import replace

from router.core.scores import ScoreCounts
from router.protocol.messages import PredictStatus, Query
from router.worker.encoder import rows_of
from router.worker.load import Loaded, load_version
from tests.support.saved_versions import command_query, json_query, spec_of, text_query

Get = Callable[[str], Loaded]
JSON = "application/json"


@pytest.fixture(scope="module")
def served(versions: Path) -> Callable[[str, Query], tuple[int, str, Any]]:
    """Status, content type and parsed body by MLflow's server; 500 and None where it fails without a body."""
    models: dict[str, Any] = {}

    def answer(name: str, query: Query) -> tuple[int, str, Any]:
        model = models.setdefault(name, None) or mlflow.pyfunc.load_model(str(versions / name))
        models[name] = model
        try:
            result = invocations(query.body, query.content_type, model, model.metadata.get_input_schema())
        except MlflowException as error:
            return error.get_http_status_code(), JSON, json.loads(error.serialize_as_json())
        except Exception:
            return 500, "", None
        if result.mimetype != JSON:
            return result.status, result.mimetype, result.response
        return result.status, result.mimetype, json.loads(result.response)

    return answer


def parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


def split(columns: list[str], *rows: list[Any], **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": rows}, **more}).encode()


ROW = {"d": 1.5, "l": 2, "s": "x"}
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
REQUESTS = [
    ("plain", split(["text"], ["good"], ["bad one"]), JSON),
    ("plain", b'{"dataframe_records": [{"text": "good"}], "unknown": 1}', JSON),
    ("plain", b"text\ngood\nbad\n", CSV),
    ("plain", parquet(pd.DataFrame({"text": ["good", "bad"]})), PARQUET),
    ("plain", split(["text"], ["good"]), "application/json; charset=UTF-8"),
    ("plain", split(["text"], ["good"]), "application/json;charset=latin-1"),
    ("plain", split(["text"], ["good"]), "application/json; profile=x"),
    ("plain", split(["text"], ["good"]), "Application/JSON"),
    ("plain", split(["text"], ["good"]), ""),
    ("plain", b"{", JSON),
    ("plain", b"", JSON),
    ("plain", b"\xff\xfe\xfa", JSON),
    ("plain", b"[]", JSON),
    ("plain", b"3", JSON),
    ("plain", b"{}", JSON),
    ("plain", b'{"instances": [1], "inputs": [1]}', JSON),
    ("plain", b'{"dataframe_split": [1]}', JSON),
    ("plain", b'{"dataframe_split": {"columns": ["a"]}}', JSON),
    ("plain", b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', JSON),
    ("plain", b'{"dataframe_records": {"a": 1}}', JSON),
    ("plain", b'a,b\n1,2\n"', CSV),
    ("plain", b"\xff\xfe", CSV),
    ("plain", b"not parquet", PARQUET),
    ("signed", b'{"inputs": ["good", "bad"]}', JSON),
    ("signed", b'{"inputs": {"text": ["good", "bad"]}}', JSON),
    ("signed", b'{"instances": [{"text": "good"}]}', JSON),
    ("signed", split(["text", "extra"], ["good", 1]), JSON),
    ("signed", split(["Text"], ["good"]), JSON),
    ("signed", split(["text"], [3]), JSON),
    ("signed", b'{"dataframe_records": [{"text": "\\ud800"}]}', JSON),
    ("tables", b'{"inputs": [1, 2]}', JSON),
    ("labels", split(["text"], ["good"]), JSON),
    ("hinted", b'{"inputs": ["a", "b"]}', JSON),
    ("hinted", b'{"dataframe_split": {"data": [["a"]]}}', JSON),
    ("hinted", b'{"inputs": ["a", 3]}', JSON),
    ("columns", json.dumps({"dataframe_records": [ROW, ROW]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "d": None}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "l": None}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "l": 3.5}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "l": "12"}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "l": 2**80}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "d": "secret"}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "b": None}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "t": "2026-01-02"}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "t": "2026-01-02T00:00:00Z"}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [{**ROW, "x": "AAEC"}]}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [ROW], "params": {"scale": 2, "other": 1}}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [ROW], "params": {"n": "secret"}}).encode(), JSON),
    ("columns", json.dumps({"dataframe_records": [ROW], "params": 3}).encode(), JSON),
    ("columns", b"d,l,s\n1.5,2,x\n", CSV),
    ("columns", json.dumps({"inputs": [ROW]}).encode(), JSON),
    ("columns", json.dumps({"instances": [ROW]}).encode(), JSON),
    ("tensor", b'{"inputs": [[1, 2], [3, 4]]}', JSON),
    ("tensor", b'{"instances": [[1, null], ["3", 4]]}', JSON),
    ("tensor", b'{"inputs": [[1, 2], [3]]}', JSON),
    ("tensor", b'{"inputs": [[1, 2, 3]]}', JSON),
    ("tensor", b"a,b\n1,2\n", CSV),
    ("churn", split(["age", "usage"], [20, 3.5], [50.5, 1]), JSON),
    ("churn", split(["usage", "age"], [3.5, 20]), JSON),
    ("churn", split(["age"], [20]), JSON),
    ("churn", split(["age", "usage"], ["old", 1]), JSON),
    ("churn", split(["age", "usage"], [None, 1]), JSON),
    ("commands", command_query("nan").body, JSON),
    ("commands", command_query("missing:gone").body, JSON),
]


@pytest.mark.parametrize(
    ("name", "body", "content_type"), REQUESTS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(REQUESTS)]
)
def test_an_answer_is_the_one_of_mlflow(
    loaded: Get, served: Any, name: str, body: bytes, content_type: str
) -> None:
    """Status, content type and body; of an error, all but the message. A version's own failure is 500."""
    query = Query(body, content_type)
    status, theirs, expected = served(name, query)

    answer = loaded(name).scorer.answer(query)

    if expected is not None and "stack_trace" in expected and "evaluating the model" in expected["message"]:
        assert (answer.status, answer.predict_status) == (500, PredictStatus.MODEL_ERROR)
        assert json.loads(answer.body)["error_code"] == "INTERNAL_ERROR"
    elif theirs != JSON:
        assert (answer.status, answer.content_type) == (status, "text/plain; charset=utf-8")
        assert answer.body.decode() == expected
    else:
        assert (answer.status, answer.content_type) == (status, JSON)
        assert_same_body(json.loads(answer.body), expected)


def assert_same_body(ours: Any, theirs: Any) -> None:
    if "error_code" in theirs:
        for unsaid in ("stack_trace", "message"):
            theirs.pop(unsaid, None)
        assert 0 < len(ours.pop("message")) <= 1000
    assert repr(ours) == repr(theirs)  # as text, where NaN equals NaN and 1 is not 1.0


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("plain", b'{"inputs": ' + b"[" * 100_000),
        ("plain", b'{"inputs": [' + b"9" * 5000 + b"]}"),
        ("signed", b'{"dataframe_split": {"columns": [{}], "data": [[1]]}}'),
        ("signed", b'{"dataframe_split": {"columns": [["text"]], "data": [["good"]]}}'),
    ],
    ids=["deep nesting", "endless integer", "unhashable column", "a list for a column"],
)
def test_what_mlflow_fails_on_without_a_body_is_the_callers_mistake(
    loaded: Get, name: str, body: bytes
) -> None:
    answer = loaded(name).scorer.answer(Query(body, JSON))

    assert (answer.status, answer.predict_status) == (400, PredictStatus.CLIENT_ERROR)
    assert json.loads(answer.body)["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


def test_a_request_without_content_type_is_json(loaded: Get) -> None:
    """MLflow's server answers 500."""
    assert loaded("plain").scorer.answer(text_query("good")).status == 200


def test_an_answer_reports_its_rows_time_and_scores(loaded: Get) -> None:
    answer = loaded("plain").scorer.answer(text_query("x" * 10, "x" * 60, "x" * 100))

    assert answer.rows == 3
    assert 0 < answer.predict_seconds < 60
    [counts] = answer.scores
    assert isinstance(counts, ScoreCounts)
    assert counts.bins[1] == counts.bins[11] == counts.bins[19] == 1
    assert answer.bin_index == 1


def test_a_failure_reports_the_time_it_took(loaded: Get) -> None:
    assert loaded("commands").scorer.answer(command_query("fail:x")).predict_seconds > 0


@pytest.mark.parametrize(
    ("predictions", "rows"),
    [
        ([1, 2], 2),
        (np.zeros((3, 2)), 3),
        (np.float64(1), None),
        (np.array(1.0), None),
        (pd.DataFrame({"a": [1, 2]}), 2),
        (pd.Series([1.0]), 1),
        ("four", None),
        ({"a": [1, 2]}, None),
        (None, None),
        ([], 0),
    ],
)
def test_rows_of_an_answer_are_counted_where_it_has_rows(predictions: Any, rows: int | None) -> None:
    assert rows_of(predictions) == rows


def test_an_answer_reports_the_rows_asked_for_and_the_rows_given(loaded: Get) -> None:
    answer = loaded("plain").scorer.answer(text_query("good", "bad"))
    assert (answer.rows, answer.answer_rows, answer.odd_length) == (2, 2, False)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        (json_query({"dataframe_split": {"columns": ["text"], "data": [["a"], ["b"], ["c"]]}}), 3),
        (json_query({"dataframe_records": [{"text": "a"}, {"text": "b"}]}), 2),
        (Query(b"text\na\nb\nc\nd\n", CSV), 4),
    ],
    ids=["split", "records", "csv"],
)
def test_a_request_of_more_rows_than_allowed_is_refused_before_it_is_predicted(
    loaded: Get, query: Query, rows: int
) -> None:
    scorer = loaded("plain").scorer
    answer = scorer.answer(replace(query, max_rows=rows - 1))

    assert (answer.status, answer.predict_status, answer.rows) == (413, PredictStatus.CLIENT_ERROR, 0)
    assert answer.predict_seconds == 0.0
    assert json.loads(answer.body)["message"] == (
        f"Invalid input: {rows} rows are more than one request may have, {rows - 1}."
    )
    assert scorer.answer(replace(query, max_rows=rows)).rows == rows


def test_where_nan_is_null_every_answer_of_a_version_is_json(versions: Path) -> None:
    """Alone, together, beside an infinity, and of a request whose answer is not wrapped."""
    scorer = load_version(replace(spec_of(versions, "tells_nan"), nan_is_null=True)).scorer
    queries = [text_query("nan", "inf"), text_query("ninf"), text_query("nan", "x")]
    unwrapped = json_query({"messages": [], "prompt": "nan"})

    alone = [scorer.answer(query) for query in (*queries, unwrapped)]
    together = {
        place: answer
        for ps, reported in scorer.together(queries)
        for place, answer in zip(ps, reported, strict=True)
    }

    assert [json.loads(answer.body) for answer in alone] == [
        {"predictions": [None, None]},
        {"predictions": [None]},
        {"predictions": [None, 0.5]},
        [None],
    ]
    assert [together[place].body for place in range(3)] == [answer.body for answer in alone[:3]]
    literal = load_version(spec_of(versions, "tells_nan")).scorer
    assert literal.answer(queries[0]).body == b'{"predictions": [NaN, Infinity]}'
    assert literal.answer(unwrapped).body == b"[NaN]"


THREE = [{"role": "user", "content": text} for text in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("answers_a_mapping", {"messages": THREE}),
        ("answers_a_list_of_one", {"messages": THREE}),
        ("answers_five", {"messages": THREE}),
        ("answers_five", {"prompt": ["a", "b"]}),
        ("answers_five", {"input": ["a", "b"], "model": "x"}),
        ("agent", {"input": THREE}),
        ("agent", {"inputs": {"input": THREE}}),
    ],
)
def test_a_request_to_an_llm_is_one_row_and_its_answer_has_no_length(
    loaded: Get, name: str, body: Any
) -> None:
    """Three messages are one question, whatever a version answers."""
    answer = loaded(name).scorer.answer(replace(json_query(body), max_rows=1))

    assert answer.predict_status is PredictStatus.OK, answer.body
    assert (answer.rows, answer.answer_rows, answer.odd_length) == (1, None, False)


def test_arrays_that_have_the_name_of_an_llms_format_are_rows(loaded: Get) -> None:
    scorer = loaded("answers_a_mapping").scorer
    query = json_query({"inputs": {"prompt": [[1.0], [2.0], [3.0]]}})

    assert scorer.answer(query).rows == 3
    assert scorer.answer(replace(query, max_rows=2)).status == 413
    # What is nested deeper goes to MLflow's own code.
    deeper = json_query({"inputs": {"prompt": [[[1.0]], [[2.0]], [[3.0]]]}})
    assert scorer.answer(deeper).rows == 3
    assert scorer.answer(replace(deeper, max_rows=2)).status == 413


def test_a_mapping_whose_parts_are_not_columns_is_one_row(loaded: Get) -> None:
    """The first part that happens to be a list does not say how many rows there are."""
    scorer = loaded("answers_a_mapping").scorer
    for parts in ({"tags": ["a", "b"], "query": "x"}, {"query": "x", "tags": ["a", "b"]}):
        assert scorer.answer(json_query({"inputs": parts})).rows == 1
