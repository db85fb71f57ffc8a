"""What a process that can say FAIL has to show for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proof:
    """One of the two processes of a check that can say FAIL."""

    ln_e: float
    level: float
    """ln(1/α) that `ln_e` must reach."""
    proven: bool
    """By keys, and where it is about latency by blocks of time, too."""
    large: bool
    """Whether the rise is at least `limit`, since the process began (in this step) or in the last five
    minutes, with requests and hit keys enough to say so."""
