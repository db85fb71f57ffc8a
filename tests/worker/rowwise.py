"""Saved versions with every kind of signature, whose answers show all they see of each row."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.types import ParamSchema, Schema

WAYS = ("echo", "seen", "scored", "table", "series", "raises", "refuses", "unwritable")
"""What a version answers with; each row by itself."""
WIDTH = 24
_WEIGHTS = np.random.default_rng(7).random(WIDTH)


class Rowwise(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers in the way that `way` says; `failed` after it raised an error not of MLflow's."""

    def __init__(self) -> None:
        self.way = "echo"
        self.failed = False

    def predict(self, context, model_input, params=None):
        self.failed = False
        try:
            return self._answer(model_input, params)
        except MlflowException:
            raise
        except Exception:
            self.failed = True
            raise

    def _answer(self, model_input: Any, params: Any) -> Any:
        if self.way == "echo":
            return model_input
        rows = list(_rows(model_input))
        reported = [repr((row, params)) for row in rows]
        odd = [zlib.crc32(text.encode("utf-8", "replace")) % 16 == 0 for text in reported]
        if any(odd):
            if self.way == "raises":
                raise ValueError("a row that it can not stand")
            if self.way == "refuses":
                raise MlflowException("a row that it does not know", RESOURCE_DOES_NOT_EXIST)
            if self.way == "unwritable":
                return [object() if one else text for one, text in zip(odd, reported, strict=True)]
        # A product of matrices: its last bits differ with the number of rows.
        scores = np.array([_numbers(row) for row in rows]).reshape(-1, WIDTH) @ _WEIGHTS
        if self.way == "scored":
            return scores
        if self.way == "series":
            return pd.Series(scores)
        if self.way == "table":
            lengths = np.array([len(text) for text in reported], np.int64)
            return pd.DataFrame(
                {"seen": pd.Series(reported, dtype=object), "score": scores, "length": lengths}
            )
        return reported


def _rows(data: Any) -> Iterator[Any]:
    if isinstance(data, pd.DataFrame):
        kinds = [*map(str, data.dtypes)]
        for row in data.itertuples(index=False, name=None):
            yield (*data.columns, *kinds, *row)
    elif isinstance(data, dict):
        parts = {name: list(_rows(part)) for name, part in data.items()}
        for number in range(min(map(len, parts.values()), default=0)):
            yield {name: part[number] for name, part in parts.items()}
    elif isinstance(data, np.ndarray) and data.ndim:
        for part in data:
            yield (str(data.dtype), np.asarray(part).tolist())
    else:
        yield from data if isinstance(data, list) else [data]


def _numbers(row: Any) -> list[float]:
    """No signs, for sums of both cancel, and then no digit is the same."""
    cells = row[1] if isinstance(row, tuple) and len(row) == 2 and isinstance(row[1], list) else row
    found = np.asarray(cells if isinstance(cells, (list, tuple)) else [repr(cells)], dtype=object).ravel()
    numbers = [abs(float(cell)) if isinstance(cell, (int, float)) else len(repr(cell)) for cell in found]
    return [*numbers[:WIDTH], *[1.0] * (WIDTH - len(numbers))]


def save_each(directory: Path, schemas: dict[str, Schema | None], params: dict[str, ParamSchema]) -> None:
    """A version per signature, below `directory` by its name. Saved once, and then signed anew."""
    for name, schema in schemas.items():
        path = directory / name
        mlflow.pyfunc.save_model(path, python_model=Rowwise(), pip_requirements=["mlflow"])
        if schema is None and name not in params:
            continue
        metadata = Model.load(path)
        metadata.signature = ModelSignature(inputs=schema, params=params.get(name))
        metadata.save(path / "MLmodel")
