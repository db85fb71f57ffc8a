"""What one version takes and answers: its signature in the words of the Open Inference Protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mlflow.models import Model
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from router.core.ids import VersionId
from router.protocol.messages import TensorInfo
from router.worker.inference.tensors import BYTES, DTYPES

INPUT = "input"
PREDICT = "predict"
"""Name of what a version answers when nobody named it."""
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_CONTENT_TYPES = {DataType.binary: "base64", DataType.datetime: "datetime"}


@dataclass(frozen=True, slots=True)
class Contract:
    """One version, as callers of the Open Inference Protocol meet it."""

    version: VersionId
    schema: Schema | None
    """What its signature takes; None without one."""
    takes_params: bool
    """Whether its signature has params; without, a request's parameters are not the version's affair."""
    hinted: bool
    """Whether the signature stands for a type hint: then it takes a list, as the hint says."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def contract_of(metadata: Model, version: VersionId) -> Contract:
    """The contract of a version with this MLflow metadata."""
    schema = metadata.get_input_schema()
    return Contract(
        version,
        schema,
        takes_params=metadata.get_params_schema() is not None,
        hinted=metadata._is_signature_from_type_hint(),  # noqa: SLF001 - MLflow decides by it what predict gets
        inputs=_described(schema, (f"{INPUT}-{{}}",) * 2),
        outputs=_described(metadata.get_output_schema(), (PREDICT, f"{PREDICT}-{{}}")),
    )


def with_outputs(contract: Contract, outputs: Sequence[TensorInfo]) -> Contract:
    """The contract of a version whose signature names no outputs, and whose warm-up answered these."""
    return replace(contract, outputs=tuple(outputs)) if not contract.outputs else contract


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The datatype for numpy's; BYTES for whatever is neither number nor truth."""
    return _DATATYPES.get(dtype.newbyteorder("="), BYTES)


def _described(schema: Schema | None, unnamed: tuple[str, str]) -> tuple[TensorInfo, ...]:
    """`unnamed`: what the only tensor without a name is called, and one of several, by its position."""
    if schema is None:
        return ()
    pattern = unnamed[len(schema.inputs) > 1]
    return tuple(
        _tensor(spec, pattern.format(index) if spec.name is None else str(spec.name))
        for index, spec in enumerate(schema.inputs)
    )


def _tensor(spec: ColSpec | TensorSpec, name: str) -> TensorInfo:
    if isinstance(spec, TensorSpec):
        content_type = {"M": "datetime", "S": "base64"}.get(spec.type.kind, "")
        return TensorInfo(name, datatype_of(spec.type), tuple(map(int, spec.shape)), content_type)
    kind = spec.type
    if isinstance(kind, DataType):
        return TensorInfo(name, datatype_of(kind.to_numpy()), (-1,), _CONTENT_TYPES.get(kind, ""))
    if isinstance(kind, Array) and isinstance(kind.dtype, DataType) and kind.dtype not in _CONTENT_TYPES:
        return TensorInfo(name, datatype_of(kind.dtype.to_numpy()), (-1, -1))
    return TensorInfo(name, BYTES, (-1,), "json")
