"""The columns of an answer, of whatever type a version answers with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from router.core.histogram import Floats

Mask = npt.NDArray[np.bool_]
_NESTED = (list, tuple, Mapping, np.ndarray)
_PLAIN = frozenset((float, int, bool))


def column_of(answer: Any, output: int | str) -> Any:
    """The column of a table, of a list of rows or of a mapping of columns, by position or by name.

    A one-dimensional answer is its own column, a single value too. A row without the column has None there.
    Raises whatever an answer without such a column raises.
    """
    if isinstance(answer, pd.DataFrame):
        if not isinstance(output, str) and output not in answer.columns:
            return answer.iloc[:, output]
        found = answer[output]
        return (
            found.iloc[:, 0] if isinstance(found, pd.DataFrame) else found
        )  # of two with one name, the first
    if isinstance(answer, np.ndarray):
        if answer.ndim > 2:
            raise TypeError("an array of more dimensions has no columns")
        if answer.ndim == 2:
            return answer[:, _position(output)]
        return column_of(answer.tolist(), output) if answer.ndim and answer.dtype.kind == "O" else answer
    if isinstance(answer, Mapping):
        return _cell(answer, output)
    if isinstance(answer, (list, tuple)) and any(map(_is_nested, set(map(type, answer)))):
        return [_cell_or_none(row, output) if isinstance(row, _NESTED) else row for row in answer]
    return answer


def columns_in(answer: Any) -> int | None:
    """How many columns an answer has, by its first row; None for what has none, such as a deeper array."""
    if isinstance(answer, pd.DataFrame):
        return len(answer.columns)
    if isinstance(answer, np.ndarray) and answer.ndim >= 2:
        return answer.shape[1] if answer.ndim == 2 else None
    if isinstance(answer, Mapping):
        return len(answer)
    first = (
        answer[0]
        if isinstance(answer, (list, tuple, np.ndarray)) and np.ndim(answer) and len(answer)
        else None
    )
    return len(first) if isinstance(first, _NESTED) else 1


def numbers_of(column: Any) -> tuple[Floats, Mask | None]:
    """Its numbers, shape (n,), and which of the n are none and stand there as NaN; None: all are numbers.

    The first may be the version's own data: not to be changed.
    """
    if isinstance(column, pd.Series):
        # A nullable column has pd.NA where a plain one has NaN; both are an answer that is not a score.
        numeric = column.dtype.kind in "biuf"
        column = column.to_numpy(np.float64, na_value=np.nan) if numeric else column.to_numpy(object)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return np.atleast_1d(column).ravel().astype(np.float64, copy=False), None
    items = labels_of(column)
    if _PLAIN.issuperset(map(type, items)):
        try:
            return np.asarray(items, dtype=np.float64), None
        except OverflowError:  # an integer beyond any float
            pass
    values = [_number(item) for item in items]
    odd = np.asarray([value is None for value in values], dtype=bool)
    floats = np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)
    return floats, odd if odd.any() else None


def labels_of(column: Any) -> list[Any]:
    """Its values one by one."""
    if isinstance(column, (np.ndarray, pd.Series)):
        values = column.tolist()
        return values if isinstance(values, list) else [values]
    return [column] if np.isscalar(column) or column is None else list(column)


def length_of(answer: Any) -> int:
    """How many rows an answer has."""
    return len(answer) if isinstance(answer, (Sequence, np.ndarray, pd.DataFrame, pd.Series)) else 1


def _is_nested(kind: type) -> bool:
    return issubclass(kind, _NESTED)


def _cell_or_none(row: Any, output: int | str) -> Any:
    try:
        return _cell(row, output)
    except (LookupError, TypeError):
        return None


def _cell(row: Any, output: int | str) -> Any:
    if isinstance(row, Mapping):
        return row[output] if isinstance(output, str) else list(row.values())[output]
    return row[_position(output)]


def _position(output: int | str) -> int:
    if isinstance(output, str):
        raise TypeError("columns without names cannot be picked by one")
    return output


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(value)
        except OverflowError:  # an integer beyond any float
            return math.inf if value > 0 else -math.inf
    return None
