"""The agent: a process that asks the registry, one read per registered model and poll, and nothing else."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.agent import cache
from router.agent import last_known_good as last_good
from router.agent.bootstrap import open_registry
from router.agent.errors import UNKNOWN, kind_of
from router.agent.manifest import FILES
from router.agent.requests import RequestLimits
from router.core.redaction import redact_line
from router.protocol.channel import Channel

_LONGEST_ERROR = 800
"""Characters: MLflow's errors say the address twice before the reason."""
_BODY, _LONGEST_BODY = "Response body: '", 200
"""Before what MLflow quotes of an answer, which may be a page of HTML; so many characters are enough."""

Operations = Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]


def main(sock: socket.socket) -> None:
    """Serve polls until the socket ends.

    First frame: `registry_uri`, `tracking_uri`, `environment`, `credentials`. It is answered with `{"id",
    "op": "ready"}` after the imports, and before the registry is asked anything. Then `{"id", "op": "poll",
    "model", "aliases"}` is answered with `{"id", "aliases": {name: version}, "stages": {stage: version}}`,
    where only the asked names appear, and with `newer_schema`, the fields of a NewerSchema, where a newer
    MLflow migrated the database; `{"id", "op": "registrations", "versions": [[model, version], …]}` with
    `{"id", "registrations": [text, …]}`; `{"id", "op": "gate", "model", "version", "required": [name, …]}`
    with `{"id", "run_id", "model_id", "fingerprint", "gate", "override", "missing"}`, the fields of a
    GateEvidence; and `{"id", "op": "locate", "model", "version", "cache_dir", "described"}` with
    `{"id", "directory"}`, null unless the version's files, or what describes it, are in the cache. Orders
    may carry `seconds`, within which they are to be answered. Each may be answered with `{"id", "error",
    "message"}`; `error` is unavailable, unknown_model, refused or replaced. After replaced the process ends:
    a fresh one opens the new database.
    """
    channel = Channel(sock)
    settings = channel.receive()
    if settings is None:
        return
    limits = RequestLimits()
    registry = open_registry(settings.header, limits)
    from router.agent.poll import Poll  # here, not above: MLflow reads the environment at import

    poll = Poll()
    operations: Operations = {
        "poll": lambda order: _poll(registry, poll, order),
        "registrations": lambda order: _registrations(registry, order),
        "gate": lambda order: _gate(registry, order),
        "locate": lambda order: _locate(registry, order),
        "recall": lambda order: _recall(registry, order),
        "remember": lambda order: _remember(registry, order),
    }
    if not _send(channel, {"id": settings.header["id"], "op": "ready"}):
        return
    while (request := channel.receive()) is not None:
        limits.begin(request.header.get("seconds"))
        answer = _answer(operations, request.header)
        sent = _send(channel, {"id": request.header["id"], **answer})
        if not sent or answer.get("error") == "replaced":
            return


def _send(channel: Channel, header: Mapping[str, Any]) -> bool:
    """Whether the gateway is still there to read it."""
    try:
        channel.send(header)
    except OSError:
        return False
    return True


def _answer(operations: Operations, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return operations[request["op"]](request)
    except Exception as error:  # noqa: BLE001 # whatever MLflow or a driver raises is an answer, not our end
        return {"error": kind_of(error), "message": _message_of(error)}


def _message_of(error: Exception) -> str:
    line = redact_line(str(error) or repr(error), _LONGEST_ERROR)
    before, quoted, body = line.partition(_BODY)
    return line if len(body) <= _LONGEST_BODY else f"{before}{quoted}{body[:_LONGEST_BODY]}…"


def _poll(registry: Any, poll: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    named = poll.read(registry.client(), request["model"], request["aliases"])
    newer = registry.newer_schema
    return {**named, "newer_schema": asdict(newer)} if newer else named


def _registrations(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "registrations": [_registration(registry, model, number) for model, number in request["versions"]]
    }


def _registration(registry: Any, model: str, number: int) -> str:
    from mlflow.exceptions import MlflowException

    from router.agent.source import read_registration

    try:
        registration = read_registration(registry, model, number)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        return "absent"  # which is news, too, when it was there before or comes later
    return f"{registration.status} {registration.fingerprint}"


def _gate(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from router.agent.gate import read_evidence

    found = read_evidence(registry, request["model"], request["version"], request["required"])
    return {
        "run_id": found.of.run_id,
        "model_id": found.of.model_id,
        "fingerprint": found.of.fingerprint,
        "gate": found.gate_tag,
        "override": found.override_tag,
        "missing": found.missing,
    }


def _locate(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from router.agent.source import read_fingerprint

    model, number = request["model"], request["version"]
    fingerprint = read_fingerprint(registry, model, number)
    cache_dir, described = Path(request["cache_dir"]), request["described"]
    place = cache.place_of(cache_dir, model, number, fingerprint, described=described)
    return {"directory": str(place / FILES) if cache.is_complete(place) else None}


def _recall(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    directory = cache.model_directory(Path(request["cache_dir"]), request["model"])
    record = last_good.read(directory, request["model"], last_good.identity_of(registry.given_uri))
    return {"aliases": {alias: entry.version for alias, entry in record.items()}}


def _remember(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    served = {alias: (version, files) for alias, (version, files) in request["served"].items()}
    identity = last_good.identity_of(registry.given_uri)
    cache_dir = Path(request["cache_dir"])
    last_good.remember(cache_dir, request["model"], identity, served, request["pending"])
    return {}
