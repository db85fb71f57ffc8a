"""How long to wait after failures in a row. Pure: time comes in as an argument."""

from dataclasses import dataclass, replace
from typing import Self

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row and the time of the next try; each change returns a new value.

    Times are in seconds of any one clock. Fresh and after `reset`, a try may begin at once.
    """

    delays: tuple[float, ...]
    """Seconds to wait after the first, second, … failure in a row; the last one repeats. Never empty."""
    failures: int = 0
    """Failures since the last success."""
    not_before: float = _NEVER
    """When the next try may begin; in the past of any clock when at once."""

    @property
    def seconds(self) -> float:
        """The wait that the last failure caused; 0.0 without one."""
        return self.delays[min(self.failures, len(self.delays)) - 1] if self.failures else 0.0

    def failed(self, now: float) -> Self:
        """One more failure in a row, at `now`."""
        counted = replace(self, failures=self.failures + 1)
        return replace(counted, not_before=now + counted.seconds)

    def reset(self) -> Self:
        """It succeeded, or what it failed for has changed."""
        return replace(self, failures=0, not_before=_NEVER)

    def allows(self, now: float) -> bool:
        """Whether a try may begin at `now`."""
        return now >= self.not_before
