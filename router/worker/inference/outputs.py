"""From what a version predicts to tensors with names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from router.protocol.messages import TensorInfo
from router.worker.inference.contract import PREDICT
from router.worker.inference.elements import Output, output


def outputs_of(predictions: Any, told: Sequence[TensorInfo]) -> dict[str, Output]:
    """The tensors of an answer by name. Raises TypeError or ValueError on what has no JSON.

    `told` are the outputs that the version's metadata names. An answer with names of its own keeps them,
    unless they are as many as `told` and others: then they are called as the metadata calls them.
    """
    columns = _columns(predictions, told)
    names = [tensor.name for tensor in told]
    if columns is None:
        name = names[0] if len(names) == 1 else PREDICT
        return {name: output(predictions, told[0].datatype if len(told) == 1 else "")}
    if len(columns) == len(names) and set(columns) != set(names):
        columns = dict(zip(names, columns.values(), strict=True))
    datatypes = {tensor.name: tensor.datatype for tensor in told}
    return {name: output(column, datatypes.get(name, "")) for name, column in columns.items()}


def _columns(predictions: Any, told: Sequence[TensorInfo]) -> dict[str, Any] | None:
    """An answer that has several parts, by name; None for one that is a single tensor."""
    if isinstance(predictions, pd.DataFrame):
        return {str(label): predictions.iloc[:, index] for index, label in enumerate(predictions.columns)}
    if isinstance(predictions, Mapping) and predictions:
        return {str(name): values for name, values in predictions.items()}
    if (
        isinstance(predictions, np.ndarray)
        and predictions.ndim == 2
        and 1 < len(told) == predictions.shape[1]
    ):
        return {tensor.name: predictions[:, index] for index, tensor in enumerate(told)}
    if isinstance(predictions, tuple) and 1 < len(told) == len(predictions):
        return {tensor.name: part for tensor, part in zip(told, predictions, strict=True)}
    if isinstance(predictions, list) and predictions and isinstance(predictions[0], Mapping):
        keys = predictions[0].keys()
        if keys and all(isinstance(row, Mapping) and row.keys() == keys for row in predictions):
            return {str(key): [row[key] for row in predictions] for key in keys}
    return None
