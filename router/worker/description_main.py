"""A short-lived child that reads what describes a version which runs elsewhere: MLmodel and input example."""

import socket
from typing import Any

from mlflow.models import Model
from mlflow.pyfunc import FLAVOR_NAME

from router.core.ids import VersionId
from router.errors import LoadFailed
from router.protocol.channel import Channel
from router.protocol.messages import (
    Batching,
    ScoringProtocol,
    TensorInfo,
    VersionInfo,
    describable,
    failed_header,
    ready_header,
)
from router.worker.load import effects_of
from router.worker.v2.request import Contract, contract_of, encode_example

_ELSEWHERE = Batching(merges=False, why="it runs elsewhere, where each request has a predict of its own")
_ERROR_CHARACTERS = 500


def main(sock: socket.socket) -> None:
    """Answer one order and end.

    The frame: `directory`, absolute, of the files; `model`, `version` and `protocol`. Answers as a worker
    that loaded it would, `ready` with the fields of a VersionInfo; its one body is the input example as a
    request of that protocol, empty where there is none. Or `failed`, as a worker.
    """
    channel = Channel(sock)
    if (order := channel.receive()) is None:
        return
    header, call = order.header, order.header.get("id")
    try:
        version = VersionId(header["model"], header["version"])
        info, example = describe(header["directory"], version, ScoringProtocol(header["protocol"]))
    except Exception as error:  # noqa: BLE001 - files of a version hold anything
        line = " ".join(f"{type(error).__name__}: {error}".replace(header["directory"], "…").split())
        failure = LoadFailed(line[:_ERROR_CHARACTERS], phase="load")
        channel.send({**failed_header(failure), "id": call})
    else:
        channel.send({**ready_header(info), "id": call}, [example])


def describe(directory: str, version: VersionId, protocol: ScoringProtocol) -> tuple[VersionInfo, bytes]:
    """What MLmodel says of the version, and its input example as a request. Raises whatever MLflow raises."""
    metadata = Model.load(directory)
    contract = contract_of(metadata, version)
    example, note = _example(metadata, contract, directory, protocol)
    return (
        VersionInfo(
            run_id=metadata.run_id or "",
            flavor=next((name for name in metadata.flavors if name != FLAVOR_NAME), FLAVOR_NAME),
            has_signature=metadata.signature is not None,
            has_example=metadata.saved_input_example_info is not None,
            phase_seconds={},
            scores=(),
            note=note,
            batching=_ELSEWHERE,
            inputs=_describable(contract.inputs),
            outputs=_describable(contract.outputs),
            effects=effects_of(metadata),
        ),
        example,
    )


def _example(
    metadata: Model, contract: Contract, directory: str, protocol: ScoringProtocol
) -> tuple[bytes, str]:
    """The request, empty where there is none, and why not."""
    if metadata.saved_input_example_info is None:
        return b"", "it has no input example, so nothing is asked before it serves."
    try:
        if protocol is ScoringProtocol.MLFLOW:
            text: Any = metadata.get_serving_input(directory)
            return (text.encode(), "") if text else (b"", "its input example was not logged for serving.")
        return encode_example(metadata.load_input_example(directory), contract), ""
    except Exception as error:  # noqa: BLE001 - an example can be anything, and is not needed to serve
        return b"", f"its input example could not be made a request ({type(error).__name__})."


def _describable(tensors: tuple[TensorInfo, ...]) -> tuple[TensorInfo, ...]:
    return tensors if describable(tensors) else ()
