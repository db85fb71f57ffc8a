"""The JSON of an inference request, read strictly: its tensors become numpy arrays."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from router.protocol.tensors import DATATYPES, LARGEST_DIMENSION, MAX_DIMENSIONS

BYTES = "BYTES"
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
"""Datatypes whose data are numbers or booleans."""
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
MAX_INPUTS = 100_000
"""A body of 64 MiB could name a million, of a kilobyte each once they are arrays."""
_MOST_OF_NOTHING = 1 << 20
_NOTHING = type(None)
# Types of JSON values; a comparison of sets keeps True from passing for 1, which numpy would let through.
_TAKES: Mapping[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float, _NOTHING}, "numbers or null"),
    "O": ({str, _NOTHING}, "texts or null"),
}


class InferenceRefused(Exception):
    """The caller's mistake. Its text says what to mend, and quotes nothing of the request."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a request."""

    name: str
    datatype: str
    values: npt.NDArray[Any]
    """In its shape. BYTES are objects, each a text or None; null among floats is NaN."""
    content_type: str
    """The parameter of that name; empty without one."""
    place: str
    """Where it stands in the request, such as `inputs[0]`: errors name it so, its name is the caller's."""

    @property
    def column_rows(self) -> int | None:
        """Rows when it has the shape of a column, [n] or [n, 1]; else None."""
        shape = self.values.shape
        return shape[0] if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) else None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a caller asked for."""

    id: str | None
    parameters: dict[str, Any]
    inputs: tuple[Tensor, ...]
    """At least one; their names differ."""
    outputs: tuple[str, ...]
    """Names of the outputs asked for; empty for all of them."""

    @property
    def content_type(self) -> str:
        """The request's parameter of that name; empty without one."""
        wanted = self.parameters.get("content_type")
        return wanted if isinstance(wanted, str) else ""


def read_request(body: bytes) -> InferenceRequest:
    """The request in `body`. Raises InferenceRefused."""
    document = _loads(body)
    if not isinstance(document, dict):
        raise InferenceRefused("the request must be a JSON object")
    # What is optional may be null: clients with typed requests write it so.
    request_id, parameters = document.get("id"), document.get("parameters")
    if request_id is not None and not isinstance(request_id, str):
        raise InferenceRefused("id must be a string")
    if parameters is not None and not isinstance(parameters, dict):
        raise InferenceRefused("parameters must be an object")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InferenceRefused("inputs must be a list of at least one tensor")
    if len(inputs) > MAX_INPUTS:
        raise InferenceRefused(f"inputs are more than {MAX_INPUTS}")
    tensors = tuple(read_tensor(fields, f"inputs[{index}]") for index, fields in enumerate(inputs))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InferenceRefused("two inputs have one name")
    return InferenceRequest(request_id, parameters or {}, tensors, _outputs(document.get("outputs")))


def read_tensor(fields: Any, place: str) -> Tensor:
    """One of a request's `inputs`. Raises InferenceRefused."""
    if not isinstance(fields, dict):
        raise InferenceRefused(f"{place} must be an object")
    name, datatype, parameters = fields.get("name"), fields.get("datatype"), fields.get("parameters")
    if not isinstance(name, str):
        raise InferenceRefused(f"{place}.name must be a string")
    if datatype not in DATATYPES:
        raise InferenceRefused(f"{place}.datatype must be one of {', '.join(DATATYPES)}")
    if parameters is not None and not isinstance(parameters, dict):
        raise InferenceRefused(f"{place}.parameters must be an object")
    shape = _shape(fields.get("shape"), place)
    if "data" not in fields:
        raise InferenceRefused(f"{place}.data is missing; tensors are taken as JSON only")
    values = _values(_flat(fields["data"], shape, place), datatype, place)
    content_type = (parameters or {}).get("content_type")
    return Tensor(
        name,
        datatype,
        values.reshape(shape),
        content_type if isinstance(content_type, str) else "",
        place,
    )


def _shape(shape: Any, place: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise InferenceRefused(f"{place}.shape must be a list of whole numbers of 0 or more")
    if len(shape) > MAX_DIMENSIONS:
        raise InferenceRefused(f"{place}.shape has more than {MAX_DIMENSIONS} dimensions")
    # A zero hides the other dimensions from numpy, and not from whoever makes lists of such a tensor.
    most = LARGEST_DIMENSION if all(shape) else _MOST_OF_NOTHING
    if math.prod(size for size in shape if size) > most:
        raise InferenceRefused(f"{place}.shape is larger than any tensor")
    return tuple(shape)


def _flat(data: Any, shape: tuple[int, ...], place: str) -> list[Any]:
    """Elements in row-major order; `data` is flat, or nested as the shape says."""
    size = math.prod(shape)
    if not shape and not isinstance(data, list):
        return [data]
    if not isinstance(data, list):
        raise InferenceRefused(f"{place}.data must be a list")
    if len(shape) > 1 and data and isinstance(data[0], list):
        level = [data]
        for dimension in shape:
            if any(type(item) is not list or len(item) != dimension for item in level):
                raise InferenceRefused(f"{place}.data is nested in another way than its shape says")
            level = list(chain.from_iterable(level))
        return level
    if len(data) != size:
        raise InferenceRefused(f"{place}.data has {len(data)} elements where its shape makes {size}")
    return data


def _values(flat: list[Any], datatype: str, place: str) -> npt.NDArray[Any]:
    dtype = DTYPES.get(datatype, np.dtype(object))
    types, takes = _TAKES[dtype.kind]
    if not set(map(type, flat)) <= types:
        raise InferenceRefused(f"{place}.data must be {takes}, for it is {datatype}")
    if datatype == BYTES:
        return _texts(flat, place)
    beyond = InferenceRefused(f"{place}.data has a number that {datatype} can not hold")
    if dtype.kind in "iu" and flat:
        # numpy before 2 wraps such a number: -1 would be predicted as 255.
        held = np.iinfo(dtype)
        if min(flat) < held.min or max(flat) > held.max:
            raise beyond
    if dtype.kind != "f":
        return np.array(flat, dtype)
    try:
        exact = np.array(flat, np.float64)
    except OverflowError:  # Python's own, of an integer beyond any float
        raise beyond from None
    with np.errstate(over="ignore"):
        values = exact.astype(dtype)
    if np.any(np.isinf(values) & np.isfinite(exact)):
        raise beyond
    return values


def _texts(flat: list[str | None], place: str) -> npt.NDArray[Any]:
    try:
        "".join(filter(None, flat)).encode()
    except UnicodeEncodeError:
        raise InferenceRefused(f"{place}.data has a text that is no Unicode") from None
    return objects(flat)


def objects(items: list[Any]) -> npt.NDArray[Any]:
    """A flat array of these very objects; numpy would look into lists among them."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The datatype for numpy's; BYTES for whatever is neither number nor truth."""
    return _DATATYPES.get(dtype.newbyteorder("="), BYTES)


def _outputs(outputs: Any) -> tuple[str, ...]:
    if outputs is None:
        return ()
    if not isinstance(outputs, list):
        raise InferenceRefused("outputs must be a list")
    names = []
    for index, fields in enumerate(outputs):
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            raise InferenceRefused(f"outputs[{index}].name must be a string")
        names.append(fields["name"])
    if len(set(names)) != len(names):
        raise InferenceRefused("two outputs have one name")
    return tuple(names)


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # The dialect of MLflow's protocol is taken here too: NaN, a byte order mark, UTF-16.
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InferenceRefused(f"the request is no JSON: see {place}") from None
    # No Unicode, an integer of thousands of digits, or deeper than any tensor is nested.
    except (ValueError, RecursionError):
        raise InferenceRefused("the request can not be decoded as JSON") from None
