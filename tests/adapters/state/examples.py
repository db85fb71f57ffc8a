"""Caps and lines of an imaginary gateway."""

from router.core.caps import CapRecord, Caps, CapTarget
from router.core.ids import CANARY
from router.core.journal import BEGINNING, Entry, encode

V8 = CapTarget("sentiment", CANARY, 8)
V9 = CapTarget("sentiment", CANARY, 9)
ANY = CapTarget("churn", CANARY)


def capped(target: CapTarget = V8, share: int | None = 0, counter: int = 1, at: float = 1000.0) -> Caps:
    return Caps({target: CapRecord(counter, share, "ann", "too many faults", at)})


def a_line(at: float, prev: str = BEGINNING, size: int = 0) -> bytes:
    """One line of a journal, that is `size` bytes larger than it need be."""
    return encode(Entry(at, "gw-1:4711", "verdict", {"why": "x" * size}), prev)
