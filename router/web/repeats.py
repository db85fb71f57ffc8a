"""What clients can cause as often as they like: it is reported, and does not fill the log."""

from collections import Counter
from collections.abc import Mapping

REPORT_SECONDS = 60.0
"""Between two reports."""


class Repeats:
    """Counts what happens, for a report when it first does and once a minute at most from then on."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next_at = float("-inf")

    def add(self, what: str) -> None:
        """It happened once more."""
        self._counts[what] += 1

    def take(self, now: float) -> Mapping[str, int]:
        """How often each happened since the last report; empty before the next one is due."""
        if not self._counts or now < self._next_at:
            return {}
        counts, self._counts = self._counts, Counter()
        self._next_at = now + REPORT_SECONDS
        return counts
