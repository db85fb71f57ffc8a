"""Versions whose signature declares tensors of booleans and numbers."""

from typing import Any

import numpy as np
from mlflow.types import Schema, TensorSpec

from router.worker.decode.arrays import Array, Arrays
from router.worker.decode.parts import Reader
from router.worker.decode.sheets import records


def tensor_readers(schema: Schema) -> dict[str, Reader] | str:
    """Readers by format, or why there are none. Tables sent to such a version are left to MLflow."""
    specs: list[TensorSpec] = schema.inputs
    if any(spec.type.kind not in "bif" for spec in specs):
        return "its signature has tensors of other than booleans, integers and floats"
    if any(not spec.shape or spec.shape[0] != -1 for spec in specs):
        return "its signature has a tensor with a fixed number of rows"
    if not schema.has_input_names():
        if len(specs) != 1:
            return "its signature has several tensors without names"
        only = specs[0]
        return {
            "inputs": lambda value: _unnamed(value, only),
            "instances": lambda value: _unnamed(value, only),
        }
    named = _Named({spec.name: spec for spec in specs})
    if len(named.specs) != len(specs):
        return "its signature names a tensor twice"
    return {"inputs": named.inputs, "instances": named.instances}


class _Named:
    def __init__(self, specs: dict[str, TensorSpec]) -> None:
        self.specs = specs

    def inputs(self, value: Any) -> Arrays | None:
        """`inputs`: tensors by name, or the only one by itself."""
        if type(value) is list and len(self.specs) == 1 and value and type(value[0]) is not dict:
            value = {next(iter(self.specs)): value}
        if type(value) is not dict or value.keys() != self.specs.keys():
            return None
        arrays = {}
        for name, spec in self.specs.items():
            if (array := _tensor(value[name], spec)) is None:
                return None
            arrays[name] = array
        return Arrays.of(arrays)

    def instances(self, value: Any) -> Arrays | None:
        """`instances`: as `inputs`, or a list of rows, each with its part of every tensor by name."""
        if type(value) is not list or not value or type(value[0]) is not dict:
            return self.inputs(value)
        if (found := records(value)) is None or any(row.keys() != self.specs.keys() for row in found):
            return None
        return self.inputs({name: [row[name] for row in found] for name in self.specs})


def _unnamed(value: Any, spec: TensorSpec) -> Arrays | None:
    return None if (array := _tensor(value, spec)) is None else Arrays.of(array)


def _tensor(value: Any, spec: TensorSpec) -> Array | None:
    """The tensor that MLflow makes of nested lists; None where they need more than a widening."""
    if type(value) is not list:
        return None
    # Without a dtype first: with one, numpy would take texts for numbers and cut floats to integers.
    array = np.array(value)
    if array.ndim != len(spec.shape) or array.dtype.kind not in _FROM[spec.type.kind]:
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


_FROM = {"b": "b", "i": "i", "f": "if"}
