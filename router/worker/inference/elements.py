"""One tensor of an answer: from arrays, columns, lists and single values. What is no number becomes text."""

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from router.protocol.messages import TensorInfo
from router.worker.inference.contract import datatype_of
from router.worker.inference.tensors import BYTES, DTYPES

_JSON_TEXT = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor of an answer, without its name."""

    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | list[Any]
    """Flat and row-major. NaN and infinities become null when they are written."""
    content_type: str = ""

    def info(self, name: str) -> TensorInfo:
        """What it tells of all answers: the first dimension is as the request's."""
        return TensorInfo(name, self.datatype, (-1, *self.shape[1:]), self.content_type)


def output(values: Any, empty: str = "") -> Output:
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


def _plain(column: "pd.Series[Any] | pd.Index[Any]") -> npt.NDArray[Any]:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return column.to_numpy()
    numeric = getattr(dtype, "numpy_dtype", None)
    if isinstance(numeric, np.dtype) and numeric.kind in "biuf" and not column.hasnans:
        return column.to_numpy(dtype=numeric)
    return column.to_numpy(dtype=object)


def _of_numbers(array: npt.NDArray[Any]) -> Output:
    datatype = datatype_of(array.dtype)
    if datatype == BYTES:  # a float longer than any datatype
        datatype = "FP64"
    # orjson writes these in C, the floats as short as they read back alike.
    flat = np.ascontiguousarray(array.reshape(-1), dtype=DTYPES[datatype])
    return Output(datatype, array.shape, flat)


def _of_times(array: npt.NDArray[Any]) -> Output:
    texts = np.datetime_as_string(array.reshape(-1)).tolist()
    return Output(BYTES, array.shape, [None if text == "NaT" else text for text in texts], "datetime")


def _of_objects(items: Iterable[Any], shape: tuple[int, ...], empty: str) -> Output:
    flat = [None if _is_nothing(item) else item for item in items]
    types = {type(item) for item in flat if item is not None}
    if not types:
        return Output(empty or "FP64", shape, flat)
    known = next((kind for kind in _KINDS if all(map(kind.takes, types))), None)
    if known is not None and known.datatype == "FP64":
        # As an array: a float of numpy's own kind, or an infinity, has no JSON by itself.
        return _of_numbers(
            np.array([np.nan if item is None else item for item in flat], float).reshape(shape)
        )
    if known is not None and known.datatype == "INT64":
        known = _whole(flat)
    if known is None and len(shape) == 1 and (stacked := _stacked(flat)) is not None:
        return output(stacked)
    known = known or _TEXT_OF_JSON
    data = [None if item is None else known.write(item) for item in flat]
    return Output(known.datatype, shape, data, known.content_type)


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
