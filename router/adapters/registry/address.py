"""What the child processes that talk to the registry and the artifact store are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.children.environment import child_environment
from router.core.artifact_source import STORES

GIB = 1 << 30
_OURS = "CANARY_ROUTER_"


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where the registry is, and the environment that its clients need."""

    registry_uri: str = field(repr=False)  # any of these may hold a password
    tracking_uri: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)

    def frame(self) -> dict[str, Any]:
        """The first frame of an agent or a download; it carries credentials and is never shown."""
        return {
            "registry_uri": self.registry_uri,
            "tracking_uri": self.tracking_uri,
            "environment": dict(self.environment),
        }


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be downloaded, from where, and how much of it is kept."""

    max_bytes: int = 20 * GIB
    """Of the cache. Above it, copies that nobody uses are removed."""
    schemes: Sequence[str] = STORES
    roots: Sequence[str] = ()
    registry_is_local: bool = True
    tracking_uri: str = ""

    def frame(self) -> dict[str, Any]:
        """The part of a download's order that says so."""
        allowed = {
            "schemes": list(self.schemes),
            "roots": list(self.roots),
            "any_local": self.registry_is_local,
            "tracking_uri": self.tracking_uri,
        }
        return {"allowed": allowed, "cache_max_bytes": self.max_bytes}


def registry_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children do not start with, such as `MLFLOW_TRACKING_TOKEN` or `AWS_…`.

    A worker, which runs a version's code, never sees it; who talks to the registry gets it in a frame.
    """
    withheld = environ.keys() - child_environment(environ).keys()
    return {name: environ[name] for name in sorted(withheld) if not name.startswith(_OURS)}
