"""Medians and percentiles, and how one round is summed up."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Round:
    """One server under one load for a few seconds. Latencies are in milliseconds."""

    seconds: float
    requests: int
    failed: int
    """Lost connections, and answers that are no 2xx; a figure with any of them counts for nothing."""
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return (self.requests - self.failed) / self.seconds


def ratios(ours: Sequence[Round], theirs: Sequence[Round], figure: str) -> list[float]:
    """One of `Round`'s figures over that of another server, for each pair of neighbouring rounds."""
    return [getattr(one, figure) / getattr(other, figure) for one, other in zip(ours, theirs, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that `percent` of all values do not exceed. NaN when there is none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def growth(levels: Sequence[float]) -> float:
    """Late level over early level, each the median of some; 1.0 is flat. NaN with fewer than four.

    The first quarter does not count: caches fill and lazy imports happen once.
    """
    quarter = len(levels) // 4
    if not quarter:
        return float("nan")
    return median(levels[-quarter:]) / median(levels[quarter : 2 * quarter])
