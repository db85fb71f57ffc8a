"""The caps that hold in this gateway at this moment, and what is recorded of breakers and of the gate."""

from typing import Protocol

from router.core.caps import PREFLIGHT, BreakGlass, CapRecord, Caps, CapTarget
from router.core.ids import CANARY, Alias, VersionId


class BreakerRecords(Protocol):
    """Keeps which breakers are open, beyond this process and for other gateways."""

    def breaker_opened(self, alias: Alias, version: VersionId, why: str) -> None:
        """It opened here; without effect where it is recorded as open."""

    def breaker_closed(self, alias: Alias, version: VersionId, why: str) -> None:
        """It was open, and is made anew: at once, or once its version serves again."""


class PassageRecords(Protocol):
    """Keeps which versions have passed the gate, beyond this process and for other gateways."""

    def passed(self, version: VersionId, why: str, *, override: bool) -> None:
        """It has, or an `override` lets it through; without effect where that is recorded."""

    def serves_no_more(self, version: VersionId) -> None:
        """It is to pass anew when it comes back; without effect where nothing says that it passed."""


class HoldRecords(Protocol):
    """Holds what failed its pre-flight, beyond this process and for other gateways."""

    def hold(self, alias: Alias, version: VersionId, why: str) -> None:
        """`version` gets nothing under `alias` until an operator resumes it."""


def passage_of(version: VersionId) -> CapTarget:
    """What the record is of that says that `version` has passed the gate."""
    return CapTarget(version.model, CANARY, version.number, passage=True)


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
        self.passages: PassageRecords | None = None
        """None: nothing is kept of what passed the gate."""

        self.holds: HoldRecords | None = None
        """None: nothing is held."""

    def share_of(self, model: str, alias: Alias, version: int) -> int | None:
        """Buckets, of 100 000, that `version` keeps under `alias`, which is not production; None without a
        cap."""
        return 0 if self.break_glass is not None else self.caps.share_of(model, alias, version)

    def breaker_record(self, alias: Alias, version: VersionId) -> CapRecord | None:
        """The newest word on the breaker of `version` under `alias`; None where nothing is known of it."""
        return self.caps.records.get(CapTarget(version.model, alias, version.number, breaker=True))

    def hold(self, alias: Alias, version: VersionId, why: str) -> None:
        """As `HoldRecords.hold`."""
        if self.holds is not None:
            self.holds.hold(alias, version, why)

    def is_held(self, alias: Alias, version: VersionId) -> bool:
        """Whether `version` failed its pre-flight for `alias`, here or elsewhere, and was not resumed."""
        record = self.caps.records.get(CapTarget(version.model, alias, version.number))
        return record is not None and record.holds

    def was_resumed(self, alias: Alias, version: VersionId) -> bool:
        """Whether an operator has resumed `version` since it last failed its pre-flight: that acts once."""
        record = self.caps.records.get(CapTarget(version.model, alias, version.number))
        return record is not None and record.alert == PREFLIGHT and record.share is None

    def passage(self, version: VersionId) -> CapRecord | None:
        """What says that the gate let `version` through, and that it has served since; None: nothing does."""
        record = self.caps.records.get(passage_of(version))
        return record if record is not None and record.share is None else None
