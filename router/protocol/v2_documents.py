"""What the Open Inference Protocol says of a model beside its answers: metadata and readiness."""

from collections.abc import Iterable, Sequence
from typing import Any

from router.protocol.messages import TensorInfo

PLATFORM = "mlflow"
IS_NOT = 400
"""The status that the protocol has for "it is not ready": any 4xx. A 5xx would mean a failure."""


def model_metadata(
    name: str, versions: Iterable[int], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> dict[str, Any]:
    """Which versions of the model `name` answer, and what one of them takes and answers."""
    return {
        "name": name,
        "versions": [str(number) for number in sorted(versions)],
        "platform": PLATFORM,
        "inputs": [_tensor(tensor) for tensor in inputs],
        "outputs": [_tensor(tensor) for tensor in outputs],
    }


def model_readiness(name: str, *, ready: bool) -> dict[str, Any]:
    """Whether the model `name` answers requests; its status is 200 or IS_NOT."""
    return {"name": name, "ready": ready}


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if tensor.content_type:
        document["parameters"] = {"content_type": tensor.content_type}
    return document
