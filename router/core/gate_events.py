"""Facts about the gate: what an alias serves has passed it, or has not."""

from dataclasses import dataclass

from router.core.ids import Alias, VersionId


@dataclass(frozen=True, slots=True)
class GatePassed:
    """What an alias serves has passed the gate, or is let through by an override."""

    model: str
    alias: Alias
    version: VersionId
    by_what: str
    """The record, or who lets it through until when and why, in a sentence."""
    override: bool
    """Whether it is let through without having passed."""
    after_all: bool
    """Whether it was reported before that it has not."""


@dataclass(frozen=True, slots=True)
class GateNotPassed:
    """What an alias serves has not passed the gate; said again where other things speak against it."""

    model: str
    alias: Alias
    version: VersionId
    objections: tuple[str, ...]
    """Values of `core.gate_record.Objection`."""
    why: str
    held: bool
    """Whether it gets no requests for that. Never of production, which is only reported."""


OfGate = GatePassed | GateNotPassed
