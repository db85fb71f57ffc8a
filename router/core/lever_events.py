"""Facts about what lowers the shares of canaries by somebody's will, and gives them back."""

from dataclasses import dataclass, field

from router.core.ids import Alias, VersionId


@dataclass(frozen=True, slots=True)
class CapSet:
    """What an alias serves has a smaller share than the configured one from now on."""

    model: str
    alias: Alias
    version: VersionId | None
    """None: whatever it serves."""
    share: float
    """What it keeps at most, 0 to 1."""
    by: str
    why: str
    at: float = field(default=0.0, compare=False)
    """When it was set, in seconds since 1970: the same at every gateway that comes to know it."""


@dataclass(frozen=True, slots=True)
class CapLifted:
    """A cap is gone: the configured share holds again, as far as no other cap or breaker is there."""

    model: str
    alias: Alias
    version: VersionId | None
    by: str
    why: str
    at: float = field(default=0.0, compare=False)
    """When it was lifted, as in `CapSet`."""


@dataclass(frozen=True, slots=True)
class BreakGlassOn:
    """Every canary is off from now on; or is off still, for another reason."""

    why: str


@dataclass(frozen=True, slots=True)
class BreakGlassOff:
    """Canaries have their shares back, as far as no cap or breaker is there."""

    why: str


@dataclass(frozen=True, slots=True)
class MoveExplained:
    """Somebody moved aliases of this model in the registry, and says so; what moved is seen there."""

    model: str
    by: str
    why: str


OfLevers = MoveExplained | CapSet | CapLifted | BreakGlassOn | BreakGlassOff
