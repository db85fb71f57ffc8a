"""Facts about the state directory: whether what must outlive this gateway is on disk."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateNotDurable:
    """What changes from now on is lost with this process; said once for each reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class StateDurable:
    """Caps and journal are on disk, after they were not."""


@dataclass(frozen=True, slots=True)
class StateWriteFailed:
    """One try to read or write the state directory failed; the next one follows within a second."""

    error: str


@dataclass(frozen=True, slots=True)
class StateSetAside:
    """A file of the state directory could not be read: nothing of it counts."""

    name: str
    """What it is called now: another name than before, unless another gateway may still be using it."""
    why: str


@dataclass(frozen=True, slots=True)
class JournalCut:
    """The journal ended in the middle of a line, as when a machine goes down; that part was cut off."""

    size: int
    """Bytes."""


OfState = StateNotDurable | StateDurable | StateWriteFailed | StateSetAside | JournalCut
