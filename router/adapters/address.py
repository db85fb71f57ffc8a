"""Where the registry is and what opens it, as the processes that talk to it are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.processes.environment import child_environment

_OURS = "CANARY_ROUTER_"


@dataclass(frozen=True, slots=True)
class Address:
    """A registry and the environment its clients need."""

    registry_uri: str = field(repr=False)  # none of it is for anybody's eyes
    tracking_uri: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)

    def frame(self) -> dict[str, Any]:
        """The first frame of an agent or a download; it carries credentials and is never shown."""
        return {
            "registry_uri": self.registry_uri,
            "tracking_uri": self.tracking_uri,
            "environment": dict(self.environment),
        }


def registry_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children are not born with, such as `MLFLOW_TRACKING_TOKEN` or `AWS_…`.

    A worker, which runs a version's code, never sees it; who talks to the registry gets it in a frame.
    """
    withheld = environ.keys() - child_environment(environ).keys()
    return {name: environ[name] for name in sorted(withheld) if not name.startswith(_OURS)}
