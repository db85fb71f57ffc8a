"""Whatever a version predicts becomes tensors with names, or is an error of the version."""

import datetime as dt
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import VersionId
from router.protocol.messages import DATATYPES, TensorInfo, describable, read_tensors
from router.worker.v2.output_tensors import outputs_of
from router.worker.v2.request import Contract, V2Request, data_of, decode_v2_request, warm_outputs
from router.worker.v2.tensors import DTYPES, InferenceRefused, InferenceRequest, read_tensor
from tests.support.examples import examples

ECHO = Contract(VersionId("m", 3), None, takes_params=False, hinted=False, inputs=(), outputs=())
NAN, INF = float("nan"), float("inf")


def encoded(predictions: Any, *reported: TensorInfo) -> list[dict[str, Any]]:
    contract = Contract(
        VersionId("m", 3), None, takes_params=False, hinted=False, inputs=(), outputs=reported
    )
    answer = V2Request(None, None, contract, None, ()).encode(predictions)
    outputs: list[dict[str, Any]] = json.loads(answer, parse_constant=pytest.fail)["outputs"]
    return outputs


@pytest.mark.parametrize(
    ("predictions", "datatype", "shape", "data"),
    [
        (np.array([1.5, NAN, INF, -INF]), "FP64", [4], [1.5, None, None, None]),
        (np.array([0.1], np.float32), "FP32", [1], [0.1]),
        (np.array([[1, 2], [3, 4]], np.uint8).T, "UINT8", [2, 2], [1, 3, 2, 4]),
        (np.array([1.5], ">f8"), "FP64", [1], [1.5]),
        (np.array([1.5], np.longdouble), "FP64", [1], [1.5]),
        (np.float64(1.5), "FP64", [1], [1.5]),
        (np.array(7), "INT64", [1], [7]),
        (np.array([True]), "BOOL", [1], [True]),
        (np.array(["a", "b"]), "BYTES", [2], ["a", "b"]),
        (np.array([b"a"]), "BYTES", [1], ["YQ=="]),
        (np.array(["2020-01-01", "NaT"], "datetime64[D]"), "BYTES", [2], ["2020-01-01", None]),
        (np.array([["a", None]], object), "BYTES", [1, 2], ["a", None]),
        (pd.Series([1, 2], name="s"), "INT64", [2], [1, 2]),
        (pd.Series([1, None], dtype="Int8"), "INT64", [2], [1, None]),
        (pd.Series([1, 2], dtype="Int8"), "INT8", [2], [1, 2]),
        (pd.Series(["a", None]), "BYTES", [2], ["a", None]),
        (pd.Series(["a", "b"], dtype="category"), "BYTES", [2], ["a", "b"]),
        (
            pd.Series(pd.to_datetime(["2020-01-01"]).tz_localize("UTC")),
            "BYTES",
            [1],
            ["2020-01-01T00:00:00+00:00"],
        ),
        ([], "FP64", [0], []),
        ([1, 2.5], "FP64", [2], [1, 2.5]),
        ([1.0, None, INF], "FP64", [3], [1.0, None, None]),
        ([1, None], "INT64", [2], [1, None]),
        ([2**64 - 1], "UINT64", [1], [2**64 - 1]),
        ([2**64], "BYTES", [1], [str(2**64)]),
        ([True, None], "BOOL", [2], [True, None]),
        ([np.int8(1), 2], "INT64", [2], [1, 2]),
        ([np.float32(0.5)], "FP64", [1], [0.5]),
        ([[1, 2], [3, 4]], "INT64", [2, 2], [1, 2, 3, 4]),
        ([np.array([1.5]), np.array([2.5])], "FP64", [2, 1], [1.5, 2.5]),
        ([["a", "b"]], "BYTES", [1, 2], ["a", "b"]),
        ([[1], [2, 3]], "BYTES", [2], ["[1]", "[2,3]"]),
        ([[1, "a"]], "BYTES", [1], ['[1,"a"]']),
        ([1, "a"], "BYTES", [2], ["1", "a"]),
        ([{"a": 1}, {"b": NAN}], "BYTES", [2], ['{"a":1}', '{"b":null}']),
        ([dt.date(2020, 1, 1)], "BYTES", [1], ["2020-01-01"]),
        ([pd.NaT, pd.NA, None], "FP64", [3], [None, None, None]),
        ([b"a"], "BYTES", [1], ["YQ=="]),
        ([dt.timedelta(1)], "BYTES", [1], ['"1 day, 0:00:00"']),
        ("text", "BYTES", [1], ["text"]),
        (b"a", "BYTES", [1], ["YQ=="]),
        (None, "FP64", [1], [None]),
        (7, "INT64", [1], [7]),
        ({}, "BYTES", [1], ["{}"]),
        (["\ud800"], "BYTES", [1], ["\ud800"]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_answer_without_names_is_one_tensor_called_predict(
    predictions: Any, datatype: str, shape: list[int], data: list[Any]
) -> None:
    [output] = encoded(predictions)

    assert (output["name"], output["datatype"], output["shape"], output["data"]) == (
        "predict",
        datatype,
        shape,
        data,
    )


@pytest.mark.parametrize(
    "predictions",
    [
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        {"a": np.array([1, 2]), "b": ["x", "y"]},
        [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
    ],
    ids=["table", "dictionary", "records"],
)
def test_an_answer_with_names_is_a_tensor_for_each(predictions: Any) -> None:
    first, second = encoded(predictions)

    assert (first["name"], first["datatype"], first["data"]) == ("a", "INT64", [1, 2])
    assert (second["name"], second["datatype"], second["data"]) == ("b", "BYTES", ["x", "y"])


@pytest.mark.parametrize(
    ("predictions", "reported", "names"),
    [
        (np.zeros((3, 2)), ["low", "high"], ["low", "high"]),
        (np.zeros((3, 2)), ["probabilities"], ["probabilities"]),
        (np.zeros((3, 2)), ["a", "b", "c"], ["predict"]),
        ((np.zeros(3), np.ones(3)), ["low", "high"], ["low", "high"]),
        (pd.Series([1.0], name="mine"), ["score"], ["score"]),
        ([1.0], ["score"], ["score"]),
        (pd.DataFrame({0: [1.0], 1: [2.0]}), ["low", "high"], ["low", "high"]),
        (pd.DataFrame({"high": [1.0], "low": [2.0]}), ["low", "high"], ["high", "low"]),
        (pd.DataFrame({"a": [1.0]}), ["low", "high"], ["a"]),
        ({"a": 1.0}, ["score"], ["score"]),
    ],
)
def test_an_answer_is_called_as_the_metadata_calls_it(
    predictions: Any, reported: list[str], names: list[str]
) -> None:
    tensors = [TensorInfo(name, "FP64", (-1,)) for name in reported]

    assert [output["name"] for output in encoded(predictions, *tensors)] == names


def test_a_tensor_without_elements_has_the_datatype_of_the_metadata() -> None:
    [output] = encoded([], TensorInfo("label", "BYTES", (-1,)))

    assert (output["datatype"], output["shape"]) == ("BYTES", [0])


@pytest.mark.parametrize("odd", [object(), [object()], 1j, np.array([1j]), {"a": object()}, [Decimal("1")]])
def test_what_has_no_json_is_an_error(odd: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encoded(odd)
    assert warm_outputs(odd) == ()


def test_a_sparse_matrix_is_answered_whole() -> None:
    sparse = pytest.importorskip("scipy.sparse")

    [output] = encoded(sparse.csr_matrix([[0.0, 1.5]]))

    assert (output["shape"], output["data"]) == ([1, 2], [0, 1.5])


def test_a_description_that_can_be_sent_is_taken_and_no_other() -> None:
    good = [TensorInfo("a\n\x1b", "FP64", (-1, 2**63 - 1), "json")]
    for tensors, taken in [
        (good, True),
        ([], True),
        (good * 20_000, False),  # longer than a description may be
        ([TensorInfo("a", "FP64", (-1,))] * 15_000, True),
        ([TensorInfo("a", "FP64", (-1,))] * 20_001, False),
        ([TensorInfo("a" * 1025, "FP64", (-1,))], False),
        ([TensorInfo("\ud800", "FP64", (-1,))], False),
        ([TensorInfo("a", "FP64", (1,) * 33)], False),
        ([TensorInfo("a", "FP64", (-2,))], False),
    ]:
        assert describable(tensors) is taken, len(tensors)
    fields = [{"name": "a", "datatype": "FP64", "shape": [-1], "content_type": ""}]
    assert read_tensors(fields) == (TensorInfo("a", "FP64", (-1,)),)


shapes = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    datatype, shape = draw(st.sampled_from(DATATYPES)), draw(shapes)
    elements: st.SearchStrategy[Any]
    if datatype == "BYTES":
        elements = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    elif datatype == "BOOL":
        elements = st.booleans()
    elif datatype.startswith("FP"):
        width = int(datatype[2:])
        elements = st.none() | st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    else:
        limits = np.iinfo(DTYPES[datatype])
        elements = st.integers(int(limits.min), int(limits.max))
    size = int(np.prod(shape, dtype=int))
    return datatype, shape, draw(st.lists(elements, min_size=size, max_size=size))


@settings(max_examples=examples(150))
@given(tensors(), st.booleans())
def test_any_tensor_comes_back_as_it_was_sent(sent: tuple[str, list[int], list[Any]], nested: bool) -> None:
    """Through a version that answers what it is given; as a table when it is a column, else as an array."""
    datatype, shape, data = sent
    spelled: Any = data
    if nested and len(shape) > 1 and data:
        flat = np.empty(len(data), object)
        flat[:] = data
        spelled = flat.reshape(shape).tolist()
    body = json.dumps({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": spelled}]})
    prepared = decode_v2_request(body.encode(), ECHO)
    [output] = json.loads(prepared.encode(prepared.data), parse_constant=pytest.fail)["outputs"]

    column = len(shape) == 2 and shape[1] == 1
    assert output["shape"] == (shape[:1] if column else shape or [1])
    back = output["data"]
    if datatype.startswith("FP"):  # as short as they read back alike in their datatype
        back = [None if item is None else float(DTYPES[datatype].type(item)) for item in back]
    assert back == data
    if any(item is not None for item in data):
        assert output["datatype"] == datatype


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["inputs", "FP32", "BYTES", "str", "base64"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "data", "datatype", "parameters"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(150))
@given(st.lists(junk, max_size=2) | junk, junk, junk, junk)
def test_any_json_is_a_request_or_a_mistake_that_is_named(
    inputs: Any, reported: Any, outputs: Any, more: Any
) -> None:
    body = json.dumps({"inputs": inputs, "id": reported, "outputs": outputs, "parameters": more}).encode()
    with suppress(InferenceRefused):
        prepared = decode_v2_request(body, ECHO)
        prepared.encode(prepared.data)


def test_columns_keep_their_names_whatever_they_are() -> None:
    """A name of the caller's is a name, and no position or wish of pandas'."""
    inputs = tuple(
        read_tensor({"name": name, "datatype": "FP64", "shape": [1], "data": [1]}, "inputs[0]")
        for name in ("0", "", "index", "a b", "1")
    )
    frame = data_of(InferenceRequest(None, {}, inputs, ()), ECHO)

    assert list(frame.columns) == ["0", "", "index", "a b", "1"]
    assert list(outputs_of(frame, ())) == ["0", "", "index", "a b", "1"]
