"""What a version takes and answers, as the Open Inference Protocol describes tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from router.protocol.exact import exactly

DATATYPES = (
    "BOOL",
    *(f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)),
    *("FP16", "FP32", "FP64", "BYTES"),
)
"""Of tensors; case counts."""
CONTENT_TYPES = ("", "base64", "datetime", "json")
"""What the texts of a BYTES tensor stand for; empty for themselves."""
MAX_TENSORS = 20_000
"""Inputs, or outputs, that a version may describe."""
MAX_DESCRIPTION_BYTES = 1 << 20
"""The longest description of a version's inputs, or of its outputs, as JSON."""
MAX_DIMENSIONS = 32
LARGEST_DIMENSION = 2**63 - 1
_NAME_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a version."""

    name: str
    datatype: str
    """One of `DATATYPES`."""
    shape: tuple[int, ...]
    """Dimensions; -1 for one of any size."""
    content_type: str = ""
    """One of `CONTENT_TYPES`."""


def tellable(tensors: Sequence[TensorInfo]) -> bool:
    """Whether `told_tensors` will take them: they are neither too many nor too long."""
    if len(tensors) > MAX_TENSORS or not all(_fits(tensor) for tensor in tensors):
        return False
    try:
        return len(orjson.dumps(list(tensors))) <= MAX_DESCRIPTION_BYTES
    except TypeError:  # a name that has no UTF-8
        return False


def told_tensors(fields: Any) -> tuple[TensorInfo, ...]:
    """The descriptions in a frame of a worker. Raises what reading anything else raises."""
    if len(exactly(list, fields)) > MAX_TENSORS:
        raise ValueError("more tensors than anyone has")
    return tuple(_told(tensor) for tensor in fields)


def _told(fields: Mapping[str, Any]) -> TensorInfo:
    tensor = TensorInfo(
        exactly(str, fields["name"]),
        exactly(str, fields["datatype"]),
        tuple(exactly(int, dimension) for dimension in exactly(list, fields["shape"])),
        exactly(str, fields["content_type"]),
    )
    if not _fits(tensor) or tensor.datatype not in DATATYPES or tensor.content_type not in CONTENT_TYPES:
        raise ValueError("a tensor that is none")
    return tensor


def _fits(tensor: TensorInfo) -> bool:
    # A name may hold any character: it is shown in JSON only, which escapes what could do harm.
    return (
        len(tensor.name) <= _NAME_CHARACTERS
        and len(tensor.shape) <= MAX_DIMENSIONS
        and all(-1 <= dimension <= LARGEST_DIMENSION for dimension in tensor.shape)
    )
