"""Facts about the Python environments that are built for versions, and kept in the cache."""

from dataclasses import dataclass

from router.core.ids import VersionId
from router.core.version_environment import VersionEnvironment


@dataclass(frozen=True, slots=True)
class EnvironmentBuilt:
    """A version's own environment was made; one that was found ready is not reported."""

    version: VersionId
    about: VersionEnvironment
    resolved_seconds: float
    """Of its build seconds, how long resolving took; 0 where its pins were kept from before."""


@dataclass(frozen=True, slots=True)
class EnvironmentRebuilt:
    """An environment was not as it had been built: another one was built in its place, or what had been added
    to it was removed."""

    version: VersionId
    """Which needed it."""
    why: str
    """Names what had changed, and the versions that had used it."""


@dataclass(frozen=True, slots=True)
class EnvironmentsRemoved:
    """Environments, or what was downloaded for them, were removed because nothing needs them."""

    names: tuple[str, ...]
    """The first 12 digits of each one's key; `packages` for the cache of packages."""
    size: int
    """Bytes that went."""
    left_bytes: int
    """What all that is left takes."""


@dataclass(frozen=True, slots=True)
class EnvironmentsOverBound:
    """Environments take more than they may, and everything that is left of them is needed."""

    left_bytes: int
    bound_bytes: int


OfEnvironments = EnvironmentBuilt | EnvironmentRebuilt | EnvironmentsRemoved | EnvironmentsOverBound
