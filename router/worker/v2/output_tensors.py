"""From what a version predicts to tensors with names. What is neither number nor boolean becomes text."""

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from router.protocol.tensors import TensorInfo
from router.worker.v2.tensors import BYTES, DTYPES, datatype_of

PREDICT = "predict"
"""Name of what a version answers when neither it nor its signature names it."""
_JSON_TEXT = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One tensor of an answer, without its name."""

    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | list[Any]
    """Flat and row-major. NaN and infinities become null when they are written."""
    content_type: str = ""

    def info(self, name: str) -> TensorInfo:
        """Its description in the version's metadata: the first dimension is as the request's."""
        return TensorInfo(name, self.datatype, (-1, *self.shape[1:]), self.content_type)


def outputs_of(predictions: Any, named: Sequence[TensorInfo]) -> dict[str, OutputTensor]:
    """The tensors of an answer by name. Raises TypeError or ValueError on what has no JSON.

    `named` are the outputs that the version's metadata names. An answer with names of its own keeps them,
    unless they are as many as `named` and others: then they are called as the metadata calls them.
    """
    columns = _columns(predictions, named)
    names = [tensor.name for tensor in named]
    if columns is None:
        name = names[0] if len(names) == 1 else PREDICT
        return {name: output_tensor(predictions, named[0].datatype if len(named) == 1 else "")}
    if len(columns) == len(names) and set(columns) != set(names):
        columns = dict(zip(names, columns.values(), strict=True))
    datatypes = {tensor.name: tensor.datatype for tensor in named}
    return {name: output_tensor(column, datatypes.get(name, "")) for name, column in columns.items()}


def output_tensor(values: Any, empty: str = "") -> OutputTensor:
    """The tensor of `values`; `empty` is the datatype of one without elements.

    Raises TypeError or ValueError on what has no JSON.
    """
    if isinstance(values, pd.Series | pd.Index):
        values = _plain(values)
    elif hasattr(values, "toarray"):
        values = values.toarray()
    elif not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        array = values if values.ndim else values.reshape(-1)
        if array.dtype.kind in "biuf":
            return _of_numbers(array)
        if array.dtype.kind == "M":
            return _of_times(array)
        return _of_objects(array.reshape(-1).tolist(), array.shape, empty)
    if isinstance(values, list | tuple):
        return _of_objects(values, (len(values),), empty)
    return _of_objects([values], (1,), empty)


def _columns(predictions: Any, named: Sequence[TensorInfo]) -> dict[str, Any] | None:
    """An answer that has several parts, by name; None for one that is a single tensor."""
    if isinstance(predictions, pd.DataFrame):
        return {str(label): predictions.iloc[:, index] for index, label in enumerate(predictions.columns)}
    if isinstance(predictions, Mapping) and predictions:
        return {str(name): values for name, values in predictions.items()}
    if (
        isinstance(predictions, np.ndarray)
        and predictions.ndim == 2
        and 1 < len(named) == predictions.shape[1]
    ):
        return {tensor.name: predictions[:, index] for index, tensor in enumerate(named)}
    if isinstance(predictions, tuple) and 1 < len(named) == len(predictions):
        return {tensor.name: part for tensor, part in zip(named, predictions, strict=True)}
    if isinstance(predictions, list) and predictions and isinstance(predictions[0], Mapping):
        keys = predictions[0].keys()
        if keys and all(isinstance(row, Mapping) and row.keys() == keys for row in predictions):
            return {str(key): [row[key] for row in predictions] for key in keys}
    return None


def _plain(column: "pd.Series[Any] | pd.Index[Any]") -> npt.NDArray[Any]:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return column.to_numpy()
    numeric = getattr(dtype, "numpy_dtype", None)
    if isinstance(numeric, np.dtype) and numeric.kind in "biuf" and not column.hasnans:
        return column.to_numpy(dtype=numeric)
    return column.to_numpy(dtype=object)


def _of_numbers(array: npt.NDArray[Any]) -> OutputTensor:
    datatype = datatype_of(array.dtype)
    if datatype == BYTES:  # a float longer than any datatype
        datatype = "FP64"
    # orjson writes these in C, the floats as short as they read back alike.
    flat = np.ascontiguousarray(array.reshape(-1), dtype=DTYPES[datatype])
    return OutputTensor(datatype, array.shape, flat)


def _of_times(array: npt.NDArray[Any]) -> OutputTensor:
    texts = np.datetime_as_string(array.reshape(-1)).tolist()
    return OutputTensor(BYTES, array.shape, [None if text == "NaT" else text for text in texts], "datetime")


def _of_objects(items: Iterable[Any], shape: tuple[int, ...], empty: str) -> OutputTensor:
    flat = [None if _is_nothing(item) else item for item in items]
    types = {type(item) for item in flat if item is not None}
    if not types:
        return OutputTensor(empty or "FP64", shape, flat)
    known = next((kind for kind in _KINDS if all(map(kind.takes, types))), None)
    if known is not None and known.datatype == "FP64":
        # As an array: a float of numpy's own kind, or an infinity, has no JSON by itself.
        return _of_numbers(
            np.array([np.nan if item is None else item for item in flat], float).reshape(shape)
        )
    if known is not None and known.datatype == "INT64":
        known = _whole(flat)
    if known is None and len(shape) == 1 and (stacked := _stacked(flat)) is not None:
        return output_tensor(stacked)
    known = known or _TEXT_OF_JSON
    data = [None if item is None else known.write(item) for item in flat]
    return OutputTensor(known.datatype, shape, data, known.content_type)


def _whole(flat: list[Any]) -> "_Kind":
    numbers = [int(item) for item in flat if item is not None]
    low, high = min(numbers), max(numbers)
    if low >= -(2**63) and high < 2**63:
        return _INT64
    return _UINT64 if low >= 0 and high < 2**64 else _TEXT_OF_JSON


def _stacked(rows: list[Any]) -> npt.NDArray[Any] | None:
    """Rows of one shape as one array of numbers or texts; None when they are not."""
    if not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        return None
    try:
        array = np.array(rows)
    except ValueError:  # ragged
        return None
    if array.dtype.kind in "biuf":
        return array
    # numpy makes texts of numbers among texts.
    texts = array.ndim == 2 and all(isinstance(item, str) for row in rows for item in row)
    return array.astype(object) if texts else None


def _is_nothing(item: Any) -> bool:
    if item is None or item is pd.NA or item is pd.NaT:
        return True
    return isinstance(item, float | np.floating | np.datetime64) and bool(item != item)


def _iso(item: Any) -> str:
    return str(item) if isinstance(item, np.datetime64) else str(item.isoformat())


def _base64(item: bytes | bytearray) -> str:
    return base64.b64encode(item).decode()


def _text_of_json(item: Any) -> str:
    if isinstance(item, str):
        return item
    try:
        return orjson.dumps(item, _jsonable, _JSON_TEXT).decode()
    except orjson.JSONEncodeError:  # integers beyond 64 bits and lone surrogates are for Python's own
        return json.dumps(item, default=_jsonable, allow_nan=False)


def _jsonable(item: Any) -> Any:
    if isinstance(item, bytes | bytearray):
        return _base64(item)
    if isinstance(item, dt.timedelta):
        return str(item)
    if isinstance(item, np.ndarray | np.generic | pd.Series):
        return item.tolist()
    if isinstance(item, pd.DataFrame):
        return item.to_dict(orient="records")
    if callable(dump := getattr(item, "model_dump", None)):  # pydantic, which MLflow takes as a type hint
        return dump()
    raise TypeError(f"a {type(item).__name__} has no JSON")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Objects of some types, and how one is written."""

    datatype: str
    types: tuple[type, ...]
    write: Callable[[Any], Any]
    content_type: str = ""

    def takes(self, kind: type) -> bool:
        return issubclass(kind, self.types) and (kind is not bool or self.datatype == "BOOL")


_INT64 = _Kind("INT64", (int, np.integer), int)
_UINT64 = _Kind("UINT64", (), int)
_TEXT_OF_JSON = _Kind(BYTES, (), _text_of_json, "json")
_KINDS = (
    _Kind("BOOL", (bool, np.bool_), bool),
    _INT64,
    _Kind("FP64", (int, float, np.integer, np.floating), float),
    _Kind(BYTES, (str,), str),
    _Kind(BYTES, (bytes, bytearray), _base64, "base64"),
    _Kind(BYTES, (dt.date, np.datetime64), _iso, "datetime"),
)
