"""The agent: a process that asks the registry, one read per registered model and poll, and nothing else."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.agent import cache
from router.agent import last_known_good as last_good
from router.agent.bootstrap import open_registry
from router.agent.errors import RegistryRefused, RegistryReplaced
from router.agent.manifest import FILES
from router.core.redaction import redact_line
from router.protocol.channel import Channel

# With MLflow's own, a refused port blocks for 247 s and a silent one for 120 s per try.
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "INVALID_PARAMETER_VALUE")
_UNKNOWN = "RESOURCE_DOES_NOT_EXIST"
_LAST_VERSION = 2**63 - 1  # no frame carries a longer number


def main(sock: socket.socket) -> None:
    """Serve polls until the socket ends.

    First frame: `registry_uri`, `tracking_uri`, `environment`. It is answered with `{"id", "op": "ready"}`
    after the imports, and before the registry is asked anything. Then `{"id", "op": "poll", "model",
    "aliases"}` is answered with `{"id", "aliases": {name: version}, "stages": {stage: version}}`, where only
    the asked names appear, `{"id", "op": "registrations", "versions": [[model, version], …]}` with `{"id",
    "registrations": [text, …]}`, and `{"id", "op": "locate", "model", "version", "cache_dir"}` with `{"id",
    "directory"}`, null unless the version's files are in the cache. Each may be answered with `{"id",
    "error", "message"}`; `error` is unavailable, unknown_model, refused or replaced. After replaced the
    process ends: a fresh one opens the new database.
    """
    channel = Channel(sock)
    settings = channel.receive()
    if settings is None:
        return
    registry = open_registry(settings.header, LIMITS)
    if not _send(channel, {"id": settings.header["id"], "op": "ready"}):
        return
    while (request := channel.receive()) is not None:
        answer = _answer(registry, request.header)
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


def _answer(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return _OPERATIONS[request["op"]](registry, request)
    except Exception as error:  # noqa: BLE001 # whatever MLflow or a driver raises is an answer, not our end
        return {"error": _kind(error), "message": redact_line(str(error) or repr(error))}


def _poll(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    model = request["model"]
    found = registry.client().get_registered_model(model)
    # MLflow reads an empty 200 as an empty object: which must not look like "no aliases".
    if found.name != model:
        raise ConnectionError(f"the registry's answer is about {found.name!r}")
    return _aliases_and_stages(found, set(request["aliases"]))


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
        if error.error_code != _UNKNOWN:
            raise
        return "absent"  # which is news, too, when it was there before or comes later
    return f"{registration.status} {registration.fingerprint}"


def _locate(registry: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from router.agent.source import read_fingerprint

    model, number = request["model"], request["version"]
    fingerprint = read_fingerprint(registry, model, number)
    place = cache.place_of(Path(request["cache_dir"]), model, number, fingerprint)
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


_OPERATIONS = {
    "poll": _poll,
    "registrations": _registrations,
    "locate": _locate,
    "recall": _recall,
    "remember": _remember,
}


def _aliases_and_stages(found: Any, names: set[str]) -> dict[str, dict[str, int]]:
    """Aliases asked for, and the highest version of each stage asked for by its lower-case name."""
    wanted = {name.partition(":")[2].lower() for name in names}  # "stage:Production"
    stages: dict[str, int] = {}
    for version in found.latest_versions:
        stage = str(version.current_stage).lower()
        if stage in wanted:
            stages[stage] = max(_number(version.version), stages.get(stage, 0))
    aliases = {name: _number(version) for name, version in found.aliases.items() if name in names}
    return {"aliases": aliases, "stages": stages}


def _number(version: Any) -> int:
    """Versions are int on SQL stores and str over REST. Raises ValueError for what no registry gives."""
    number = int(version)
    if not 1 <= number <= _LAST_VERSION:
        raise ValueError(f"the registry's answer names the version {number}, which cannot exist")
    return number


def _kind(error: Exception) -> str:
    from mlflow.exceptions import MlflowException

    if isinstance(error, RegistryReplaced):
        return "replaced"
    if isinstance(error, RegistryRefused):
        return "refused"
    if not isinstance(error, MlflowException):
        return "unavailable"
    if error.error_code == _UNKNOWN:
        return "unknown_model"  # a 404 that is not MLflow's own has another code
    return "refused" if error.error_code in _REFUSALS else "unavailable"
