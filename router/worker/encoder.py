"""Predictions as the bytes of an answer: fast where they are plain, else by MLflow's own code."""

import json
from collections.abc import Sequence
from io import StringIO
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
import pandas as pd
from mlflow.pyfunc.scoring_server import predictions_to_json, unwrapped_predictions_to_json

# What Python's encoder refuses or writes differently must not be taken by orjson's.
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_PRIMITIVE = frozenset((str, int, float, bool, type(None)))
_NUMPY = frozenset((np.bool_, np.str_, np.float16, np.float32, np.float64)) | {
    np.dtype(code).type for code in np.typecodes["AllInteger"]
}
_KEYS = frozenset((str,))
_LARGEST_ITEM = 8
_CUTS = (np.ndarray, list, tuple, pd.DataFrame, pd.Series)


class _NotPlain(Exception):
    """MLflow's own encoder is to write this."""


def rows_of(values: Any) -> int | None:
    """Rows of a table, a list, a tuple or an array.

    None for what has none: a text, a mapping, a single value, an array without dimensions.
    """
    if isinstance(values, np.ndarray):
        return len(values) if values.ndim else None
    return len(values) if isinstance(values, (list, tuple, pd.DataFrame, pd.Series)) else None


def encode(predictions: Any, rows: slice | None = None, *, nan_is_null: bool = False) -> bytes:
    """The answer that MLflow would give for `predictions`, or for these rows of what `split` can cut.

    Python's `json` reads it as equal to MLflow's, with the same types and order; `nan_is_null`: NaN and
    infinities are null, so that it is JSON to everybody. Raises what MLflow's encoder raises on predictions
    that cannot be written.
    """
    if rows is not None:
        predictions = _cut(predictions, rows)
    try:
        return _written(_plain(predictions), nan_is_null)
    except (_NotPlain, TypeError, RecursionError):  # orjson's TypeError: integers beyond 64 bits, surrogates
        return _by_mlflow(predictions, nan_is_null)


def encode_unwrapped(predictions: Any, *, nan_is_null: bool = False) -> bytes:
    """As `encode`, but without `predictions` around it: the answer to an LLM's request."""
    result = StringIO()
    unwrapped_predictions_to_json(predictions, result)
    return _strictly(result.getvalue(), nan_is_null)


def encode_each(predictions: Any, lengths: Sequence[int], *, nan_is_null: bool = False) -> list[bytes] | None:
    """The answers of a batch's requests, of so many rows each; None where `split` says None.

    Raises what `encode` raises, without saying for which request.
    """
    if not _can_split(predictions, lengths):
        return None
    try:
        native = _plain(predictions)
    except (_NotPlain, RecursionError):
        return [encode(predictions, rows, nan_is_null=nan_is_null) for rows in _slices(lengths)]
    answers = []
    for rows in _slices(lengths):
        try:
            answers.append(_written(native[rows], nan_is_null))
        except (_NotPlain, TypeError):
            answers.append(_by_mlflow(_cut(predictions, rows), nan_is_null))
    return answers


def split(predictions: Any, lengths: Sequence[int]) -> list[Any] | None:
    """A batch's predictions as those of each of its requests, of so many rows each.

    The rows of tables are numbered from zero in each part. None when predictions cannot be cut, are not as
    many as the rows, or are tables in another order than the rows, by their labels.
    """
    if not _can_split(predictions, lengths):
        return None
    parts = [_cut(predictions, rows) for rows in _slices(lengths)]
    if isinstance(predictions, (pd.DataFrame, pd.Series)):
        index = predictions.index
        if index.equals(pd.RangeIndex(len(index))):
            for part in parts:
                part.index = index[: len(part)]
    return parts


def _can_split(predictions: Any, lengths: Sequence[int]) -> bool:
    if type(predictions) not in _CUTS or rows_of(predictions) != sum(lengths):
        return False
    if isinstance(predictions, (pd.DataFrame, pd.Series)):
        # A version that sorts its answers shows it here, and one request's would go to another's caller.
        index = predictions.index
        if pd.api.types.is_integer_dtype(index) and not index.equals(pd.RangeIndex(len(index))):
            return False
    return True


def _slices(lengths: Sequence[int]) -> list[slice]:
    return [slice(start, end) for start, end in pairwise(accumulate(lengths, initial=0))]


def _cut(predictions: Any, rows: slice) -> Any:
    return predictions.iloc[rows] if isinstance(predictions, (pd.DataFrame, pd.Series)) else predictions[rows]


def _written(native: Any, nan_is_null: bool) -> bytes:
    body = orjson.dumps({"predictions": native}, option=_OPTIONS)
    # orjson writes NaN and infinities as null; what is null indeed, MLflow's encoder writes as well.
    if not nan_is_null and b"null" in body:
        raise _NotPlain
    return body


def _by_mlflow(predictions: Any, nan_is_null: bool) -> bytes:
    result = StringIO()
    predictions_to_json(predictions, result)
    return _strictly(result.getvalue(), nan_is_null)


def _strictly(text: str, nan_is_null: bool) -> bytes:
    if nan_is_null and ("NaN" in text or "Infinity" in text):
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), allow_nan=False)
    return text.encode()


def _plain(predictions: Any) -> Any:
    """`predictions` in types that orjson writes as Python does. Raises _NotPlain where there is a doubt."""
    kind = type(predictions)
    if kind is pd.DataFrame:
        return _records(predictions)
    if kind is pd.Series:
        name = "0" if predictions.name is None else predictions.name
        if type(name) is not str:
            raise _NotPlain
        return [{name: item} for item in _column(predictions)]
    return _native(predictions)


def _native(value: Any) -> Any:
    # Tables are not looked for here: MLflow's encoder refuses those that lie within something else.
    kind = type(value)
    if kind in _PRIMITIVE:
        return value
    if kind is np.ndarray:
        return _array(value)
    if kind is list or kind is tuple:
        return value if _PRIMITIVE.issuperset(map(type, value)) else [_native(item) for item in value]
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)):
            raise _NotPlain
        if _PRIMITIVE.issuperset(map(type, value.values())):
            return value
        return {key: _native(item) for key, item in value.items()}
    if kind in _NUMPY:
        return value.item()
    raise _NotPlain


def _array(array: Any) -> Any:
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "f" and array.dtype.itemsize > _LARGEST_ITEM):
        raise _NotPlain
    return array.tolist()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    names: list[Any] = table.columns.tolist()
    if isinstance(table.columns, pd.RangeIndex):
        names = [str(name) for name in names]
    if not names or set(map(type, names)) != {str} or len(set(names)) != len(names):
        raise _NotPlain
    columns = [_column(series) for _, series in table.items()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _column(series: "pd.Series[Any]") -> list[Any]:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind == "O":
            items: list[Any] = _native(series.tolist())
            return items
        if dtype.kind in "biuf" and dtype.itemsize <= _LARGEST_ITEM:
            return series.tolist()
    elif isinstance(dtype, pd.StringDtype) and dtype.na_value is not pd.NA:
        return series.tolist()
    raise _NotPlain
