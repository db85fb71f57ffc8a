"""What in a signature stands in the way of production's callers, and what is only worth knowing."""

from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Object, Property

from router.gate.findings import Outcome
from router.gate.model_files import MODEL_FILE, Signature, signature_in
from router.gate.signature import compare_signatures


def column(name: str, kind: Any = "double", *, required: bool = True) -> ColSpec:
    return ColSpec(kind, name, required=required)


def tensor(name: str | None, *shape: int, dtype: str = "float64") -> TensorSpec:
    return TensorSpec(np.dtype(dtype), shape, name)


@pytest.fixture
def signature(tmp_path: Any) -> Any:
    """As MLflow writes it into a version's files, read back."""

    def made(
        inputs: list[Any], outputs: list[Any] | None = None, params: list[Any] | None = None
    ) -> Signature:
        written = ModelSignature(
            Schema(inputs), Schema(outputs) if outputs else None, ParamSchema(params) if params else None
        )
        (tmp_path / MODEL_FILE).write_text(yaml.safe_dump({"signature": written.to_dict()}))
        found = signature_in(tmp_path)
        assert found is not None
        return found

    return made


CASES = [
    ("the same", [column("a")], [column("a")], Outcome.PASS, ""),
    (
        "an optional one more",
        [column("a")],
        [column("a"), column("b", required=False)],
        Outcome.PASS,
        "it also takes b",
    ),
    ("a column less", [column("a"), column("b")], [column("a")], Outcome.PASS, "it takes no b"),
    (
        "a wider type",
        [column("a", "integer")],
        [column("a", "double")],
        Outcome.PASS,
        "a is double to it and integer",
    ),
    ("optional at last", [column("a")], [column("a", required=False)], Outcome.PASS, ""),
    (
        "a required one more",
        [column("a")],
        [column("a"), column("b")],
        Outcome.FAIL,
        "it requires b, which production",
    ),
    (
        "a narrower type",
        [column("a", "double")],
        [column("a", "long")],
        Outcome.FAIL,
        "a is long to it and double",
    ),
    ("a text", [column("a", "double")], [column("a", "string")], Outcome.FAIL, "a is string to it"),
    ("required at last", [column("a", required=False)], [column("a")], Outcome.FAIL, "may leave out"),
    (
        "another property",
        [column("a", Object([Property("x", "string")]))],
        [column("a", Object([Property("x", "long")]))],
        Outcome.FAIL,
        "a is object of x: long to it and object of x: string",
    ),
    (
        "a longer list",
        [column("a", Array("long"))],
        [column("a", Array("string"))],
        Outcome.FAIL,
        "array of string",
    ),
    ("any size", [tensor(None, -1, 4)], [tensor(None, -1, -1)], Outcome.PASS, "shape (-1, -1)"),
    (
        "another size",
        [tensor("x", -1, 4)],
        [tensor("x", -1, 5)],
        Outcome.FAIL,
        "x is tensor of float64, shape (-1, 5)",
    ),
]


@pytest.mark.parametrize(("_", "old", "new", "outcome", "said"), CASES, ids=[case[0] for case in CASES])
def test_a_request_that_production_takes_has_to_be_one_that_the_candidate_takes(
    signature: Any, _: str, old: list[Any], new: list[Any], outcome: Outcome, said: str
) -> None:
    found = compare_signatures(signature(old), signature(new))

    assert found.outcome is outcome
    assert said in "; ".join((found.why, *found.notes))


def test_columns_that_callers_send_already_may_be_required(signature: Any) -> None:
    old, new = signature([column("a")]), signature([column("a"), column("b"), column("c")])

    found = compare_signatures(old, new, ["b"])
    assert (found.outcome, "it requires c, which" in found.why) == (Outcome.FAIL, True)
    found = compare_signatures(old, new, ["b", "c"])
    assert found.outcome is Outcome.PASS
    assert found.notes == ("it requires b, c, which callers are said to send already",)


def test_an_answer_has_to_have_what_callers_read(signature: Any) -> None:
    old = signature([column("a")], [column("score"), column("label", "string")])

    for outputs, said in (
        ([column("score")], "it does not answer label"),
        ([column("score"), column("label", "long")], "its answer label is long, and production's is string"),
    ):
        found = compare_signatures(old, signature([column("a")], outputs))
        assert (found.outcome, said in found.why) == (Outcome.FAIL, True), found
    more = [column("score"), column("label", "string"), column("why", "string")]
    assert compare_signatures(old, signature([column("a")], more)).notes == ("it also answers why",)
    # One that was logged without outputs promises nothing: what it answers, the example shows.
    assert compare_signatures(old, signature([column("a")])).outcome is Outcome.PASS


def test_a_parameter_that_is_ignored_is_noted_and_one_of_another_type_fails(signature: Any) -> None:
    inputs = [column("a")]
    old = signature(inputs, None, [ParamSpec("top", "long", 3), ParamSpec("lang", "string", "en")])

    assert compare_signatures(old, signature(inputs)).notes == (
        "it ignores the parameter top, lang, which production follows",
    )
    found = compare_signatures(old, signature(inputs, None, [ParamSpec("top", "string", "3")]))
    assert (found.outcome, "the parameter top is string" in found.why) == (Outcome.FAIL, True)


def test_without_a_signature_nothing_is_compared_and_that_is_said(signature: Any) -> None:
    one = signature([column("a")])

    for pair, whose in (((None, one), "production's version"), ((one, None), "the candidate")):
        found = compare_signatures(*pair)
        assert found.outcome is Outcome.NOT_CHECKED
        assert found.why.startswith(whose)


@pytest.mark.parametrize(
    "text", ["", "signature: null\n", "signature: [1]\n", "{", "signature: {inputs: '{'}\n"]
)
def test_a_file_that_says_no_signature_has_none(tmp_path: Any, text: str) -> None:
    (tmp_path / MODEL_FILE).write_text(text)

    assert signature_in(tmp_path) is None
