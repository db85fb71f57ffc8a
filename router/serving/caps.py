"""The caps that hold in this gateway at this moment, and the breakers that are open by their records."""

from typing import Protocol

from router.core.caps import BreakGlass, CapRecord, Caps, CapTarget
from router.core.ids import Alias, VersionId


class BreakerRecords(Protocol):
    """Keeps which breakers are open, beyond this process and for other gateways."""

    def breaker_opened(self, alias: Alias, version: VersionId, why: str) -> None:
        """It opened here; without effect where it is recorded as open."""

    def breaker_closed(self, alias: Alias, version: VersionId, why: str) -> None:
        """It was open, and is made anew: at once, or once its version serves again."""


class CapsInForce:
    """Read by each model whenever it publishes its routes.

    Whoever replaces `caps` or `break_glass` has the models publish anew in the same turn of the event loop
    (`ModelSet.caps_changed`); `control.caps.CapControl` is the one that does.
    """

    def __init__(self) -> None:
        self.caps = Caps()
        self.break_glass: BreakGlass | None = None
        """While it is there, every alias but production is capped at 0."""
        self.breakers: BreakerRecords | None = None
        """None: nothing is kept of them."""

    def share_of(self, model: str, alias: Alias, version: int) -> int | None:
        """Buckets, of 100 000, that `version` keeps under `alias`, which is not production; None without a
        cap."""
        return 0 if self.break_glass is not None else self.caps.share_of(model, alias, version)

    def breaker_record(self, alias: Alias, version: VersionId) -> CapRecord | None:
        """The newest word on the breaker of `version` under `alias`; None where nothing is known of it."""
        return self.caps.records.get(CapTarget(version.model, alias, version.number, breaker=True))
