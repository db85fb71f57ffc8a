"""Saved versions, from a request's bytes to those of the answer, beside MLflow's `invocations`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations

from router.worker.decode.request_decoder import compile_decoder
from router.worker.encoder import encode
from router.worker.scorer import predict_function

ROW = {"d": 1.5, "l": 2, "s": "x"}
REQUESTS: list[tuple[str, Any]] = [
    ("plain", {"dataframe_split": {"columns": ["text"], "data": [["good"], ["bad one"]]}}),
    ("plain", {"dataframe_records": [{"text": "good"}], "user": "u-1"}),
    ("plain", {"inputs": {"text": ["good", "bad"]}}),
    ("signed", {"inputs": ["good", "bad"]}),
    ("signed", {"instances": [{"text": "good"}]}),
    ("signed", {"dataframe_split": {"columns": ["extra", "text"], "data": [[1, "good"]], "index": [0]}}),
    ("columns", {"dataframe_records": [ROW, {**ROW, "d": None}]}),
    ("columns", {"dataframe_records": [{**ROW, "b": True}]}),
    ("columns", {"inputs": [ROW]}),
    ("tables", {"dataframe_records": [{"text": "good"}, {"text": "bad"}]}),
    ("labels", {"dataframe_split": {"columns": ["text"], "data": [["good"]]}}),
    ("tensor", {"inputs": [[1, 2], [3.5, 4]]}),
    ("churn", {"dataframe_split": {"columns": ["usage", "age"], "data": [[3.5, 20], [1, 50.5]]}}),
    ("churn", {"dataframe_records": [{"age": None, "usage": 1}]}),
    ("commands", {"dataframe_records": [{"command": "nan"}, {"command": "text"}]}),
]


@pytest.fixture(scope="module")
def load(versions: Path) -> Callable[[str], PyFuncModel]:
    """Saved versions by name, loaded once each."""
    known: dict[str, PyFuncModel] = {}

    def get(name: str) -> PyFuncModel:
        if name not in known:
            known[name] = mlflow.pyfunc.load_model(str(versions / name))
        return known[name]

    return get


@pytest.mark.parametrize(("name", "request_"), REQUESTS, ids=range(len(REQUESTS)))
def test_the_fast_path_answers_as_mlflow(
    load: Callable[[str], PyFuncModel], name: str, request_: Any
) -> None:
    """Or fails where it fails."""
    model, body = load(name), json.dumps(request_).encode()
    decoder, why = compile_decoder(model)
    assert decoder is not None, why
    part = decoder.part(body)
    assert part is not None

    def answer() -> Any:
        return json.loads(encode(predict_function(model)(decoder.table([part]), decoder.params)))

    try:
        expected = invocations(body, "application/json", model, model.metadata.get_input_schema()).response
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011 - the version's own, which MLflow wraps
            answer()
        return
    assert repr(answer()) == repr(json.loads(expected))


def test_a_column_that_only_mlflow_decodes_hands_over_the_request(load: Callable[[str], PyFuncModel]) -> None:
    """The signature has a date and bytes, both optional; requests without them stay fast."""
    decoder, _ = compile_decoder(load("columns"))
    assert decoder is not None
    dated = {**ROW, "t": "2026-01-02"}
    columns = {"columns": list(dated), "data": [list(dated.values())]}

    assert decoder.part(json.dumps({"dataframe_records": [ROW]}).encode()) is not None
    for request in ({"dataframe_records": [dated]}, {"inputs": [dated]}, {"dataframe_split": columns}):
        assert decoder.part(json.dumps(request).encode()) is None


def test_a_version_with_type_hints_is_left_to_mlflow(load: Callable[[str], PyFuncModel]) -> None:
    """Its input is no table."""
    assert compile_decoder(load("hinted")) == (None, "its input is checked against type hints")
