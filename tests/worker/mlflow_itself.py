"""What MLflow's own `invocations` hands to a version, and whether ours is the same."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from mlflow.types import ParamSchema, Schema

NOTHING = object()


class Version:
    """A version that keeps what it is given."""

    def __init__(self) -> None:
        self.data: Any = NOTHING
        self.params: Any = NOTHING

    def predict(self, data: Any, params: Any = None) -> Any:
        self.data, self.params = data, params
        return [0]


def version_with(schema: Schema | None, params: ParamSchema | None = None) -> tuple[PyFuncModel, Version]:
    """A version with this signature, and what it will have been given."""
    version = Version()
    signature = None if schema is None and params is None else ModelSignature(inputs=schema, params=params)
    metadata = Model(signature=signature)
    metadata.add_flavor("python_function", loader_module="tests.worker.mlflow_itself")
    return PyFuncModel(metadata, version), version


def given(
    model: PyFuncModel, version: Version, body: bytes, content_type: str = "application/json"
) -> tuple[Any, Any]:
    """Data and params that MLflow hands to the version for a request; NOTHING where it refuses."""
    version.data = version.params = NOTHING
    logging.disable(logging.WARNING)
    try:
        invocations(body, content_type, model, model.metadata.get_input_schema())
    except Exception:
        return NOTHING, NOTHING
    finally:
        logging.disable(logging.NOTSET)
    return version.data, version.params


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal in type, columns, dtypes, labels, layout in memory, and in every bit of the values."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, pd.DataFrame):
        _assert_same_table(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape, ours.flags.c_contiguous, ours.flags.writeable) == (
            theirs.dtype,
            theirs.shape,
            theirs.flags.c_contiguous,
            theirs.flags.writeable,
        )
        assert ours.tobytes() == theirs.tobytes()
    else:
        assert repr(ours) == repr(theirs)


def assert_same_rows(table: pd.DataFrame, start: int, theirs: pd.DataFrame) -> None:
    """Rows of a table, from `start` on, are those of another: columns, dtypes, every bit of the values."""
    piece = table.iloc[start : start + len(theirs)]
    _assert_same_labels(piece.columns, theirs.columns)
    _assert_same_labels(piece.index - start, theirs.index)
    assert type(table.index) is type(theirs.index)
    assert piece.attrs == theirs.attrs == {}
    assert piece.dtypes.tolist() == theirs.dtypes.tolist()
    for place, dtype in enumerate(theirs.dtypes):
        mine, its = piece.iloc[:, place].to_numpy(), theirs.iloc[:, place].to_numpy()
        if dtype.kind == "O":
            assert [(type(cell), cell if cell == cell else None) for cell in mine] == [
                (type(cell), cell if cell == cell else None) for cell in its
            ]
        else:
            assert mine.tobytes() == its.tobytes()


def _assert_same_labels(mine: pd.Index, its: pd.Index) -> None:
    assert type(mine) is type(its)
    assert mine.dtype == its.dtype
    assert mine.tolist() == its.tolist()
    assert mine.name == its.name


def _assert_same_table(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    _assert_same_labels(ours.columns, theirs.columns)
    _assert_same_labels(ours.index, theirs.index)
    assert ours.attrs == theirs.attrs == {}
    assert ours.flags.allows_duplicate_labels == theirs.flags.allows_duplicate_labels
    mine_blocks, its_blocks = _blocks(ours), _blocks(theirs)
    assert mine_blocks.keys() == its_blocks.keys()
    for places, values in its_blocks.items():
        mine = mine_blocks[places]
        assert type(mine) is type(values)
        assert mine.dtype == values.dtype
        if isinstance(values, np.ndarray):
            assert mine.flags.writeable == values.flags.writeable
            assert mine.flags.c_contiguous == values.flags.c_contiguous
            if values.dtype == object:  # texts before pandas 3: the bytes would be those of pointers
                assert mine.shape == values.shape
                assert [(type(cell), repr(cell)) for cell in mine.flat] == [
                    (type(cell), repr(cell)) for cell in values.flat
                ]
            else:
                assert mine.tobytes() == values.tobytes()
        else:
            assert repr(mine.tolist()) == repr(values.tolist())
            assert mine._pa_array.type == values._pa_array.type


def _blocks(table: pd.DataFrame) -> dict[tuple[int, ...], Any]:
    return {tuple(block.mgr_locs.as_array.tolist()): block.values for block in table._mgr.blocks}
