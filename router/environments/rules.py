"""What the operator allows of environments, and what each holds for the gateway's own part in it."""

from importlib.metadata import version as installed_version
from typing import Any, Literal, Self

import msgspec

from router.core.version_environment import GATEWAYS_OWN

BOUNDS = ("numpy>=1.26", "pandas>=2.2")
"""Within these the version's own stand."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The order's part about what may be built, and how; lists of requirements are plain ones, one each."""

    python: tuple[str, ...] = ()
    """Absolute paths of interpreters beside those that are found."""
    python_mismatch: Literal["refuse", "nearest"] = "refuse"
    only_binary: bool = True
    exclude_newer: Literal["auto", "off"] = "auto"
    extra: tuple[str, ...] = ()
    """The operator's requirements for every environment."""
    own: tuple[str, ...] = ()
    """Requirements that stand in the place of the version's for the same packages; see `own_requirements`."""
    bounds: tuple[str, ...] = BOUNDS
    """Requirements that are not installed, and narrow what is."""

    @classmethod
    def from_frame(cls, frame: dict[str, Any]) -> Self:
        """Of an order. Raises msgspec.ValidationError."""
        return msgspec.convert(frame, cls)


def own_requirements() -> tuple[str, ...]:
    """The packages of GATEWAYS_OWN, in the versions that are installed where this runs."""
    return tuple(f"{name}=={installed_version(name)}" for name in GATEWAYS_OWN)
