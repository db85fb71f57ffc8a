"""A configuration file of Ray Serve that runs versions where a gateway looks for them. Pure.

Serve ends each application that a deployed file does not have. So every version is an application of its own,
and is added to the file that was deployed last.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from router.core.version_address import PLACEHOLDER, VersionAddress, default_path
from router.core.version_manifests import NotRendered

IMPORT_PATH = "router.ray_serve.application:application"
APPLICATIONS = "applications"
"""Key of the list in the file."""
DEPLOYMENT = "Version"
"""Name of the deployment in each application."""
PORT = 8000
"""On which Serve listens by itself."""
MOST_REQUESTS = 1000
"""At one replica. Gateways bound what they send, and a probe must not wait for a request to end."""
LEAST_GRACE_SECONDS = 20.0
"""Serve's own time for requests under way at a replica that is ended."""
_LOWEST_FREE_PORT = 1024
_PREFIX = re.compile(r"(?!/-(?:/|$))(?:/[A-Za-z0-9._~-]+)*")
"""Below /-/ Serve answers itself."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class VersionOnRay:
    """One version, and where the gateway will look for it."""

    model: str
    number: int
    address: VersionAddress
    registry: str
    """Where `models:/NAME/VERSION` is looked up from within the cluster; without credentials."""
    source: str | None
    """Where the version's files lie, as MLflow reads it in the cluster; None: the registry is asked."""
    requirements: Sequence[str] | None
    """Plain requirements that its processes get; None: the cluster's Python has what it needs."""
    answers: Mapping[str, Any]
    """What the settings of its model say about answers, as arguments of the application."""
    predict_timeout_seconds: float


def new_file(base: str) -> dict[str, Any]:
    """A file without applications. `base`: scheme, host and port of `where.http`."""
    port = urlsplit(base.replace(PLACEHOLDER, "1")).port or PORT
    return {
        "http_options": {"host": "0.0.0.0", "port": port if port >= _LOWEST_FREE_PORT else PORT},
        APPLICATIONS: [],
    }


@dataclass(frozen=True, slots=True)
class Added:
    """What became of versions that a file was to have."""

    new: Sequence[dict[str, Any]]
    """Applications that were added to it."""
    present: Sequence[str]
    """Names of those that it has already."""


def add_to(file: Any, wanted: Sequence[VersionOnRay]) -> Added:
    """Add applications for `wanted` to `file`, in their order; whatever is in it stays as it is.

    `file`: what was read of YAML, or `new_file`. Raises NotRendered, and has then added nothing.
    """
    there = file.get(APPLICATIONS) if isinstance(file, Mapping) else None
    if not isinstance(there, list) or not all(isinstance(one, Mapping) for one in there):
        raise NotRendered("it is no configuration file of Ray Serve: it has no list of applications")
    all_of_it, present, new = list(there), [], []
    for one in map(_application, wanted):
        if any(_is_same(one, other) for other in all_of_it):
            present.append(one["name"])
        elif clash := next((other for other in all_of_it if _clash(one, other)), None):
            raise NotRendered(
                f"another application ({_of_whom(clash)}) has the name {one['name']} or the route prefix"
                f" {one['route_prefix']}: each version of each model has its own, by the model's name and"
                " {version} in where.path"
            )
        else:
            all_of_it.append(one)
            new.append(one)
    there.extend(new)
    return Added(new, present)


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is the same version at the same place; whatever else its entry says."""
    return _place(one) == _place(other) and _version(one) == _version(other)


def _clash(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(mine == theirs for mine, theirs in zip(_place(one), _place(other), strict=True))


def _place(application: Mapping[str, Any]) -> tuple[str, str]:
    """Name and route prefix, by Serve's own defaults."""
    return str(application.get("name", "default")), str(application.get("route_prefix", "/"))


def _version(application: Mapping[str, Any]) -> tuple[Any, Any]:
    args = application.get("args")
    return (args.get("model"), args.get("version")) if isinstance(args, Mapping) else (None, None)


def _of_whom(application: Mapping[str, Any]) -> str:
    model, number = _version(application)
    return "of others" if model is None else f"{model} {number}"


def _application(wanted: VersionOnRay) -> dict[str, Any]:
    prefix = _route_prefix(wanted)
    environment: dict[str, Any] = {}
    if wanted.requirements is not None:
        environment["pip"] = list(wanted.requirements)
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    if wanted.registry.startswith(("http://", "https://")):
        # A source may be looked up there, too: models:/, runs:/ and mlflow-artifacts:/ name no host.
        variables["MLFLOW_TRACKING_URI"] = wanted.registry
    elif wanted.source is None:
        raise NotRendered("Ray does not reach this registry: name where its files lie by --source")
    name = prefix.strip("/").replace("/", "-") or f"{_NOT_IN_NAMES.sub('-', wanted.model)}-v{wanted.number}"
    return {
        "name": name,
        "route_prefix": prefix or "/",
        "import_path": IMPORT_PATH,
        "args": {
            "model": wanted.model,
            "version": wanted.number,
            "source": wanted.source or f"models:/{wanted.model}/{wanted.number}",
            **wanted.answers,
            "predict_timeout_seconds": wanted.predict_timeout_seconds,
        },
        "runtime_env": {**environment, "env_vars": variables},
        "deployments": [
            {
                "name": DEPLOYMENT,
                "num_replicas": 1,
                "max_ongoing_requests": MOST_REQUESTS,
                # A replica that is ended answers first what it has.
                "graceful_shutdown_timeout_s": max(LEAST_GRACE_SECONDS, wanted.predict_timeout_seconds),
                "ray_actor_options": {"num_cpus": 1},
            }
        ],
    }


def _route_prefix(wanted: VersionOnRay) -> str:
    """What of the path is before the protocol's own; empty where nothing is."""
    own = default_path(wanted.address.engine, wanted.model)
    path = urlsplit(wanted.address.infer).path
    if not path.endswith(own) or not _PREFIX.fullmatch(path.removesuffix(own)):
        raise NotRendered(
            f"an application answers below its route prefix: say where.path: /NAME-v{PLACEHOLDER}{own},"
            " where NAME has letters, digits, dots and dashes"
        )
    return path.removesuffix(own)
