"""Whether one more request may join a version's queue. Pure: time comes in as an argument."""

from collections import deque
from collections.abc import Sequence

LEARNED_FROM = 64
"""Answers that tell what a request costs."""
_LOOK_EVERY = 8
MANY = 1 << 20
CALM_SECONDS = 1.0
CALM_REQUESTS = 8
"""A queue that is over in this time, or that is no more than these requests per worker, is always good."""
BURST_SECONDS = 0.5
"""How long after it was empty a queue takes requests beyond that: a burst comes once, overload stays."""
SHARED_AS_ONE = 1.5
"""A predict that took no longer than so many times the fastest one cost as much as one request."""
FRAME_SECONDS = 0.05
"""Work that is handed to a worker at once. What is handed over can not be dropped or given to another."""


class Admission:
    """Learns what requests cost one version, and refuses what would only make everybody wait."""

    def __init__(self) -> None:
        self.typical_seconds = 0.0
        """Median time that a request costs a worker, its part of a shared predict; 0.0 until known. One slow
        caller does not move it."""
        self.predict_seconds = 0.0
        """Median time of a predict, shared or not."""
        self.fastest_seconds = 0.0
        """Least time of a predict, among the last."""
        self._costs: deque[float] = deque(maxlen=LEARNED_FROM)
        self._predicts: deque[float] = deque(maxlen=LEARNED_FROM)
        self._rows: deque[tuple[int, int]] = deque(maxlen=LEARNED_FROM)
        self._rows_per_byte = 0.0
        self._learned = 0
        self._merges = False
        self.last_requests = 0
        """Of the last predict."""
        self._last_seconds = 0.0
        self._empty_at = 0.0

    def heed(self, *, merges: bool) -> None:
        """Requests share predicts or not; where that is new, what they cost is learned anew."""
        if merges is self._merges:
            return
        self._merges = merges
        self.typical_seconds = self.predict_seconds = self.fastest_seconds = 0.0
        self._costs.clear()
        self._predicts.clear()
        self._learned = self.last_requests = 0

    def learn(self, seconds: float, rows: Sequence[int], sizes: Sequence[int]) -> None:
        """A predict of some requests took a worker `seconds`.

        `rows` and `sizes` in bytes per request; 0 rows: it was refused.
        """
        self.last_requests, self._last_seconds = len(sizes), seconds
        self._predicts.append(seconds)
        self._costs.append(seconds / len(sizes))
        if 0 not in rows and (size := sum(sizes)):
            self._rows.append((sum(rows), size))
        self._learned += 1
        if self._learned <= _LOOK_EVERY or self._learned % _LOOK_EVERY == 0:
            ordered = sorted(self._predicts)
            self.fastest_seconds, self.predict_seconds = ordered[0], ordered[len(ordered) // 2]
            self.typical_seconds = sorted(self._costs)[len(self._costs) // 2]
            rows_known, bytes_known = map(sum, zip(*self._rows, strict=True)) if self._rows else (0, 1)
            self._rows_per_byte = rows_known / bytes_known

    def rows_in(self, size: int) -> int:
        """Rows of a request of `size` bytes, by those answered so far; at least 1."""
        return max(1, round(size * self._rows_per_byte))

    def admits(self, now: float, *, waiting: int, workers: int, seconds_left: float) -> bool:
        """Whether a request with `seconds_left` may join `waiting` others before `workers` at `now`.

        No, when it could not be answered in time. No, when the queue is longer than calm and has not been
        empty for longer than a burst lasts: then it takes up no peak, it only makes every caller wait.
        """
        if waiting == 0:
            self._empty_at = now
            return True
        wait = waiting * self.typical_seconds / max(workers, 1)
        calm = max(CALM_SECONDS, CALM_REQUESTS * self.typical_seconds)
        return wait <= seconds_left and (wait <= calm or now - self._empty_at <= BURST_SECONDS)

    def requests_at_once(self) -> int:
        """How many requests a worker is handed at once; at least 1.

        Twice as many as last time where those took hardly longer than one: what they cost together is only
        known once it was tried.
        """
        if not self.typical_seconds:
            return MANY
        most = max(1, int(FRAME_SECONDS / self.typical_seconds))
        as_one = self._last_seconds <= max(FRAME_SECONDS, SHARED_AS_ONE * self.fastest_seconds)
        return max(most, 2 * self.last_requests) if as_one else most
