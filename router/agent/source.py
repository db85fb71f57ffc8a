"""Where the files of a registered version lie, and whether they may be read there. Nothing is written."""

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlparse

import orjson

from router.agent.errors import VersionAbsent, VersionRefused
from router.agent.manifest import MODEL_FILE
from router.core.artifact_source import AllowedSources, local_path

_REGISTERED = "READY"
_DEEPEST = 5
"""`models:/a/1` may point at `models:/b/2`, and so on; more is a loop."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one version's files come from."""

    uri: str
    """An artifact location; never `models:` or `runs:`."""
    fingerprint: str
    """12 hex digits that differ when a registry was made anew and numbers its versions from 1 again."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registry says of one version."""

    status: str
    """READY, PENDING_REGISTRATION or FAILED_REGISTRATION."""
    fingerprint: str
    """As in `Source`."""


def read_source(registry: Any, model: str, number: int) -> Source:
    """Ask `registry` (a `store.Registry`) about one version.

    Raises VersionAbsent, VersionRefused and MLflow's errors.
    """
    fingerprint = read_fingerprint(registry, model, number)
    uri = registry.client().get_model_version_download_uri(model, str(number))
    return Source(_location(registry, uri), fingerprint)


def read_fingerprint(registry: Any, model: str, number: int) -> str:
    """What differs between all versions that ever had its name and number. Raises VersionAbsent."""
    registration = read_registration(registry, model, number)
    if registration.status != _REGISTERED:
        raise VersionAbsent(f"its registration is {registration.status}")
    return registration.fingerprint


def read_registration(registry: Any, model: str, number: int) -> Registration:
    """One read of `registry`. Raises MLflow's errors, also for a version that it does not have."""
    version = read_version(registry, model, number)
    return Registration(str(version.status or _REGISTERED), fingerprint_of(version))


def read_version(registry: Any, model: str, number: int) -> Any:
    """MLflow's ModelVersion, by one read of `registry`. Raises MLflow's errors and ConnectionError."""
    version = registry.client().get_model_version(model, str(number))
    if int(version.version) != number:
        raise ConnectionError("the registry's answer does not name the version")
    return version


def fingerprint_of(version: Any) -> str:
    """That of a `Registration`, of MLflow's ModelVersion."""
    facts = [version.creation_timestamp, version.source, version.run_id or None, version.model_id or None]
    return sha256(orjson.dumps(facts)).hexdigest()[:12]


def _location(registry: Any, uri: str, depth: int = 0) -> str:
    # `download_artifacts("models:/…")` would write registered_model_meta into a local artifact store, and
    # `@alias` would be resolved again: both end here.
    parts = urlparse(uri, allow_fragments=False)
    if depth > _DEEPEST:
        raise VersionRefused("its source is a chain of model versions without an end")
    if parts.scheme == "models":
        match parts.path.strip("/").split("/"):
            case [name, number] if number.isdecimal():
                deeper = registry.client().get_model_version_download_uri(name, number)
                return _location(registry, deeper, depth + 1)
            case [model_id] if model_id and "@" not in model_id:
                return str(registry.tracking().get_logged_model(model_id).artifact_location)
        raise VersionRefused(f"its source {uri} names no fixed version")
    if parts.scheme == "runs":
        return _run_location(registry, uri)
    return uri


def _run_location(registry: Any, uri: str) -> str:
    """A run's folder or, as MLflow 3 logs models, the LoggedModel of that name among the run's outputs."""
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
    client = registry.tracking()
    outputs = client.get_run(run_id).outputs
    for output in sorted(outputs.model_outputs, key=lambda each: -each.step) if outputs else ():
        logged = client.get_logged_model(output.model_id)
        if logged.name == path:
            return str(logged.artifact_location)
    return str(RunsArtifactRepository.get_underlying_uri(uri, registry.tracking_uri))


def check_source(uri: str, allowed: AllowedSources) -> None:
    """Raise VersionRefused, naming `uri`, before anything of it is listed or read.

    Raises VersionAbsent where an allowed directory of this machine holds no version.
    """
    if (refusal := allowed.refusal(uri)) is not None:
        raise VersionRefused(refusal)
    path = local_path(uri)
    if path is None:
        return
    # Links are followed by whoever copies: where they end counts, not where they stand.
    real = os.path.realpath(path)
    roots = [os.path.realpath(local_path(root) or "/") for root in allowed.local_roots]
    if roots and not any(os.path.commonpath([real, root]) == root for root in roots):
        raise VersionRefused(f"its source {uri!r} leads out of registry.artifact_roots by a symbolic link")
    # Any directory has a listing; only a version has this file.
    if not os.path.isfile(os.path.join(real, MODEL_FILE)):
        raise VersionAbsent(f"there is no {MODEL_FILE} file at its source {uri!r}")
