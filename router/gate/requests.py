"""Rows of a table as the bodies of requests, as a caller would send them."""

import base64
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd

from router.gate.errors import DataRefused

CONTENT_TYPE = "application/json"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def bodies_of(table: pd.DataFrame, rows_each: int) -> Iterator[bytes]:
    """Bodies in the format `dataframe_split`, of `rows_each` rows each, the last one maybe of fewer.

    What JSON has no form of is written as MLflow reads it: missing values, NaN and infinities as null, times
    in ISO 8601, bytes in base64. Raises DataRefused for a column of anything else.
    """
    names = [str(name) for name in table.columns]
    head = b'{"dataframe_split":{"columns":' + orjson.dumps(names) + b',"data":'
    columns = [_plain(table.iloc[:, place]) for place in range(len(names))]
    rows = list(zip(*columns, strict=True)) if columns else [()] * len(table)
    for start in range(0, len(rows), rows_each):
        try:
            yield head + orjson.dumps(rows[start : start + rows_each], _json, _OPTIONS) + b"}}"
        except TypeError as error:
            raise DataRefused(f"row {start + 1} of the data can not be sent as JSON: {error}") from error


def _plain(column: "pd.Series[Any]") -> list[Any]:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        values: list[Any] = column.tolist()
        return values
    return [None if value is pd.NaT or value is pd.NA else value for value in column.tolist()]


def _json(value: Any) -> Any:
    if isinstance(value, date):  # and with it datetime, and pandas' Timestamp
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, np.ndarray):  # of texts or lists, which orjson does not write itself
        return value.tolist()
    raise TypeError(f"there is no JSON for {type(value).__name__}")
