"""One version's contract in the Open Inference Protocol, and requests decoded by it, there and back."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
from mlflow.models import Model
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from router.core.ids import VersionId
from router.protocol.messages import TensorInfo
from router.worker.v2.output_tensors import PREDICT, OutputTensor, outputs_of
from router.worker.v2.tensors import (
    BYTES,
    DTYPES,
    InferenceRefused,
    InferenceRequest,
    Tensor,
    datatype_of,
    objects,
    read_request,
)

INPUT = "input"
_CONTENT_TYPES = {DataType.binary: "base64", DataType.datetime: "datetime"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?", re.ASCII)
_FINER_UNITS = frozenset(("ps", "fs", "as"))


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
        inputs=_described_tensors(schema, (f"{INPUT}-{{}}",) * 2),
        outputs=_described_tensors(metadata.get_output_schema(), (PREDICT, f"{PREDICT}-{{}}")),
    )


def with_outputs(contract: Contract, outputs: Sequence[TensorInfo]) -> Contract:
    """The contract of a version whose signature names no outputs, and whose warm-up answered these."""
    return replace(contract, outputs=tuple(outputs)) if not contract.outputs else contract


@dataclass(frozen=True, slots=True)
class V2Request:
    """A request as the version's `predict` takes it."""

    data: Any
    """DataFrame, array, dict of arrays or list; MLflow has not enforced the signature on it yet."""
    params: dict[str, Any] | None
    contract: Contract
    id: str | None
    wanted: tuple[str, ...]
    """Names of the outputs asked for; empty for all."""

    def encode(self, predictions: Any) -> bytes:
        """The answer to the caller, JSON.

        Raises InferenceRefused when it asked for an output that is not there, TypeError or ValueError when
        the predictions can not be written.
        """
        outputs = outputs_of(predictions, self.contract.outputs)
        if not outputs.keys() >= set(self.wanted):
            raise InferenceRefused("the version has no output of a name that outputs asks for")
        version = self.contract.version
        return _dumps(
            {
                "model_name": version.model,
                "model_version": str(version.number),
                **({"id": self.id} if self.id is not None else {}),
                "outputs": [_written(name, outputs[name]) for name in self.wanted or outputs],
            }
        )


def decode_v2_request(body: bytes, contract: Contract) -> V2Request:
    """Decode one request's body for the version with that contract. Raises InferenceRefused."""
    request = read_request(body)
    data = data_of(request, contract)
    params = request.parameters if contract.takes_params else None
    return V2Request(data, params, contract, request.id, request.outputs)


def warm_outputs(predictions: Any) -> tuple[TensorInfo, ...]:
    """Outputs of a version whose signature names none, by this answer; empty when it can not be written."""
    try:
        return tuple(one.info(name) for name, one in outputs_of(predictions, ()).items())
    except Exception:  # noqa: BLE001 - a version may answer anything; it is judged when it is asked
        return ()


def encode_example(example: Any, contract: Contract) -> bytes:
    """A request with an input example, for another server of the same version.

    Raises TypeError or ValueError where tensors can not carry it.
    """
    tensors = outputs_of(example, contract.inputs)
    if list(tensors) == [PREDICT]:
        tensors = {f"{INPUT}-0": tensors[PREDICT]}
    return _dumps({"inputs": [_written(name, tensor) for name, tensor in tensors.items()]})


def data_of(request: InferenceRequest, contract: Contract) -> Any:
    """DataFrame, array, dict of arrays or list; the signature is not enforced yet. Raises InferenceRefused.

    Inputs that the signature does not name are dropped, as MLflow drops columns: both versions get the same
    bytes, and one may take more than the other.
    """
    schema = contract.schema
    if schema is None:
        return _unsigned(request)
    if not schema.has_input_names():
        chosen: Sequence[Tensor | None] = _unnamed(request.inputs, contract)
    else:
        by_name = {tensor.name: tensor for tensor in request.inputs}
        chosen = [by_name.get(str(spec.name)) for spec in schema.inputs]
        missing = [
            str(spec.name)
            for spec, tensor in zip(schema.inputs, chosen, strict=True)
            if tensor is None and spec.required
        ]
        if missing:
            raise InferenceRefused(f"the version's inputs {_names(missing)} are missing")
    pairs = [(spec, t) for spec, t in zip(schema.inputs, chosen, strict=True) if t is not None]
    if schema.is_tensor_spec():
        arrays = {spec.name: _tensor(tensor, spec) for spec, tensor in pairs}
        return arrays if schema.has_input_names() else next(iter(arrays.values()))
    rows = _common_rows([tensor for _, tensor in pairs], [spec.type for spec, _ in pairs])
    columns = [_column(tensor, spec.type) for spec, tensor in pairs]
    if contract.hinted and len(columns) == 1 and not schema.has_input_names():
        return _listed(columns[0])
    names = [spec.name if spec.name is not None else index for index, (spec, _) in enumerate(pairs)]
    return _frame(names, columns, rows)


def _unsigned(request: InferenceRequest) -> Any:
    """Without a signature: columns make a DataFrame, one tensor of another shape an array, several a dict.

    `parameters.content_type` of the request, `pd` or `np`, asks for a DataFrame or an array.
    """
    tensors, wish = request.inputs, request.content_type
    if wish == "np" and len(tensors) > 1:
        raise InferenceRefused("content_type np is for one input, and there are several")
    lengths = {tensor.column_rows for tensor in tensors}
    if wish == "pd" or (wish != "np" and len(lengths) == 1 and None not in lengths):
        rows = _common_rows(tensors, [None] * len(tensors))
        return _frame([t.name for t in tensors], [_read(t).reshape(-1) for t in tensors], rows)
    arrays = {tensor.name: _read(tensor) for tensor in tensors}
    return arrays if len(arrays) > 1 else arrays[tensors[0].name]


def _unnamed(tensors: Sequence[Tensor], contract: Contract) -> list[Tensor]:
    """By the names that the metadata gives the inputs when they are used, else in their order."""
    wanted = [tensor.name for tensor in contract.inputs]
    by_name = {tensor.name: tensor for tensor in tensors}
    if by_name.keys() >= set(wanted):
        return [by_name[name] for name in wanted]
    if len(tensors) != len(wanted):
        raise InferenceRefused(f"the version takes {len(wanted)} inputs, and there are {len(tensors)}")
    return list(tensors)


def _common_rows(tensors: Sequence[Tensor], kinds: Sequence[Any]) -> int:
    lengths = set()
    for tensor, kind in zip(tensors, kinds, strict=True):
        flat = kind is None or isinstance(kind, DataType) or tensor.datatype == BYTES
        if (flat and tensor.column_rows is None) or not tensor.values.ndim:
            raise InferenceRefused(f"{tensor.place} is a column: its shape must be [n] or [n, 1]")
        lengths.add(tensor.values.shape[0])
    if len(lengths) > 1:
        raise InferenceRefused("the inputs are columns of one table and must have one number of rows")
    return lengths.pop() if lengths else 0


def _frame(names: Sequence[Any], columns: Sequence[Any], rows: int) -> pd.DataFrame:
    # By position: a name of the caller's may be anything, and pandas would read some as a wish.
    frame = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(rows))
    frame.columns = pd.Index(names)
    return frame


def _column(tensor: Tensor, kind: Any) -> npt.NDArray[Any]:
    if not isinstance(kind, DataType):
        return _nested(tensor)
    flat = tensor.values.reshape(-1)
    if kind.to_numpy() in DTYPES.values():
        return _fitted(tensor, kind.to_numpy()).reshape(-1)
    if tensor.datatype != BYTES:
        raise InferenceRefused(f"{tensor.place}.datatype must be BYTES, as the version's metadata says")
    if kind == DataType.datetime:
        return _times(flat, tensor.place)
    if kind == DataType.binary:
        return _encoded(flat) if tensor.content_type == "str" else _decoded(flat, tensor.place)
    return _unpacked_texts(tensor).reshape(-1)


def _nested(tensor: Tensor) -> npt.NDArray[Any]:
    """A column of lists or objects: a tensor of more dimensions, or each cell as JSON text."""
    if tensor.datatype != BYTES or tensor.column_rows is None:
        return objects(tensor.values.tolist())
    try:
        return objects([None if t is None else json.loads(t) for t in tensor.values.reshape(-1)])
    except (ValueError, RecursionError):
        raise InferenceRefused(f"{tensor.place}.data must be texts of JSON") from None


def _listed(column: npt.NDArray[Any]) -> list[Any]:
    if column.dtype.kind == "M":
        column = column.astype("datetime64[us]")  # the finest that becomes datetime, and not a number
    listed: list[Any] = column.tolist()
    return listed


def _tensor(tensor: Tensor, spec: TensorSpec) -> npt.NDArray[Any]:
    if spec.type in DTYPES.values():
        return _fitted(tensor, spec.type)
    if tensor.datatype != BYTES:
        raise InferenceRefused(f"{tensor.place}.datatype must be BYTES, as the version's metadata says")
    flat, shape = tensor.values.reshape(-1), tensor.values.shape
    if spec.type.kind == "M":
        return _in_unit(_times(flat, tensor.place), spec.type, tensor.place).reshape(shape)
    if spec.type.kind == "S":
        return _decoded(flat, tensor.place).astype(spec.type.kind).reshape(shape)
    if spec.type.kind == "U":
        if None in flat.tolist():
            raise InferenceRefused(f"{tensor.place}.data must be texts without null")
        return _unpacked_texts(tensor).astype(np.str_)
    return _read(tensor)


def _fitted(tensor: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Its values as `dtype`. Whole numbers go where they are exact, other numbers only into wider ones."""
    values = tensor.values
    if values.dtype == dtype:
        return values
    if values.dtype.kind in "iu" and dtype.kind in "iuf":
        if _exact(values, dtype):
            return values.astype(dtype)
        raise InferenceRefused(f"{tensor.place}.data has a number that the version's input can not hold")
    if values.dtype.kind == dtype.kind == "f" and values.dtype.itemsize < dtype.itemsize:
        return values.astype(dtype)
    wanted = next(name for name, known in DTYPES.items() if known == dtype)
    raise InferenceRefused(f"{tensor.place}.datatype must be {wanted}, as the version's metadata says")


def _exact(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> bool:
    if not values.size:
        return True
    low, high = int(values.min()), int(values.max())
    if dtype.kind == "f":
        most = 2 ** int(np.finfo(dtype).nmant + 1)
        return bool(-most <= low and high <= most)
    held = np.iinfo(dtype)
    return bool(held.min <= low and high <= held.max)


def _read(tensor: Tensor) -> npt.NDArray[Any]:
    """Its values, as the tensor itself says what its texts are."""
    if tensor.datatype != BYTES:
        return tensor.values
    flat, shape = tensor.values.reshape(-1), tensor.values.shape
    if tensor.content_type == "base64":
        return _decoded(flat, tensor.place).reshape(shape)
    if tensor.content_type == "datetime":
        return _times(flat, tensor.place).reshape(shape)
    return tensor.values


def _unpacked_texts(tensor: Tensor) -> npt.NDArray[Any]:
    if tensor.content_type != "base64":
        return tensor.values
    packed = _decoded(tensor.values.reshape(-1), tensor.place)
    try:
        texts = [None if item is None else item.decode() for item in packed]
    except UnicodeDecodeError:
        raise InferenceRefused(f"{tensor.place}.data must be base64 of UTF-8") from None
    return objects(texts).reshape(tensor.values.shape)


def _decoded(flat: npt.NDArray[Any], place: str) -> npt.NDArray[Any]:
    try:
        return objects([None if text is None else base64.b64decode(text, validate=True) for text in flat])
    except (binascii.Error, ValueError):
        raise InferenceRefused(f"{place}.data must be base64") from None


def _encoded(flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return objects([None if text is None else text.encode() for text in flat])


def _times(flat: npt.NDArray[Any], place: str) -> npt.NDArray[Any]:
    # pandas would take more: words such as `now`, and offsets, which a signature's datetime has none of.
    if all(text is None or _DATE.fullmatch(text) for text in flat):
        try:
            # pandas refuses what nanoseconds can not hold; numpy would wrap it.
            return pd.to_datetime(flat, format="ISO8601").astype("datetime64[ns]").to_numpy()
        except ValueError:
            pass
    raise InferenceRefused(f"{place}.data must be ISO 8601 dates and times without an offset")


def _in_unit(times: npt.NDArray[Any], dtype: np.dtype[Any], place: str) -> npt.NDArray[Any]:
    """Times in nanoseconds as `dtype`, which may be coarser; what a finer one can not hold is refused."""
    try:
        found = times.astype(dtype)
        # numpy before 2.5 wraps: in picoseconds, 2020 would be predicted as 1969.
        fits = np.datetime_data(dtype)[0] not in _FINER_UNITS or np.array_equal(
            found.astype(times.dtype).view(np.int64), times.view(np.int64)
        )
    except OverflowError:
        fits = False
    if not fits:
        raise InferenceRefused(f"{place}.data has a time that the version's input can not hold")
    return found


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _described_tensors(schema: Schema | None, unnamed: tuple[str, str]) -> tuple[TensorInfo, ...]:
    """`unnamed`: what the only tensor without a name is called, and one of several, by its position."""
    if schema is None:
        return ()
    pattern = unnamed[len(schema.inputs) > 1]
    return tuple(
        _tensor_info(spec, pattern.format(index) if spec.name is None else str(spec.name))
        for index, spec in enumerate(schema.inputs)
    )


def _tensor_info(spec: ColSpec | TensorSpec, name: str) -> TensorInfo:
    if isinstance(spec, TensorSpec):
        content_type = {"M": "datetime", "S": "base64"}.get(spec.type.kind, "")
        return TensorInfo(name, datatype_of(spec.type), tuple(map(int, spec.shape)), content_type)
    kind = spec.type
    if isinstance(kind, DataType):
        return TensorInfo(name, datatype_of(kind.to_numpy()), (-1,), _CONTENT_TYPES.get(kind, ""))
    if isinstance(kind, Array) and isinstance(kind.dtype, DataType) and kind.dtype not in _CONTENT_TYPES:
        return TensorInfo(name, datatype_of(kind.dtype.to_numpy()), (-1, -1))
    return TensorInfo(name, BYTES, (-1,), "json")


def _written(name: str, output: OutputTensor) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": name,
        "shape": output.shape,
        "datatype": output.datatype,
        "data": output.data,
    }
    if output.content_type:
        fields["parameters"] = {"content_type": output.content_type}
    return fields


def _dumps(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # A lone surrogate, in the caller's id or a text of the version: UTF-8 has none, JSON can escape it.
        return json.dumps(document, default=_array, allow_nan=False).encode()


def _array(array: Any) -> Any:
    return orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
