"""What travels to a worker and back is what was meant, whatever a caller or a version put into it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import VersionId
from router.core.scores import ClassSpec, ScoreSpec, shown_name, with_edges
from router.core.traits import TraitColumn
from router.protocol import messages
from router.protocol.frames import Frame, FrameDecoder, encode_frame
from router.protocol.messages import CONTENT_TYPES, DATATYPES, Batching, LoadSpec, TensorInfo, VersionInfo

text = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=256)
seconds = st.floats(0, 1e6)
counts = st.integers(0, 2**40)
tensors = st.lists(
    st.builds(
        TensorInfo,
        text.map(lambda name: name[:1024]),
        st.sampled_from(DATATYPES),
        st.lists(st.integers(-1, 2**63 - 1), max_size=4).map(tuple),
        st.sampled_from(CONTENT_TYPES),
    ),
    max_size=3,
).map(tuple)
output_names = st.integers(0, 9) | text.map(lambda name: name[:128])
specs = st.builds(ScoreSpec, output_names, bins=st.integers(1, 40))
class_specs = st.builds(ClassSpec, output_names, st.sampled_from([("a",), ("true", "7", "é")]))
outputs = st.builds(
    lambda scores, labels: tuple({shown_name(spec): spec for spec in [*scores, *labels]}.values()),
    st.lists(specs, max_size=3),
    st.lists(class_specs, max_size=1),
)


def sent(header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> Frame:
    """The frame as the other side sees it."""
    (frame,) = FrameDecoder().feed(b"".join(encode_frame(header, bodies)))
    return frame


@given(
    st.builds(
        LoadSpec,
        st.builds(VersionId, text, st.integers(1, 2**40)),
        text,
        st.none() | outputs,
        st.integers(1, 64),
        st.booleans(),
        st.floats(0, 1),
        st.integers(1, 64),
        production_scores=st.none() | outputs,
    )
)
def test_a_load_arrives_as_it_was_sent(spec: LoadSpec) -> None:
    assert messages.load_spec(sent(messages.load_header(spec)).header) == spec


@given(
    st.builds(
        VersionInfo,
        run_id=names,
        flavor=names,
        has_signature=st.booleans(),
        has_example=st.booleans(),
        phase_seconds=st.dictionaries(st.sampled_from(["load", "warmup"]), seconds),
        processor_seconds=st.sampled_from([{}, {"load": 0.5}, {"load": 1.5, "warmup": 0.0}]),
        scores=outputs,
        note=names,
        batching=st.builds(Batching, st.booleans(), names),
        mismatches=st.lists(names.map(lambda name: name[:200]), max_size=20).map(tuple),
        inputs=tensors,
        outputs=tensors,
        suggested_scores=outputs,
        trait_columns=st.lists(
            st.builds(
                TraitColumn,
                names.map(lambda name: name[:100]),
                st.sampled_from(["", "range", "categories"]),
            ),
            max_size=5,
        ).map(tuple),
        columns_left_out=st.integers(0, 2**40),
    )
)
def test_what_a_version_reports_about_itself_arrives_as_it_was_sent(info: VersionInfo) -> None:
    assert messages.version_info(sent(messages.ready_header(info)).header) == info


SCORES = {"output": 0, "low": 0, "high": 1.0, "bins": 20, "upper": []}
CLASSES = {"output": 0, "classes": ["spam", "7", "true"]}
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [-1], "content_type": ""}
INFO = {
    "run_id": "r",
    "flavor": "sklearn",
    "has_signature": True,
    "has_example": False,
    "phase_seconds": {"load": 0.5},
    "scores": [{"output": 0, "low": 0, "high": 1.0, "bins": 20, "upper": []}],
    "note": "",
    "batching": {"merges": True, "why": "its rows are predicted alike"},
    "mismatches": ["numpy==1.0 is required and not installed"],
    "inputs": [TENSOR],
    "outputs": [],
    "suggested_scores": [],
}
FAILURE = {"op": "failed", "phase": "load", "error": "no such lexicon"}
ODD = [None, True, "x", "", -1, 1.5, [], {}, [1], {"a": 1}, 2**64 - 1, 1e300, "x" * 3000, "a\r\nb"]
"""What hostile code may put where something else belongs."""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, value) for name in ("run_id", "flavor") for value in (None, 7, "a" * 257, "a\nb")],
        *[("note", value) for value in (None, 7, "a" * 2001)],
        *[("mismatches", value) for value in (None, "ab", {}, [7], [None], ["a" * 201], ["a"] * 21)],
        *[(name, value) for name in ("has_signature", "has_example") for value in (None, 1, "true")],
        *[
            (name, value)
            for name in ("phase_seconds", "processor_seconds")
            for value in (5, None, [], {"load": -1}, {"load": "1"}, {"load": None}, {"sleep": 1.0})
        ],
        *[
            ("scores", [{**SCORES, **odd}])
            for odd in (
                {"bins": 3_000_000},
                {"bins": 0},
                {"bins": 201},
                {"bins": True},
                {"bins": "20"},
                {"low": 1.0, "high": 1.0},
                {"low": 2, "high": 1.0},
                {"low": None},
                {"high": "1"},
                {"low": 1.0, "high": 1.0000000000000002},
                {"output": -1},
                {"output": 10**6},
                {"output": True},
                {"output": 0.5},
                {"output": "a" * 129},
                {"upper": [1.0], "bins": 1},
                {"upper": None},
            )
        ],
        *[
            ("scores", [{**CLASSES, **odd}])
            for odd in (
                {"classes": []},
                {"classes": ["a"] * 2},
                {"classes": [str(i) for i in range(21)]},
                {"classes": "ab"},
                {"classes": [1]},
                {"classes": ["a\nb"]},
                {"classes": ["__other__"]},
                {"classes": ["x" * 129]},
                {"output": -1},
                {"output": "a" * 129},
            )
        ],
        ("scores", [CLASSES, {**CLASSES, "output": 1}]),
        ("scores", [SCORES, SCORES]),
        ("suggested_scores", [SCORES, SCORES]),
        ("suggested_scores", None),
        ("scores", [{**SCORES, "output": i} for i in range(5)]),
        *[("scores", value) for value in ([1], [[]], [{}], {}, None, 7, "x", SCORES)],
        *[
            ("trait_columns", value)
            for value in (None, "ab", [None], [[]], [{}], [{"name": 7}], [{"name": "a", "example": "values"}])
        ],
        ("trait_columns", [{"name": "a", "example": ""}] * 65),
        *[("columns_left_out", value) for value in (None, -1, "0", 1.5)],
        *[("batching", value) for value in (None, {}, {"merges": 1, "why": ""}, {"merges": True, "why": 7})],
        *[
            (side, value)
            for side in ("inputs", "outputs")
            for value in (
                *(None, 7, "text", {}, [None], [[]], [{}], [TENSOR] * 20_001),
                *([{**TENSOR, "name": odd}] for odd in (None, 7, "a" * 1025)),
                *([{**TENSOR, "datatype": odd}] for odd in (None, "fp64", [], 7)),
                *(
                    [{**TENSOR, "shape": odd}]
                    for odd in (None, 7, "12", [-2], [2**63], [True], [1.0], [1] * 33)
                ),
                *([{**TENSOR, "content_type": odd}] for odd in (None, "text/html", [], 7)),
            )
        ],
    ],
)
def test_an_odd_description_of_a_version_is_refused(field: str, value: Any) -> None:
    assert messages.version_info({"info": INFO}).scores == (ScoreSpec(),)

    with pytest.raises(messages.WireRefused):
        messages.version_info({"info": {**INFO, field: value}})


@pytest.mark.parametrize("header", [{}, {"info": None}, {"info": []}, {"info": {}}])
def test_no_description_of_a_version_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(messages.WireRefused):
        messages.version_info(header)


def test_a_version_counts_the_scores_that_were_asked_for_or_none() -> None:
    """A name that the operator chose may be longer than one that a version brings."""
    asked = (ScoreSpec("a" * 500, 0, 2.0, 3), with_edges(1, -1.0, (0.0, 7.0)), ClassSpec("l", ("a", "1")))
    reported = sent({"scores": [asdict(spec) for spec in asked]}).header["scores"]

    assert messages.version_info({"info": {**INFO, "scores": reported}}, asked).scores == asked
    assert messages.version_info({"info": {**INFO, "scores": []}}, asked).scores == ()
    for other in (reported[:1], reported[::-1], [*reported, SCORES]):
        with pytest.raises(messages.WireRefused):
            messages.version_info({"info": {**INFO, "scores": other}}, asked)
    with pytest.raises(messages.WireRefused):
        messages.version_info({"info": INFO}, asked)


@pytest.mark.parametrize("odd", [{"phase": "fetch"}, {"phase": []}, {"error": None}, {"error": "a" * 2001}])
def test_an_odd_failure_is_refused(odd: dict[str, Any]) -> None:
    assert str(messages.failure(FAILURE)) == "no such lexicon"

    with pytest.raises(messages.WireRefused):
        messages.failure({**FAILURE, **odd})


def test_what_operators_are_shown_holds_no_control_sequence() -> None:
    assert str(messages.failure({**FAILURE, "error": "a\x1b[31mb\r\n"})) == "a [31mb  "
    assert messages.version_info({"info": {**INFO, "note": "a\x9bb"}}).note == "a b"
    assert messages.version_info({"info": {**INFO, "mismatches": ["a\x9bb"]}}).mismatches == ("a b",)
    columns = [{"name": "\x1b[31m\u202e<b>" + "n" * 5000, "example": ""}]
    [column] = messages.version_info({"info": {**INFO, "trait_columns": columns}}).trait_columns
    assert column.name == " [31m <b>" + "n" * 91


json_values = st.recursive(
    st.sampled_from(ODD) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(sorted(INFO)), json_values)
def test_a_description_is_read_or_refused_and_nothing_else(field: str, value: Any) -> None:
    with suppress(messages.WireRefused):
        messages.version_info({"info": {**INFO, field: value}})
