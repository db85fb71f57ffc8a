"""Answers beside those of MLflow's own encoder, and batches cut into those of their requests."""

import datetime
import enum
import json
import math
import uuid
from collections import OrderedDict
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mlflow.pyfunc.scoring_server import predictions_to_json

from router.worker.encoder import encode, encode_each, encode_unwrapped, split
from tests.support.examples import examples

QUICK = settings(
    max_examples=examples(150), deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
DTYPES = ["f8", "f4", "f2", "i8", "i4", "i1", "u1", "u8", "?", "U3", "O", "M8[ns]", "c16", "S2"]


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["null", "\ud800", "\x00", "é"]),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.integers(0, 9).map(np.int64),
    st.booleans().map(np.bool_),
    st.text("ab", max_size=3).map(np.str_),
)
odd = st.sampled_from(
    [
        b"bytes",
        object(),
        {1, 2},
        3j,
        np.longdouble(1.5),
        np.complex128(1j),
        np.datetime64("2026-01-02"),
        pd.Timestamp("2026-01-02"),
        pd.NaT,
        pd.NA,
        datetime.date(2026, 1, 2),
        uuid.UUID(int=1),
        Colour.RED,
        Number.ONE,
        OrderedDict(a=1),
        {1: 2},
        {"a": {None: 1}},
        pd.Series([1]),
        pd.DataFrame({"a": [1]}),
        np.array(1.5),
        np.array([b"x"]),
        np.array([object()], dtype=object),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        (1, 2.5),
    ]
)
nested = st.recursive(
    cells | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
columns = st.one_of(
    st.lists(st.floats(), min_size=3, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.text(max_size=3) | st.none(), min_size=3, max_size=3),
    st.lists(cells, min_size=3, max_size=3),
    st.lists(odd, min_size=3, max_size=3),
    st.lists(st.floats(width=32), min_size=3, max_size=3).map(lambda values: np.array(values, "f4")),
    st.just(pd.array([1, None, 3], dtype="Int64")),
    st.just(pd.array(["a", None, "b"], dtype="string")),
    st.just(pd.Categorical(["a", "b", "a"])),
    st.just(pd.to_datetime(["2026-01-02", None, "2026-01-03"])),
)
names = st.one_of(st.text(max_size=3), st.integers(0, 3), st.none(), st.floats(0, 1), st.booleans())
tables = st.dictionaries(names, columns, max_size=4).map(
    lambda found: pd.DataFrame({name: as_series(values) for name, values in found.items()})
)
series = st.builds(lambda values, name: as_series(values).rename(name), columns, names)
matrices = st.sampled_from(DTYPES).flatmap(
    lambda dtype: (
        arrays.arrays(np.dtype(dtype), arrays.array_shapes(min_dims=0, max_dims=3, max_side=3))
        if dtype != "O"
        else st.lists(cells | odd, max_size=3).map(as_objects)
    )
)
answers = st.one_of(nested, st.lists(cells, max_size=5), tables, series, matrices)


def as_series(values: Any) -> "pd.Series[Any]":
    try:
        return pd.Series(values)
    except UnicodeEncodeError:  # texts that Arrow cannot hold
        return pd.Series(values, dtype=object)


def as_objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def by_mlflow(predictions: Any) -> str:
    result = StringIO()
    predictions_to_json(predictions, result)
    return result.getvalue()


def outcome(write: Any, predictions: Any) -> tuple[Any, tuple[type, str] | None]:
    """What was written, or what was raised."""
    try:
        return write(predictions), None
    except Exception as error:
        return None, (type(error), str(error))


def assert_equal(ours: Any, theirs: Any) -> None:
    """Equal with types and order; NaN is NaN, and zeros have their signs."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_equal(ours[key], value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            assert_equal(mine, its)
    elif isinstance(theirs, float):
        assert (math.isnan(ours) and math.isnan(theirs)) or repr(ours) == repr(theirs)
    else:
        assert ours == theirs


@QUICK
@given(answers)
@pytest.mark.filterwarnings("ignore")
def test_an_answer_reads_as_the_one_of_mlflow(predictions: Any) -> None:
    """Or raises what MLflow's encoder raises."""
    theirs, failure = outcome(by_mlflow, predictions)
    ours, raised = outcome(encode, predictions)

    assert raised == failure
    if failure is None:
        assert_equal(json.loads(ours), json.loads(theirs))


def without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@QUICK
@given(answers)
@pytest.mark.filterwarnings("ignore")
def test_where_nan_is_null_every_answer_is_json_and_else_the_one_of_mlflow(predictions: Any) -> None:
    """Whole, in parts, and unwrapped. What MLflow refuses to write is refused."""
    theirs, failure = outcome(by_mlflow, predictions)
    ours, raised = outcome(lambda found: encode(found, nan_is_null=True), predictions)

    assert raised == failure
    if failure is not None:
        return
    expected = without_nan(json.loads(theirs))
    assert_equal(json.loads(ours, parse_constant=no_constant), expected)
    bare = encode_unwrapped(predictions, nan_is_null=True)
    assert_equal(json.loads(bare, parse_constant=no_constant), expected["predictions"])
    rows = (
        0 if getattr(predictions, "ndim", 1) == 0 or not hasattr(predictions, "__len__") else len(predictions)
    )
    for part in encode_each(predictions, [1] * rows, nan_is_null=True) or []:
        json.loads(part, parse_constant=no_constant)


def test_words_that_look_like_nan_stay_as_they_are() -> None:
    words = ["NaN", "-Infinity", float("-inf"), 2**70, "null"]
    assert json.loads(encode(words, nan_is_null=True)) == {"predictions": [*words[:2], None, *words[3:]]}


def test_an_answer_that_holds_itself_is_refused_as_by_mlflow() -> None:
    """And does not end the worker."""
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="Circular reference"):
        encode(endless)


@QUICK
@given(
    answers.filter(lambda found: isinstance(found, (list, np.ndarray, pd.DataFrame, pd.Series))), st.data()
)
@pytest.mark.filterwarnings("ignore")
def test_the_parts_of_a_batch_read_as_the_whole(predictions: Any, data: Any) -> None:
    """One after the other, whether cut first or written at once."""
    rows = 0 if getattr(predictions, "ndim", 1) == 0 else len(predictions)
    first = data.draw(st.integers(0, rows))
    lengths = [first, rows - first]
    parts = split(predictions, lengths)
    if getattr(predictions, "ndim", 1) == 0 or isinstance(predictions, np.ma.MaskedArray):
        assert parts is None
        return
    assert parts is not None
    assert [len(part) for part in parts] == lengths
    try:
        expected = [json.loads(by_mlflow(part)) for part in parts]
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011 - any, as MLflow's
            encode_each(predictions, lengths)
        return
    for mine, its in zip(encode_each(predictions, lengths) or [], expected, strict=True):
        assert_equal(json.loads(mine), its)
    assert_equal(json.loads(encode(predictions, slice(0, first))), expected[0])


@pytest.mark.parametrize(
    "predictions", [3.5, None, "ab", {"a": [1, 2]}, np.array(1.5), {1, 2}, [1], (1, 2, 3)]
)
def test_what_cannot_be_cut_is_not_cut(predictions: Any) -> None:
    """No rows, or not as many as asked for."""
    assert split(predictions, [1, 1]) is None
    assert encode_each(predictions, [1, 1]) is None


def test_each_part_of_a_table_counts_its_rows_from_zero() -> None:
    """As if it had been predicted alone; labels of the version's own stay."""
    counted, labelled = (
        split(pd.Series([1, 2, 3]), [1, 2]),
        split(pd.Series([1, 2], index=["a", "b"]), [1, 1]),
    )

    assert counted is not None
    assert [part.index.tolist() for part in counted] == [[0], [0, 1]]
    assert labelled is not None
    assert [part.index.tolist() for part in labelled] == [["a"], ["b"]]


def test_a_table_whose_rows_are_in_an_order_of_their_own_is_not_cut() -> None:
    """A version that sorts what it answers would give one caller's answer to another."""
    table = pd.DataFrame({"score": [0.3, 0.1, 0.2]})
    assert split(table.sort_values("score"), [1, 2]) is None
    assert encode_each(table.sort_values("score"), [1, 2]) is None
    assert encode_each(table["score"].iloc[::-1], [1, 2]) is None
    assert split(table.iloc[1:], [1, 1]) is None
