"""Requests to versions that take numpy arrays: by a signature of tensors, or inferred where there is none."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from mlflow.types import Schema, TensorSpec

from router.worker.decode.table import Reader, records

_Array = np.ndarray[Any, Any]
_WIDENED = {"b": "b", "i": "i", "f": "if"}
"""Kinds of array that become a tensor of this kind without a loss of type."""
_LONG = 2**63


@dataclass(slots=True)
class ArrayRequest:
    """One request: an array, or arrays by name; all have as many rows, which are the first dimension."""

    data: _Array | dict[str, _Array]
    rows: int
    key: Hashable

    @classmethod
    def of(cls, data: _Array | dict[str, _Array]) -> "ArrayRequest | None":
        """None when the arrays have no rows, or not all as many."""
        if isinstance(data, dict):
            lengths = {len(array) for array in data.values()}
            key: Hashable = tuple((name, array.dtype, array.shape[1:]) for name, array in data.items())
        else:
            lengths, key = {len(data)}, (data.dtype, data.shape[1:])
        return cls(data, lengths.pop(), key) if len(lengths) == 1 and 0 not in lengths else None

    def merged(self, parts: Sequence["ArrayRequest"]) -> Any:
        """The data of these parts, along the first dimension; the caller may change it."""
        if isinstance(self.data, dict):
            # Every part has these names: they are in the key.
            return {name: np.concatenate([part.data[name] for part in parts]) for name in self.data}
        return np.concatenate([part.data for part in parts])


def tensor_readers(schema: Schema) -> dict[str, Reader] | str:
    """Readers by format for a signature of tensors, or why there are none.

    Tables sent to such a version are left to MLflow.
    """
    specs: list[TensorSpec] = schema.inputs
    if any(spec.type.kind not in "bif" for spec in specs):
        return "its signature has tensors of other than booleans, integers and floats"
    if any(not spec.shape or spec.shape[0] != -1 for spec in specs):
        return "its signature has a tensor with a fixed number of rows"
    if not schema.has_input_names():
        if len(specs) != 1:
            return "its signature has several tensors without names"
        only = specs[0]
        return dict.fromkeys(("inputs", "instances"), lambda value: _request(_tensor(value, only)))
    by_name = {spec.name: spec for spec in specs}
    if len(by_name) != len(specs):
        return "its signature names a tensor twice"
    return _named_readers(by_name)


def inferred_array_readers() -> dict[str, Reader]:
    """Readers of `inputs` and `instances` without a signature: arrays are what numpy takes them for."""
    return _named_readers(None)


def _named_readers(specs: dict[str, TensorSpec] | None) -> dict[str, Reader]:
    """`specs`: tensors of the signature by name; None without one."""

    def inputs(value: Any) -> ArrayRequest | None:
        """Arrays by name; or one by itself, where it is the only one or there is no signature."""
        if type(value) is list and value and type(value[0]) is not dict:
            if specs is None:
                return _request(_inferred(value))
            if len(specs) == 1:
                value = {next(iter(specs)): value}
        if type(value) is not dict or not value or (specs is not None and value.keys() != specs.keys()):
            return None
        arrays = {}
        for name in specs or value:
            array = _inferred(value[name]) if specs is None else _tensor(value[name], specs[name])
            if array is None:
                return None
            arrays[name] = array
        return ArrayRequest.of(arrays)

    def instances(value: Any) -> ArrayRequest | None:
        """As `inputs`, or a list of rows, each with its part of every array by name."""
        if type(value) is not list or not value or type(value[0]) is not dict:
            return inputs(value)
        if (rows := records(value)) is None or any(row.keys() != rows[0].keys() for row in rows):
            return None
        return inputs({name: [row[name] for row in rows] for name in rows[0]})

    return {"inputs": inputs, "instances": instances}


def _tensor(value: Any, spec: TensorSpec) -> _Array | None:
    """The tensor that MLflow makes of nested lists; None where they need more than a widening."""
    if type(value) is not list:
        return None
    # Without a dtype first: with one, numpy would take texts for numbers and cut floats to integers.
    array = np.array(value)
    if array.ndim != len(spec.shape) or array.dtype.kind not in _WIDENED[spec.type.kind]:
        return None
    if any(want not in (-1, have) for want, have in zip(spec.shape, array.shape, strict=True)):
        return None
    if array.dtype == spec.type:
        return array
    if spec.type == np.float64 and array.dtype == np.int64:
        return array.astype(np.float64)
    if spec.type.kind == "i":
        held = np.iinfo(spec.type)
        if array.min() < held.min or array.max() > held.max:
            return None  # numpy before 2 wraps it, later ones refuse it: MLflow's code says which
        return array.astype(spec.type)
    # From the values themselves, as MLflow does it: by way of an array, some would be rounded twice. What is
    # too large is infinite, as there, without a line in the log for it.
    with np.errstate(over="ignore"):
        return np.array(value, spec.type)


def _inferred(values: Any) -> _Array | None:
    """What numpy makes of a list; None where that is not plain: deeper than two levels, or a mixture."""
    if type(values) is not list or not values:
        return None
    cells: Any = values
    if type(values[0]) is list:
        if set(map(type, values)) != {list} or len(set(map(len, values))) != 1 or not values[0]:
            return None
        cells = [*chain.from_iterable(values)]
    types = set(map(type, cells))
    if types == {str} or types == {bool}:
        return np.array(values)
    if not types <= {float, int} or not -_LONG < min(cells) <= max(cells) < _LONG:
        return None
    return np.array(values)


def _request(array: _Array | None) -> ArrayRequest | None:
    return None if array is None else ArrayRequest.of(array)
