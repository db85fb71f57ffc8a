"""Tensors meet a version's own signature: what it is given, what it refuses, what its metadata says."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from router.protocol.messages import Query, TensorInfo
from router.worker.load import Loaded
from tests.support.saved_versions import inference_query, json_query, predictions, tensor
from tests.worker.test_inference import answered, refusal_of

Get = Callable[[str], Loaded]
D, L, S = tensor("FP64", [1], [1.5], "d"), tensor("INT64", [1], [2], "l"), tensor("BYTES", [1], ["x"], "s")


def columns(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of the version `columns` as tensors."""
    datatypes = {"d": "FP64", "l": "INT64", "b": "BOOL"}
    return [tensor(datatypes.get(name, "BYTES"), [1], [value], name) for name, value in row.items()]


@pytest.mark.parametrize(
    "row",
    [
        {"d": 1.5, "l": 2, "s": "x"},
        {"s": "Ünïcödé", "l": -(2**63), "d": None},
        {"d": 1.5, "l": 2, "s": "x", "b": True, "t": "2020-02-29T01:02:03.5", "x": "AAE="},
        {"d": 1.5, "l": 2, "s": "", "b": False, "t": "2020-02-29", "x": ""},
        {"d": 1.5, "l": 2, "s": None},
    ],
)
def test_a_version_is_given_the_table_that_mlflows_protocol_gives_it(
    loaded: Get, row: dict[str, Any]
) -> None:
    """Names, dtypes, values and params; the version answers what it was given."""
    params = {"scale": 2.5, "n": 7}
    scorer = loaded("columns").scorer
    by_mlflow = scorer.answer(json_query({"dataframe_records": [row], "params": params}))

    [output] = answered(loaded("columns"), *columns(row), parameters={**params, "unknown": 1})["outputs"]

    assert output["data"] == predictions(by_mlflow.body)


@pytest.mark.parametrize("name", ["plain", "labels", "hinted", "signed"])
def test_versions_of_texts_answer_as_in_mlflows_protocol(loaded: Get, name: str) -> None:
    texts = ["good", "bad"]
    body = {"inputs": texts} if name == "hinted" else {"dataframe_records": [{"text": t} for t in texts]}
    by_mlflow = loaded(name).scorer.answer(json_query(body))

    [output] = answered(loaded(name), tensor("BYTES", [2], texts, "text"))["outputs"]

    assert output["data"] == predictions(by_mlflow.body)


@pytest.mark.parametrize(
    "inputs",
    [
        [{**L, "datatype": "INT8"}, D, S],
        [{**L, "datatype": "UINT64"}, D, S],
        [{**D, "datatype": "FP16"}, L, S],
        [{**D, "datatype": "INT64", "data": [7]}, L, S],
        [D, L, {**S, "shape": [1, 1]}],
        [D, L, {**S, "shape": [1, 1], "data": [["x"]]}],
        [D, L, S, tensor("FP64", [3], [1, 2, 3], "unknown")],
        [D, L, {**S, "data": ["eA=="], "parameters": {"content_type": "base64"}}],
        [D, L, S, tensor("BYTES", [1], ["x"], "x", content_type="str")],
        [D, L, S, tensor("BYTES", [1], [None], "t")],
    ],
    ids=str,
)
def test_what_fits_a_column_without_loss_is_taken(loaded: Get, inputs: list[dict[str, Any]]) -> None:
    [output] = answered(loaded("columns"), *inputs)["outputs"]

    assert "'s': ['x']" in output["data"][0]
    assert "'d': 'float64', 'l': 'int64'" in output["data"][0]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([D, L], "the version's inputs s are missing"),
        ([{**D, "name": "secret"}], "the version's inputs d, l, s are missing"),
        ([{**D, "name": "D"}, L, S], "the version's inputs d are missing"),
        ([D, {**L, "datatype": "FP64"}, S], "inputs[1].datatype must be INT64, as the version's metadata"),
        ([D, {**L, "datatype": "BOOL", "data": [True]}, S], "inputs[1].datatype must be INT64"),
        ([D, {**L, "datatype": "BYTES", "data": ["2"]}, S], "inputs[1].datatype must be INT64"),
        ([D, {**L, "datatype": "UINT64", "data": [2**63]}, S], "inputs[1].data has a number"),
        ([{**D, "datatype": "INT64", "data": [2**53 + 1]}, L, S], "inputs[0].data has a number"),
        ([D, L, {**S, "datatype": "FP64", "data": [1]}], "inputs[2].datatype must be BYTES"),
        ([D, L, {**S, "data": ["/w=="], "parameters": {"content_type": "base64"}}], "base64 of UTF-8"),
        ([D, L, S, tensor("INT64", [1], [1], "b")], "inputs[3].datatype must be BOOL"),
        ([D, L, S, tensor("INT64", [1], [1], "t")], "inputs[3].datatype must be BYTES"),
        ([D, L, S, tensor("BYTES", [1], ["secret"], "t")], "inputs[3].data must be ISO 8601"),
        ([D, L, S, tensor("BYTES", [1], ["secret"], "x")], "inputs[3].data must be base64"),
        ([D, {**L, "shape": [1, 1, 1]}, S], "inputs[1] is a column: its shape must be [n] or [n, 1]"),
        ([{**D, "shape": [1, 2], "data": [1, 2]}, L, S], "inputs[0] is a column"),
        ([{**D, "shape": []}, L, S], "inputs[0] is a column"),
        ([{**D, "shape": [2], "data": [1, 2]}, L, S], "must have one number of rows"),
    ],
    ids=str,
)
def test_what_breaks_a_table_is_named(loaded: Get, inputs: list[dict[str, Any]], said: str) -> None:
    assert said in refusal_of(loaded("columns").scorer.answer(inference_query(*inputs)))


@pytest.mark.parametrize("params", [{"n": "secret"}, {"scale": [1]}, {"n": 1.5}])
def test_params_of_another_type_are_a_mistake(loaded: Get, params: dict[str, Any]) -> None:
    query = inference_query(D, L, S, parameters=params)

    assert "Invalid parameters found" in refusal_of(loaded("columns").scorer.answer(query))


def test_parameters_are_ignored_where_the_signature_has_no_params(loaded: Get) -> None:
    text = tensor("BYTES", [1], ["good"], "text")

    assert answered(loaded("signed"), text, parameters={"n": {"a": 1}})["outputs"][0]["data"] == [0.04]


NAMED = [
    tensor("FP32", [1, 2], [1.5, 2], "n"),
    tensor("BYTES", [1], ["a"], "s"),
    tensor("BYTES", [1], ["2020-01-01"], "t"),
]


def test_named_tensors_make_a_dictionary_of_arrays(loaded: Get) -> None:
    outputs = answered(loaded("echo_tensors"), *reversed(NAMED))["outputs"]

    assert [(one["name"], one["datatype"], one["shape"], one["data"]) for one in outputs] == [
        ("n", "FP32", [1, 2], [1.5, 2]),
        ("s", "BYTES", [1], ["a"]),
        ("t", "BYTES", [1], ["2020-01-01T00:00:00.000000000"]),
    ]


def test_times_are_given_in_the_unit_of_the_signature(loaded: Get) -> None:
    times = ["1970-01-02T03:04", None]

    days, exact = answered(
        loaded("echo_moments"), tensor("BYTES", [2], times, "D"), tensor("BYTES", [2], times, "ps")
    )["outputs"]

    assert days["data"] == ["1970-01-02", None]
    assert exact["data"] == ["1970-01-02T03:04:00.000000000000", None]


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("echo_tensors", NAMED[:2], "the version's inputs t are missing"),
        ("echo_tensors", [{**NAMED[0], "shape": [2]}, *NAMED[1:]], "Shape of input (2,) does not match"),
        ("echo_tensors", [{**NAMED[0], "datatype": "FP64"}, *NAMED[1:]], "datatype must be FP32"),
        ("echo_tensors", [NAMED[0], {**NAMED[1], "data": [None]}, NAMED[2]], "texts without null"),
        ("echo_tensors", [*NAMED[:2], {**NAMED[2], "data": ["secret"]}], "ISO 8601"),
        (
            "echo_moments",
            [tensor("BYTES", [1], ["2020-01-01"], unit) for unit in ("D", "ps")],
            "inputs[1].data has a time that the version's input can not hold",
        ),
        ("tensor", [tensor("FP32", [1, 3], [1, 2, 3])], "Shape of input (1, 3) does not match"),
        ("tensor", [tensor("FP64", [1, 2], [1, 2])], "datatype must be FP32"),
        ("tensor", [tensor("INT64", [1, 2], [1, 2**24 + 1])], "can not hold"),
        ("tensor", [tensor("FP32", [1, 2], [1, 2]), tensor("FP32", [1], [1], "y")], "takes 1 inputs, and"),
        ("echo_unnamed", [tensor("FP64", [1], [1])], "takes 2 inputs, and there are 1"),
        ("echo_nested", [tensor("FP64", [1, 2], [1, 2], "vector")], "inputs who are missing"),
        (
            "echo_nested",
            [tensor("FP64", [1, 2], [1, 2], "vector"), tensor("BYTES", [1], ["{secret"], "who")],
            "inputs[1].data must be texts of JSON",
        ),
        (
            "echo_nested",
            [tensor("FP64", [1, 2], [1, 2], "vector"), tensor("BYTES", [1], ['{"id": "secret"}'], "who")],
            "Failed to enforce schema",
        ),
    ],
)
def test_what_breaks_a_signature_is_named(
    loaded: Get, name: str, inputs: list[dict[str, Any]], said: str
) -> None:
    assert said in refusal_of(loaded(name).scorer.answer(inference_query(*inputs)))


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT8", "FP16"])
@pytest.mark.parametrize("name", ["input-0", "whatever"])
def test_the_only_tensor_of_a_version_may_have_any_name(loaded: Get, name: str, datatype: str) -> None:
    [output] = answered(loaded("tensor"), tensor(datatype, [2, 2], [1, 2, 3, 4], name))["outputs"]

    assert (output["name"], output["datatype"], output["data"]) == ("predict", "FP32", [3, 7])


def test_columns_without_names_are_taken_by_position_or_by_the_names_of_the_metadata(loaded: Get) -> None:
    version = loaded("echo_unnamed")
    number, text = tensor("FP64", [1], [1.5], "a"), tensor("BYTES", [1], ["x"], "b")
    by_position = answered(version, number, text)
    by_name = answered(version, {**text, "name": "input-1"}, {**number, "name": "input-0"})

    assert by_position == by_name
    assert [output["data"] for output in by_name["outputs"]] == [[1.5], ["x"]]


@pytest.mark.parametrize(
    "vector",
    [
        tensor("FP64", [2, 2], [1, 2, 3, 4], "vector"),
        tensor("BYTES", [2], ["[1.0, 2.0]", "[3.0, 4.0]"], "vector"),
    ],
    ids=["tensor", "json"],
)
def test_a_column_of_lists_or_objects_is_a_tensor_or_texts_of_json(
    loaded: Get, vector: dict[str, Any]
) -> None:
    who = tensor("BYTES", [2], ['{"id": 1}', '{"id": 2}'], "who")
    small = [tensor("INT64", [2], [1, 2], "i"), tensor("INT64", [2], [1, 2], "f")]
    outputs = {one["name"]: one for one in answered(loaded("echo_nested"), vector, who, *small)["outputs"]}

    assert (outputs["vector"]["shape"], outputs["vector"]["data"]) == ([2, 2], [1, 2, 3, 4])
    assert [json.loads(text) for text in outputs["who"]["data"]] == [{"id": 1}, {"id": 2}]
    assert (outputs["i"]["datatype"], outputs["f"]["datatype"]) == ("INT32", "FP32")


def test_without_a_signature_columns_make_a_table_and_one_other_tensor_an_array(loaded: Get) -> None:
    def names(*inputs: dict[str, Any], **more: Any) -> list[str]:
        return [output["name"] for output in answered(loaded("echo"), *inputs, **more)["outputs"]]

    column, matrix = tensor("FP64", [2], [1, 2], "a"), tensor("FP64", [1, 2], [1, 2], "b")
    assert names(column) == ["a"]
    assert names(column, {**column, "name": "b"}) == ["a", "b"]
    assert names(matrix) == ["predict"]
    assert names(matrix, column) == ["b", "a"]
    assert names(column, parameters={"content_type": "np"}) == ["predict"]


def test_a_signature_reports_inputs_and_outputs(loaded: Get) -> None:
    info = loaded("churn").info
    assert info.inputs == (TensorInfo("age", "FP64", (-1,)), TensorInfo("usage", "FP64", (-1,)))
    assert info.outputs == (TensorInfo("predict", "FP64", (-1, 2)),)

    assert [(one.name, one.datatype, one.content_type) for one in loaded("columns").info.inputs] == [
        ("d", "FP64", ""),
        ("l", "INT64", ""),
        ("s", "BYTES", ""),
        ("b", "BOOL", ""),
        ("t", "BYTES", "datetime"),
        ("x", "BYTES", "base64"),
    ]
    assert [(one.datatype, one.shape, one.content_type) for one in loaded("echo_nested").info.inputs] == [
        ("FP64", (-1, -1), ""),
        ("BYTES", (-1,), "json"),
        ("INT32", (-1,), ""),
        ("FP32", (-1,), ""),
    ]
    assert loaded("tensor").info.inputs == (TensorInfo("input-0", "FP32", (-1, 2)),)
    assert (loaded("plain").info.inputs, loaded("plain").info.outputs) == ((), ())


def test_outputs_that_no_signature_names_are_reported_by_the_warm_up(loaded: Get) -> None:
    assert loaded("labels").info.outputs == (TensorInfo("predict", "BYTES", (-1,)),)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("churn", [tensor("FP64", [1], [1], "age"), tensor("FP64", [1], [1], "usage")]),
        ("signed", [tensor("BYTES", [1], ["good"], "text")]),
        ("labels", [tensor("BYTES", [1], ["good"], "text")]),
        ("two_outputs", [tensor("FP64", [1], [1.5])]),
        ("echo_tensors", NAMED),
        ("hinted", [tensor("BYTES", [1], ["good"])]),
    ],
)
def test_names_and_datatypes_agree_between_metadata_and_answers(
    loaded: Get, name: str, inputs: list[dict[str, Any]]
) -> None:
    reported = [(one.name, one.datatype, len(one.shape)) for one in loaded(name).info.outputs]
    outputs = answered(loaded(name), *inputs)["outputs"]

    assert reported == [(one["name"], one["datatype"], len(one["shape"])) for one in outputs]


def test_the_same_bytes_are_decoded_by_each_version_for_itself(loaded: Get) -> None:
    """A canary may read what production refuses, and the other way round."""
    body = inference_query(tensor("FP64", [1, 2], [1, 2])).body
    statuses = {
        name: loaded(name).scorer.answer(Query(body, None, protocol=inference_query().protocol)).status
        for name in ("echo", "tensor", "columns", "churn")
    }

    assert statuses == {"echo": 200, "tensor": 400, "columns": 400, "churn": 400}
