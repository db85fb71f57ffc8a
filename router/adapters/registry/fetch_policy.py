"""What may be fetched, from where, and how much of it is kept, as downloads are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.core.artifact_source import STORES

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Limits of every download of one gateway."""

    max_bytes: int = 20 * GIB
    """Above it, copies that nobody uses are removed."""
    schemes: Sequence[str] = STORES
    roots: Sequence[str] = ()
    registry_is_local: bool = True
    tracking_uri: str = ""

    def frame(self) -> dict[str, Any]:
        """The part of a download's order that they are."""
        allowed = {
            "schemes": list(self.schemes),
            "roots": list(self.roots),
            "any_local": self.registry_is_local,
            "tracking_uri": self.tracking_uri,
        }
        return {"allowed": allowed, "cache_max_bytes": self.max_bytes}
