"""Facts of shadow requests: copies of what production was asked, which a canary answers and nobody gets."""

from dataclasses import dataclass
from enum import StrEnum

from router.core.ids import Alias, VersionId
from router.core.split import Split


class ShadowDropReason(StrEnum):
    """Why a request that was to be shadowed was not compared; values of the label `reason`."""

    BUSY = "busy"
    """The machine has no idle processors, or a queue waits."""
    QUEUE_FULL = "queue_full"
    """As many shadows wait as may."""
    UNKNOWN = "unknown"
    """It timed out, was refused, or its version left meanwhile: what would have come is not known."""


@dataclass(frozen=True, slots=True)
class ShadowCompared:
    """A canary answered, or failed by itself, a copy of a request that production answered or failed.

    Only faults that a version makes by itself count: it raised, ended, or answered all NaN or a wrong length.
    Where either side timed out or was refused, nothing was compared.
    """

    alias: Alias
    version: VersionId
    """The canary's."""
    production: VersionId
    split: Split
    """By which the request was routed to production."""
    bucket: int
    """0 to 99 999, of production's range."""
    production_fault: bool
    canary_fault: bool
    same_type: bool = True
    """Whether both answers are of one JSON type per value; True where either failed; so are the next two."""
    same_length: bool = True
    flips: int = 0
    """Rows whose label, by the model's cut-off or class, is another one."""
    rows: int = 0
    """That were compared; 0 where either failed."""
    difference: float | None = None
    """Of the first row's score, the canary's minus production's; None where either has none."""
    production_seconds: float = 0.0
    """Of the predict that held the request; so is the next."""
    canary_seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether nobody could tell the answers apart by type, length or label, and neither failed alone."""
        same = self.same_type and self.same_length and not self.flips
        return same and self.production_fault == self.canary_fault


@dataclass(frozen=True, slots=True)
class ShadowDropped:
    """A request that was to be shadowed was not compared."""

    alias: Alias
    version: VersionId
    reason: ShadowDropReason


OfShadow = ShadowCompared | ShadowDropped
