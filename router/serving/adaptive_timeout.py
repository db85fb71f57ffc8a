"""How long a canary may take before production is asked instead."""

from collections import deque

FLOOR_SECONDS = 1.0
TIMES_P99 = 3.0
KNOWN_ANSWERS = 200
WINDOW = 1000


class AdaptiveTimeout:
    """Learns production's 99th percentile from its last 1 000 answers."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._until_next_look = KNOWN_ANSWERS
        self._p99: float | None = None

    def note(self, seconds: float) -> None:
        """Production took `seconds`, from arrival to answer."""
        self._seconds.append(seconds)
        self._until_next_look -= 1
        if self._until_next_look == 0:
            # Sorting a thousand numbers at every 200th answer is 0.2 µs an answer.
            self._until_next_look = KNOWN_ANSWERS
            self._p99 = sorted(self._seconds)[int(len(self._seconds) * 0.99)]

    def seconds(self, timeout_seconds: float, configured: float | None) -> float:
        """`configured`, or max(1, 3 × p99); half of the timeout at most, and until 200 answers are known."""
        if configured is not None:
            return configured
        half = timeout_seconds / 2
        return half if self._p99 is None else min(half, max(FLOOR_SECONDS, TIMES_P99 * self._p99))
