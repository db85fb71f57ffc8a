"""Requests of the Open Inference Protocol, good and bad, case by case, to real versions."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from router.core.scores import ScoreCounts
from router.protocol.messages import Answer, PredictStatus, Query, ScoringProtocol
from router.worker.load import Loaded
from tests.support.saved_versions import inference_query, tensor

Get = Callable[[str], Loaded]
GOOD = tensor("FP64", [2], [1.5, 2.5])
INTEGERS = [f"{kind}INT{bits}" for kind in ("", "U") for bits in (8, 16, 32, 64)]


def answered(version: Loaded, *inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = version.scorer.answer(inference_query(*inputs, **more))
    assert (answer.status, answer.predict_status) == (200, PredictStatus.OK), answer.body
    reported: dict[str, Any] = json.loads(answer.body, parse_constant=pytest.fail)
    return reported


def refusal_of(answer: Answer) -> str:
    """The error of a caller's mistake, which has one shape."""
    reported = json.loads(answer.body)
    assert (answer.status, answer.predict_status, answer.content_type) == (
        400,
        PredictStatus.CLIENT_ERROR,
        "application/json",
    )
    assert list(reported) == ["error"]
    assert b"secret" not in answer.body
    message: str = reported["error"]
    return message


@pytest.mark.parametrize(
    ("sent", "datatype", "shape", "data"),
    [
        (tensor("BOOL", [2], [True, False]), "BOOL", [2], [True, False]),
        *[(tensor(name, [2], [0, 7]), name, [2], [0, 7]) for name in INTEGERS],
        (tensor("UINT64", [1], [2**64 - 1]), "UINT64", [1], [2**64 - 1]),
        (tensor("INT64", [1], [-(2**63)]), "INT64", [1], [-(2**63)]),
        (tensor("INT8", [2], [-128, 127]), "INT8", [2], [-128, 127]),
        *[(tensor(f"FP{bits}", [2], [0.5, -2]), f"FP{bits}", [2], [0.5, -2]) for bits in (16, 32, 64)],
        (tensor("FP32", [1], [0.1]), "FP32", [1], [0.1]),
        (tensor("FP64", [2], [None, 1]), "FP64", [2], [None, 1]),
        (tensor("FP64", [1], [2**70]), "FP64", [1], [float(2**70)]),
        (tensor("BYTES", [2], ["a", "Ünïcödé\0"]), "BYTES", [2], ["a", "Ünïcödé\0"]),
        (tensor("BYTES", [2], ["a", None]), "BYTES", [2], ["a", None]),
        (tensor("BYTES", [2], ["", "YQ=="], content_type="base64"), "BYTES", [2], ["", "YQ=="]),
        (
            tensor("BYTES", [1], ["2020-02-29 01:02"], content_type="datetime"),
            "BYTES",
            [1],
            ["2020-02-29T01:02:00.000000000"],
        ),
        (tensor("INT32", [2, 2], [1, 2, 3, 4]), "INT32", [2, 2], [1, 2, 3, 4]),
        (tensor("INT32", [2, 2], [[1, 2], [3, 4]]), "INT32", [2, 2], [1, 2, 3, 4]),
        (tensor("INT32", [1, 2, 2], [[[1, 2], [3, 4]]]), "INT32", [1, 2, 2], [1, 2, 3, 4]),
        (tensor("BYTES", [1, 2], [["a", "b"]]), "BYTES", [1, 2], ["a", "b"]),
        (tensor("FP32", [2, 1], [[1], [2]]), "FP32", [2], [1, 2]),
        (tensor("FP32", [], 1.5), "FP32", [1], [1.5]),
        (tensor("FP32", [], [1.5]), "FP32", [1], [1.5]),
        (tensor("FP32", [0], []), "FP32", [0], []),
        (tensor("BYTES", [0], []), "FP64", [0], []),
        (tensor("FP32", [0, 3], []), "FP32", [0, 3], []),
        (tensor("FP32", [2, 0], [[], []]), "FP32", [2, 0], []),
        (tensor("FP64", [2], [1, 2], content_type="anything"), "FP64", [2], [1, 2]),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value)[:60],
)
def test_a_good_tensor_comes_back(
    loaded: Get, sent: dict[str, Any], datatype: str, shape: list[int], data: list[Any]
) -> None:
    """A version without a signature, which answers what it is given."""
    [output] = answered(loaded("echo"), sent)["outputs"]

    assert (output["datatype"], output["shape"], output["data"]) == (datatype, shape, data)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("secret", "inputs[0] must be an object"),
        (None, "inputs[0] must be an object"),
        ([], "inputs[0] must be an object"),
        ({**GOOD, "name": None}, "inputs[0].name must be a string"),
        ({**GOOD, "name": 7}, "inputs[0].name must be a string"),
        ({"shape": [2], "datatype": "FP64", "data": [1, 2]}, "inputs[0].name must be a string"),
        *[
            ({**GOOD, "datatype": odd}, "inputs[0].datatype must be one of BOOL, UINT8")
            for odd in ("fp64", "Fp64", "FLOAT", "STRING", "INT128", "secret", "", None, 7, [], {})
        ],
        *[
            ({**GOOD, "shape": odd}, "inputs[0].shape must be a list of whole numbers")
            for odd in (None, 2, "2", [2.0], ["2"], [None], [True], [-1], [-2, -1], [[2]], {"0": 2})
        ],
        ({**GOOD, "shape": [3]}, "inputs[0].data has 2 elements where its shape makes 3"),
        ({**GOOD, "shape": [2, 2]}, "inputs[0].data has 2 elements where its shape makes 4"),
        ({**GOOD, "shape": [0]}, "inputs[0].data has 2 elements where its shape makes 0"),
        ({**GOOD, "shape": []}, "inputs[0].data has 2 elements where its shape makes 1"),
        ({**GOOD, "shape": [2**40, 2**40]}, "inputs[0].shape is larger than any tensor"),
        ({**GOOD, "shape": [2**63]}, "inputs[0].shape is larger than any tensor"),
        ({**GOOD, "shape": [2**64]}, "inputs[0].shape must be a list of whole numbers"),
        ({**GOOD, "shape": [2**40, 0], "data": []}, "inputs[0].shape is larger than any tensor"),
        ({**GOOD, "shape": [10**12]}, "inputs[0].data has 2 elements where its shape makes"),
        ({**GOOD, "shape": [2] + [1] * 40}, "inputs[0].shape has more than 32 dimensions"),
        ({"name": "x", "datatype": "FP64", "shape": [2]}, "inputs[0].data is missing"),
        ({**GOOD, "data": None}, "inputs[0].data must be a list"),
        ({**GOOD, "data": 1}, "inputs[0].data must be a list"),
        ({**GOOD, "data": "secret"}, "inputs[0].data must be a list"),
        ({**GOOD, "data": {"0": 1}}, "inputs[0].data must be a list"),
        ({**GOOD, "data": [[1], [2]]}, "inputs[0].data must be numbers or null"),
        (tensor("FP64", [2, 2], [[1, 2], [3]]), "inputs[0].data is nested in another way"),
        (tensor("FP64", [2, 2], [[1, 2], 3]), "inputs[0].data is nested in another way"),
        (tensor("FP64", [2, 2], [[1, 2, 3, 4]]), "inputs[0].data is nested in another way"),
        (tensor("FP64", [2, 2, 1], [[1, 2], [3, 4]]), "inputs[0].data is nested in another way"),
        (tensor("FP64", [2, 2], [[[1], [2]], [[3], [4]]]), "inputs[0].data must be numbers or null"),
        (tensor("FP64", [2, 2], [1, [2], 3, 4]), "inputs[0].data must be numbers or null"),
        *[(tensor("FP64", [1], [odd]), "must be numbers or null") for odd in ("1", True, {}, "secret")],
        *[
            (tensor(name, [1], [odd]), "must be whole numbers")
            for name in ("INT64", "UINT8")
            for odd in (1.5, 1.0, "1", None, True, [], 2**80 + 0.0)
        ],
        *[(tensor("BOOL", [1], [odd]), "must be true or false") for odd in (0, 1, "true", None)],
        *[(tensor("BYTES", [1], [odd]), "must be texts or null") for odd in (1, False, [1, 2], {})],
        *[
            (tensor(name, [2], [0, beyond]), f"inputs[0].data has a number that {name} can not hold")
            for bits in (8, 16, 32, 64)
            for name, low, end in (
                (f"UINT{bits}", 0, 2**bits),
                (f"INT{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1)),
            )
            for beyond in (low - 1, end)
            if -(2**63) <= beyond < 2**64
        ],
        # Beyond 64 bits, orjson reads whole numbers as others.
        (tensor("UINT64", [2], [0, 2**64]), "inputs[0].data must be whole numbers"),
        (tensor("INT64", [2], [0, -(2**63) - 1]), "inputs[0].data must be whole numbers"),
        (tensor("UINT16", [2, 2], [[1, 2], [3, -1]]), "inputs[0].data has a number that UINT16 can not hold"),
        (tensor("FP16", [1], [70000]), "a number that FP16 can not hold"),
        (tensor("FP32", [1], [1e300]), "a number that FP32 can not hold"),
        ({**GOOD, "parameters": []}, "inputs[0].parameters must be an object"),
        ({**GOOD, "parameters": "secret"}, "inputs[0].parameters must be an object"),
        (tensor("BYTES", [1], ["secret!"], content_type="base64"), "must be base64"),
        *[
            (tensor("BYTES", [1], [odd], content_type="datetime"), "must be ISO 8601 dates")
            for odd in ("secret", "now", "2020-13-01", "1500-01-01", "2020-01-01T00:00:00Z", "", "20200101")
        ],
    ],
    ids=lambda value: str(value)[:80],
)
def test_a_bad_tensor_is_a_mistake_that_is_named(loaded: Get, sent: Any, said: str) -> None:
    assert said in refusal_of(loaded("echo").scorer.answer(inference_query(sent)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"secret", "no JSON"),
        (b'{"inputs": [secret', "no JSON: see line 1 column 13"),
        (b"\xff\xfe\xfasecret", "JSON"),
        (b'{"inputs": "\xff"}', "decoded"),
        (b"[]", "must be a JSON object"),
        (b"7", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "inputs must be a list of at least one tensor"),
        (b'{"inputs": []}', "inputs must be a list of at least one tensor"),
        (b'{"inputs": {}}', "inputs must be a list of at least one tensor"),
        (b'{"inputs": null}', "inputs must be a list of at least one tensor"),
        (b'{"inputs": [' + b"{}," * 100_000 + b"{}]}", "inputs are more than 100000"),
        (b'{"dataframe_split": {"columns": ["secret"], "data": [[1]]}}', "inputs must be a list"),
        (b"[" * 100_000, "decoded"),
        (b'{"inputs": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "decoded"),
        (b'{"inputs": [{"data": ' + b"9" * 5_000 + b"}]}", "decoded"),
        (json.dumps({"inputs": [GOOD, GOOD]}).encode(), "two inputs have one name"),
        (json.dumps({"inputs": [GOOD], "id": 7}).encode(), "id must be a string"),
        (json.dumps({"inputs": [GOOD], "id": ["secret"]}).encode(), "id must be a string"),
        (json.dumps({"inputs": [GOOD], "id": False}).encode(), "id must be a string"),
        (json.dumps({"inputs": [GOOD], "parameters": []}).encode(), "parameters must be an object"),
        (json.dumps({"inputs": [GOOD], "outputs": {}}).encode(), "outputs must be a list"),
        (json.dumps({"inputs": [GOOD], "outputs": ["secret"]}).encode(), "outputs[0].name"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": 1}]}).encode(), "outputs[0].name"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "secret"}]}).encode(), "has no output"),
        (
            json.dumps({"inputs": [GOOD], "outputs": [{"name": "x"}, {"name": "x"}]}).encode(),
            "two outputs have one name",
        ),
        (json.dumps({"inputs": [tensor("BYTES", [1], ["\ud800"])]}).encode(), "no Unicode"),
        (
            json.dumps({"inputs": [GOOD, tensor("FP64", [3], [1] * 3, "y")]}).encode(),
            None,  # two tensors, each for itself
        ),
        (
            json.dumps(
                {
                    "inputs": [GOOD, tensor("FP64", [3], [1] * 3, "y")],
                    "parameters": {"content_type": "pd"},
                }
            ).encode(),
            "must have one number of rows",
        ),
        (
            json.dumps(
                {
                    "inputs": [tensor("FP64", [1, 3], [1] * 3, "y")],
                    "parameters": {"content_type": "pd"},
                }
            ).encode(),
            "its shape must be [n] or [n, 1]",
        ),
        (
            json.dumps(
                {"inputs": [GOOD, {**GOOD, "name": "y"}], "parameters": {"content_type": "np"}}
            ).encode(),
            "content_type np is for one input",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_request_is_a_mistake_that_is_named(loaded: Get, body: bytes, said: str | None) -> None:
    answer = loaded("echo").scorer.answer(Query(body, None, protocol=ScoringProtocol.V2))

    if said is None:
        assert answer.status == 200
    else:
        assert said in refusal_of(answer)


@pytest.mark.parametrize("reported", ["", "42", "a\r\nX-Evil: 1", "\ud800", "x" * 100_000])
def test_any_text_is_an_id_and_comes_back(loaded: Get, reported: str) -> None:
    assert answered(loaded("echo"), GOOD, id=reported)["id"] == reported


def test_what_is_optional_may_be_null_or_absent(loaded: Get) -> None:
    reported = answered(loaded("echo"), {**GOOD, "parameters": None}, id=None, parameters=None, outputs=None)

    assert "id" not in reported
    assert reported["outputs"] == answered(loaded("echo"), GOOD, outputs=[], unknown=1)["outputs"]


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"[NaN, Infinity, -Infinity]", [None, None, None]),
        (b"[1e400, 1, -0.0]", [None, 1, 0]),
    ],
)
def test_what_json_has_no_number_for_is_taken_and_answered_as_null(
    loaded: Get, body: bytes, data: list[Any]
) -> None:
    head = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [3], "data": '
    answer = loaded("echo").scorer.answer(Query(head + body + b"}]}", None, protocol=ScoringProtocol.V2))

    [output] = json.loads(answer.body, parse_constant=pytest.fail)["outputs"]
    assert output["data"] == data


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_unicodes_are_read_as_mlflow_reads_them(loaded: Get, encoding: str) -> None:
    body = inference_query(GOOD).body.decode().encode(encoding)

    assert loaded("echo").scorer.answer(Query(body, None, protocol=ScoringProtocol.V2)).status == 200


def test_outputs_are_selected_in_the_order_asked_for(loaded: Get) -> None:
    reported = answered(
        loaded("echo"), GOOD, {**GOOD, "name": "y"}, outputs=[{"name": "y"}, {"name": "x", "parameters": {}}]
    )

    assert [output["name"] for output in reported["outputs"]] == ["y", "x"]


def test_an_answer_names_model_and_version(loaded: Get) -> None:
    reported = answered(loaded("echo"), GOOD)

    assert (reported["model_name"], reported["model_version"]) == ("echo", "1")


def test_rows_are_counted_and_limited(loaded: Get) -> None:
    query = inference_query(GOOD)
    scorer = loaded("echo").scorer
    good = scorer.answer(query)
    limited = scorer.answer(Query(query.body, None, 1, ScoringProtocol.V2))

    assert (good.rows, good.answer_rows) == (2, 2)
    assert (limited.status, limited.predict_status, list(json.loads(limited.body))) == (
        413,
        PredictStatus.CLIENT_ERROR,
        ["error"],
    )


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("fail:secret", 500, "raised ValueError"),
        ("exit:", 500, "raised SystemExit"),
        ("interrupt:", 500, "raised KeyboardInterrupt"),
        ("unwritable:", 500, "cannot be written as JSON"),
        ("missing:secret", 400, "refused"),
    ],
)
def test_what_the_version_does_wrong_is_a_500_of_the_same_shape(
    loaded: Get, command: str, status: int, said: str
) -> None:
    query = inference_query(tensor("BYTES", [1], [command], "command"))
    answer = loaded("commands").scorer.answer(query)

    assert (answer.status, list(json.loads(answer.body))) == (status, ["error"])
    assert said in json.loads(answer.body)["error"]
    assert b"secret" not in answer.body


def test_a_request_without_rows_that_the_version_raises_on_is_the_callers(loaded: Get) -> None:
    """A library that refuses an empty table is not at fault."""
    empty = [tensor("FP64", [0], [], name) for name in ("age", "usage")]

    assert "without rows" in refusal_of(loaded("churn").scorer.answer(inference_query(*empty)))


def test_scores_are_counted_as_for_any_answer(loaded: Get) -> None:
    inputs = [tensor("FP64", [2], [20, 50], "age"), tensor("FP64", [2], [1, 8], "usage")]
    answer = loaded("churn").scorer.answer(inference_query(*inputs))

    [counts] = answer.scores
    assert isinstance(counts, ScoreCounts)
    assert sum(counts.bins) == 2
    assert answer.predict_seconds > 0
    assert not math.isnan(counts.positive_sum)
