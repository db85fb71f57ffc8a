"""How much of the processors was idle lately. Pure: readings and time come in as arguments."""

from collections import deque
from dataclasses import dataclass

WINDOW_SECONDS = 10.0
LEAST_SECONDS = 2.0
"""That readings have to lie apart: until then nothing is known."""


@dataclass(frozen=True, slots=True)
class ProcessorReading:
    """What processors have done since some moment of long ago."""

    idle: float
    """Seconds in which they were idle, in all."""
    whole: float
    """Seconds that there were, in all."""
    quotas: tuple[tuple[float, float], ...] = ()
    """Of each cgroup that has a quota: processor seconds that it used, and how many processors it may use.
    In the same order in each reading."""


class IdleShare:
    """The share of the time that the processors of this gateway were idle, over the last 10 s."""

    def __init__(self) -> None:
        self.share: float | None = None
        """0 to 1; None while it is not known."""
        self._readings: deque[tuple[float, ProcessorReading]] = deque()

    def add(self, now: float, reading: ProcessorReading) -> None:
        """One more reading, at `now` in seconds of a monotonic clock: one a second is enough."""
        readings = self._readings
        readings.append((now, reading))
        while len(readings) > 2 and readings[1][0] <= now - WINDOW_SECONDS:
            readings.popleft()
        since, first = readings[0]
        self.share = _share(first, reading, now - since) if now - since >= LEAST_SECONDS else None

    def forget(self) -> None:
        """Nobody asks any more; what is read later begins anew."""
        self._readings.clear()
        self.share = None


def _share(first: ProcessorReading, last: ProcessorReading, seconds: float) -> float:
    """Of the machine, or what a quota leaves, whichever is less."""
    whole = last.whole - first.whole
    shares = [(last.idle - first.idle) / whole if whole > 0 else 0.0]
    if len(first.quotas) == len(last.quotas):  # else a quota came or went meanwhile
        pairs = zip(first.quotas, last.quotas, strict=True)
        shares += [1.0 - (used - before) / (seconds * most) for (before, _), (used, most) in pairs]
    return min(1.0, max(0.0, min(shares)))
