"""Which numbers of an answer are its scores. Never raises: what is not a number is counted as such."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from router.core.bins import ScoreCounts, ScoreSpec
from router.core.counting import count_scores
from router.core.work import LoadSpec

_LARGEST = 1e290  # of scores beyond it, a few would add up to more than a float holds
Floats = npt.NDArray[np.float64]


def scores_of(predictions: Any, output: int | str) -> tuple[Floats, int]:
    """The numeric scores, shape (n,), and how many scores were not numbers.

    `output` picks the column of a table, of a list of rows or of a mapping of columns, by position or by
    name. A one-dimensional answer is its own column; a single value is one score. None is not a number.
    """
    try:
        return _numbers(_column(predictions, output))
    except Exception:  # noqa: BLE001 - a version may answer anything at all; its answer still goes out
        return np.empty(0), _length(predictions)


def count(predictions: Any, spec: ScoreSpec) -> ScoreCounts:
    """Counts of one answer's scores."""
    values, non_numeric = scores_of(predictions, spec.output)
    finite = np.isfinite(values)
    values[finite] = np.clip(values[finite], -_LARGEST, _LARGEST)
    return count_scores(values, spec, non_numeric=non_numeric)


def choose_scores(spec: LoadSpec, warm_up_predictions: Any) -> tuple[ScoreSpec | None, str]:
    """What to count, and a sentence for the operator when the answer is nothing.

    A configured choice stands. Else it is 20 bins on [0, 1], unless the warm-up shows that they do not fit;
    `warm_up_predictions` is None when there was no warm-up.
    """
    default = ScoreSpec()
    if spec.scores is not None or warm_up_predictions is None:
        return spec.scores or default, ""
    values, non_numeric = scores_of(warm_up_predictions, default.output)
    finite = values[np.isfinite(values)]
    key = f"`models.{spec.version.model}.scores`"
    if non_numeric and not finite.size:
        return None, f"No scores are counted: its answers are not numbers; {key} can name a column that is."
    if np.any((finite < default.low) | (finite > default.high)):
        return None, f"No scores are counted: its answers lie outside [0, 1]; {key} sets another range."
    return default, ""


def _column(answer: Any, output: int | str) -> Any:
    if isinstance(answer, pd.DataFrame):
        if isinstance(output, str) or output in answer.columns:
            return answer[output]
        return answer.iloc[:, output]
    if isinstance(answer, np.ndarray) and answer.ndim >= 2:
        if answer.ndim > 2:
            raise TypeError("an array of more dimensions has no columns")
        return answer[:, _position(output)]
    if isinstance(answer, Mapping):
        return _cell(answer, output)
    if (
        isinstance(answer, (list, tuple))
        and answer
        and isinstance(answer[0], (list, tuple, Mapping, np.ndarray))
    ):
        return [_cell(row, output) for row in answer]
    return answer


def _cell(row: Any, output: int | str) -> Any:
    if isinstance(row, Mapping):
        return row[output] if isinstance(output, str) else list(row.values())[output]
    return row[_position(output)]


def _position(output: int | str) -> int:
    if isinstance(output, str):
        raise TypeError("columns without names cannot be picked by one")
    return output


def _numbers(column: Any) -> tuple[Floats, int]:
    if isinstance(column, pd.Series):
        column = column.to_numpy(dtype=object) if column.dtype.kind not in "biuf" else _floats(column)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return np.atleast_1d(column).ravel().astype(np.float64), 0
    if np.isscalar(column) or column is None:
        column = [column]
    values = [_number(value) for value in column]
    numbers = [value for value in values if value is not None]
    return np.asarray(numbers, dtype=np.float64), len(values) - len(numbers)


def _floats(column: "pd.Series[Any]") -> Any:
    # A nullable column has pd.NA where a plain one has NaN; both are an answer that is not a score.
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(value)
        except OverflowError:  # an integer beyond any float
            return math.inf if value > 0 else -math.inf
    return None


def _length(predictions: Any) -> int:
    return len(predictions) if isinstance(predictions, (Sequence, np.ndarray, pd.DataFrame, pd.Series)) else 1
