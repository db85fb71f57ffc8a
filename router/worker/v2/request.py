"""The JSON of an inference request, read strictly."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

from router.worker.v2.tensors import InferenceRefused, Tensor, read_tensor

MOST_INPUTS = 100_000
"""A body of 64 MiB could name a million, of a kilobyte each once they are arrays."""


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
        told = self.parameters.get("content_type")
        return told if isinstance(told, str) else ""


def read_request(body: bytes) -> InferenceRequest:
    """The request in `body`. Raises InferenceRefused."""
    document = _loads(body)
    if not isinstance(document, dict):
        raise InferenceRefused("the request must be a JSON object")
    # What is optional may be null: clients with typed requests write it so.
    told, parameters = document.get("id"), document.get("parameters")
    if told is not None and not isinstance(told, str):
        raise InferenceRefused("id must be a string")
    if parameters is not None and not isinstance(parameters, dict):
        raise InferenceRefused("parameters must be an object")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InferenceRefused("inputs must be a list of at least one tensor")
    if len(inputs) > MOST_INPUTS:
        raise InferenceRefused(f"inputs are more than {MOST_INPUTS}")
    tensors = tuple(read_tensor(fields, f"inputs[{index}]") for index, fields in enumerate(inputs))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InferenceRefused("two inputs have one name")
    return InferenceRequest(told, parameters or {}, tensors, _outputs(document.get("outputs")))


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
