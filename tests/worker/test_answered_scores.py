"""Scores that are read of an answer are those that a worker counts of what it predicted."""

import tracemalloc
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from router.core.ids import VersionId
from router.core.scores import ClassSpec, OutputSpec, ScoreCounts, ScoreSpec
from router.core.version_address import Engine
from router.protocol.messages import LoadSpec
from router.worker.answered_scores import count_answers, predictions_in, table_of
from router.worker.encoder import encode
from router.worker.score_selection import choose_outputs
from router.worker.scores import count_scores
from router.worker.v2.output_tensors import outputs_of

SPEC = LoadSpec(VersionId("m", 1), "", None)
PREDICTED: dict[str, tuple[Any, tuple[OutputSpec, ...]]] = {
    "numbers": (np.array([0.1, 0.9, 0.5]), (ScoreSpec(),)),
    "a list": ([0.25, 0.75], (ScoreSpec(),)),
    "one number per row": (np.array([[0.2], [1.4]]), (ScoreSpec(),)),
    "probabilities": (np.array([[0.9, 0.1], [0.3, 0.7]]), (ScoreSpec(1),)),
    "nothing but NaN": (np.array([np.nan, np.nan]), (ScoreSpec(),)),
    "NaN among them": (np.array([0.5, np.nan]), (ScoreSpec(),)),
    "out of range": (np.array([-3.0, 7.0]), (ScoreSpec(),)),
    "a table": (pd.DataFrame({"a": [0.1, 0.2], "b": [5.0, -1.0]}), (ScoreSpec("b", -10.0, 10.0),)),
    "two outputs": (
        pd.DataFrame({"a": [0.1, 0.2], "b": ["x", "y"]}),
        (ScoreSpec("a"), ClassSpec("b", ("x",))),
    ),
    "by position": (pd.DataFrame({"a": [0.1], "b": [0.7]}), (ScoreSpec(1),)),
    "texts": (["ham", "spam", "ham"], (ClassSpec(0, ("ham", "spam")),)),
    "truths": (np.array([True, False, True]), (ClassSpec(0, ("false", "true")),)),
    "whole numbers": (np.array([3, 4, 4]), (ClassSpec(0, ("3", "4")),)),
    "another type": (["ham"], (ScoreSpec(),)),
    "a column that is not there": (pd.DataFrame({"a": [0.1], "b": [0.7]}), (ScoreSpec("c"),)),
    "a mapping": ({"a": [0.5, 0.6], "b": [1.0, 2.0]}, (ScoreSpec("a"),)),
    "many rows": (np.linspace(-0.5, 1.5, 1000), (ScoreSpec(bins=7),)),
    "an array of three dimensions": (np.zeros((2, 2, 2)), (ScoreSpec(),)),
}
EXAMPLES = {name: each for name, (each, _) in PREDICTED.items() if name not in ("nothing but NaN",)}


def answered(engine: Engine, predictions: Any) -> bytes:
    """As an engine of that protocol writes it."""
    if engine == "mlflow":
        return encode(predictions)
    tensors = [
        {"name": name, "shape": one.shape, "datatype": one.datatype, "data": one.data}
        for name, one in outputs_of(predictions, ()).items()
    ]
    return orjson.dumps({"model_name": "m", "outputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


of_both = pytest.mark.parametrize("engine", ["mlflow", "v2"])


@of_both
@pytest.mark.parametrize("name", PREDICTED)
def test_an_answer_counts_for_what_its_predictions_count_for(name: str, engine: Engine) -> None:
    predictions, outputs = PREDICTED[name]
    by_worker = count_scores(predictions, outputs)

    read = count_answers(engine, [answered(engine, predictions)], [1], outputs)

    assert read.counts == (by_worker.counts,)
    assert read.bin_indexes == tuple(by_worker.bin_indexes)


@of_both
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_counted_is_chosen_as_a_worker_chooses_it(name: str, engine: Engine) -> None:
    by_worker = choose_outputs(SPEC, EXAMPLES[name])

    chosen = choose_outputs(SPEC, table_of(predictions_in(engine, answered(engine, EXAMPLES[name]))))

    assert chosen.counted == by_worker.counted
    assert bool(chosen.note) == bool(by_worker.note)


def test_each_answer_has_its_bin_and_each_alias_its_counts() -> None:
    outputs = (ScoreSpec(bins=2),)
    answers = [encode([value]) for value in (0.1, 0.9, 0.8)]

    read = count_answers("mlflow", answers, [1, 2], outputs)

    assert read.bin_indexes == (0, 1, 1)
    assert [one.bins for (one,) in read.counts if isinstance(one, ScoreCounts)] == [(1, 0), (0, 2)]


def v2(*tensors: Any) -> bytes:
    return orjson.dumps({"outputs": tensors})


TOO_DEEP = (
    b'{"outputs": [{"name": "p", "shape": [1], "datatype": "FP64", "data": '
    + b"[" * 5000
    + b"]" * 5000
    + b"}]}"
)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"no JSON", b"[]", b"null", b'{"outputs": null}', b'{"outputs": []}', b"\xff", b"[" * 100_000),
        v2({"name": "p", "shape": [1], "datatype": "FP64"}),
        v2({"name": "p", "shape": [1, 0], "datatype": "FP64", "data": [1.0]}),
        v2({"name": "p", "shape": [1, "x"], "datatype": "FP64", "data": [1.0]}),
        v2({"name": "p", "shape": [1] * 33, "datatype": "FP64", "data": [1.0]}),
        v2({"name": "p", "shape": None, "datatype": "FP64", "data": [1.0]}),
        v2({"name": "p", "shape": [1], "datatype": "FP64", "data": 3}),
        v2({"name": "p", "shape": [1, 1, 1], "datatype": "FP64", "data": [0.5]}),
        v2({"name": "p", "shape": [1], "datatype": "BYTES", "data": ["0.5"]}),
        v2(
            *[{"name": f"p{i}", "shape": [i], "datatype": "FP64", "data": [0.5] * i} for i in (1, 2)][::-1], 7
        ),
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
def test_what_is_no_answer_counts_as_a_score_that_is_no_number(body: bytes) -> None:
    read = count_answers(
        "v2",
        [body, v2({"name": "p", "shape": [1], "datatype": "FP64", "data": [0.5]})],
        [2],
        (ScoreSpec(bins=1),),
    )

    [[counts]] = read.counts
    assert isinstance(counts, ScoreCounts)
    assert (counts.bins, counts.non_numeric) == ((1,), 1)
    assert read.bin_indexes == (None, 0)


def test_data_that_an_engine_nests_is_read_as_if_it_had_not() -> None:
    nested = v2({"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [[0.9, 0.1], [0.2, 0.8]]})

    assert predictions_in("v2", nested) == [[0.9, 0.1], [0.2, 0.8]]
    assert predictions_in("v2", TOO_DEEP) is None


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [520_000, *[1] * 31], "data": [0] * 520_000},
        {"shape": [1, *[1] * 31], "data": [[[[0]]]] * 100_000},
        {"shape": [10_000, 2, 1, 1], "data": [[[[0]], [[0]]]] * 10_000},
    ],
    ids=["short rows of many dimensions", "nested", "nested as its shape says"],
)
def test_what_a_megabyte_can_be_made_of_takes_no_more_than_a_little_of_memory(tensor: dict[str, Any]) -> None:
    """And each of its rows is none that counts, as of a worker's array of three dimensions."""
    body = v2({"name": "p", "datatype": "FP64", **tensor})
    tracemalloc.start()
    try:
        read = count_answers("v2", [body], [1], (ScoreSpec(bins=1),))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    [[counts]] = read.counts
    assert isinstance(counts, ScoreCounts)
    assert counts.non_numeric == len(tensor["data"])
    assert most < 64 << 20


def test_data_nested_deeper_than_its_shape_is_no_answer() -> None:
    nested = v2({"name": "p", "shape": [1], "datatype": "FP64", "data": [[[0.5]]]})

    assert predictions_in("v2", nested) is None


def test_mlflows_literals_and_an_llms_answer_are_read() -> None:
    assert predictions_in("mlflow", b'{"predictions": [Infinity, 0.5]}') == [float("inf"), 0.5]
    assert predictions_in("mlflow", b'{"choices": [1]}') == {"choices": [1]}
    assert predictions_in("mlflow", b"[0.5]") is None
