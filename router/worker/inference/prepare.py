"""One request, decoded for one version, and the way back."""

import json
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from router.protocol.messages import TensorInfo
from router.worker.inference.contract import Contract
from router.worker.inference.elements import Output
from router.worker.inference.inputs import data_of
from router.worker.inference.outputs import outputs_of
from router.worker.inference.request import read_request
from router.worker.inference.tensors import InferenceRefused


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as the version's `predict` takes it."""

    data: Any
    """DataFrame, array, dict of arrays or list; MLflow has not enforced the signature on it yet."""
    params: dict[str, Any] | None
    rows: int
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


def prepare(body: bytes, contract: Contract) -> Prepared:
    """Decode one request's body for the version with that contract. Raises InferenceRefused."""
    request = read_request(body)
    data = data_of(request, contract)
    params = request.parameters if contract.takes_params else None
    return Prepared(data, params, _rows(data), contract, request.id, request.outputs)


def warm_outputs(predictions: Any) -> tuple[TensorInfo, ...]:
    """What an answer tells of the outputs that no signature names; empty when it can not be written."""
    try:
        return tuple(one.info(name) for name, one in outputs_of(predictions, ()).items())
    except Exception:  # noqa: BLE001 - a version may answer anything; it is judged when it is asked
        return ()


def _rows(data: Any) -> int:
    if isinstance(data, dict):
        data = next(iter(data.values()), ())
    if isinstance(data, np.ndarray) and not data.ndim:
        return 1
    return len(data) if isinstance(data, Sized) else 1


def _written(name: str, output: Output) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": name,
        "shape": output.shape,
        "datatype": output.datatype,
        "data": output.data,
    }
    if output.content_type:
        told["parameters"] = {"content_type": output.content_type}
    return told


def _dumps(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # A lone surrogate, in the caller's id or a text of the version: UTF-8 has none, JSON can escape it.
        return json.dumps(document, default=_array, allow_nan=False).encode()


def _array(array: Any) -> Any:
    return orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
