"""Which requests may join a version's queue, and how much work a worker is handed at once."""

from collections import deque
from collections.abc import Sequence
from math import ceil

from router.core.predict_cost import PredictCost

LEARNED_FROM = 64
"""Predicts from which is learned what they are like."""
_LOOK_EVERY = 8
MANY = 1 << 20
MAX_BATCH_REQUESTS = 64
CALM_SECONDS = 1.0
CALM_REQUESTS = 8
"""A queue that is over in this time, or that is no more than these requests per worker, is always good."""
BURST_SECONDS = 0.5
"""How long after it was empty a queue takes requests beyond that: a burst comes once, overload stays."""
BATCH_SECONDS = 0.05
"""Work that is handed to a worker at once. What is handed over can not be dropped or given to another."""
TIMES_FIXED = 10
"""Or rows that take so many times the fixed part of a predict, so that the time is nearly all their own. Half
as many would do; but where a machine is busy the fixed part is known roughly."""
TRIED = 8
"""Predicts of a size, among the last, after which it is known what that size costs."""


class Admission:
    """Learns what requests cost one version, and refuses what would only make everybody wait.

    Pure: time comes in as an argument, in seconds of any one clock.
    """

    def __init__(self) -> None:
        self.cost = PredictCost()
        self.predict_seconds = 0.0
        """Median time of a predict, shared or not."""
        self.fastest_seconds = 0.0
        """Least time of a predict, among the last."""
        self.last_requests = 0
        """Of the last predict."""
        self.rows_at_once = MANY
        """How many rows a worker is handed at once; at least 1. Kept, because every request reads it."""
        self._predicts: deque[float] = deque(maxlen=LEARNED_FROM)
        self._rows: deque[tuple[int, int, int]] = deque(maxlen=LEARNED_FROM)
        """Rows, bytes and requests of the last predicts."""
        self._rows_per_byte = 0.0
        self._merges = False
        self._empty_at = 0.0

    def note_batching(self, *, merges: bool) -> None:
        """Requests share predicts or not; where that is new, what they cost is learned anew."""
        if merges is self._merges:
            return
        self._merges = merges
        self.cost = PredictCost()
        self.predict_seconds = self.fastest_seconds = 0.0
        self._predicts.clear()
        self.last_requests, self.rows_at_once = 0, MANY

    def learn(self, seconds: float, rows: Sequence[int], sizes: Sequence[int]) -> None:
        """A predict of some requests took a worker `seconds`.

        `rows` and `sizes` in bytes per request; 0 rows: it was refused.
        """
        self.last_requests = len(sizes)
        self._predicts.append(seconds)
        self.cost.learn(max(1, sum(rows)), seconds)
        self.rows_at_once = _rows_at_once(self.cost)
        if 0 not in rows and (size := sum(sizes)):
            self._rows.append((sum(rows), size, len(sizes)))
        if self.cost.learned <= _LOOK_EVERY or self.cost.learned % _LOOK_EVERY == 0:
            ordered = sorted(self._predicts)
            self.fastest_seconds, self.predict_seconds = ordered[0], ordered[len(ordered) // 2]
            rows_known, bytes_known, _ = map(sum, zip(*self._rows, strict=True)) if self._rows else (0, 1, 0)
            self._rows_per_byte = rows_known / bytes_known

    def rows_in(self, size: int) -> int:
        """Rows of a request of `size` bytes, by those answered so far; at least 1."""
        return max(1, round(size * self._rows_per_byte))

    def batch(self) -> tuple[float, float]:
        """Requests per predict and rows per request, of the last 64 predicts; 1.0 each before the first."""
        if not self._rows:
            return 1.0, 1.0
        rows, _, requests = map(sum, zip(*self._rows, strict=True))
        return requests / len(self._rows), rows / requests

    def admits(self, now: float, *, waiting: int, rows: int, workers: int, seconds_left: float) -> bool:
        """Whether a request with `seconds_left` may join `waiting` others, of `rows` in all, at `now`.

        No, when it could not be answered in time. No, when the queue is longer than calm and has not been
        empty for longer than a burst lasts: then it takes up no peak, it only makes every caller wait.
        """
        if waiting == 0:
            self._empty_at = now
            return True
        wait = self.wait_seconds(waiting, rows, workers)
        calm = max(CALM_SECONDS, CALM_REQUESTS * self.cost.usual_seconds(max(1, rows // waiting)))
        return wait <= seconds_left and (wait <= calm or now - self._empty_at <= BURST_SECONDS)

    def wait_seconds(self, waiting: int, rows: int, workers: int) -> float:
        """How long `workers` need for the `waiting`, of `rows` in all; 0.0 until what they cost is known."""
        if not waiting:
            return 0.0
        if not self._merges:
            seconds = waiting * self.cost.usual_seconds(max(1, rows // waiting))
        else:
            batches = max(ceil(rows / self.rows_at_once), ceil(waiting / MAX_BATCH_REQUESTS))
            seconds = self.cost.slowness * (batches * self.cost.fixed_seconds + rows * self.cost.row_seconds)
        return seconds / max(workers, 1)


def _rows_at_once(cost: PredictCost) -> int:
    """As many rows as are 50 ms of work, or more while the fixed part of a predict is much of what it takes.

    Nothing is known beyond twice what was tried; and a size that was hardly tried lately is tried again.
    """
    largest, each = cost.largest, cost.row_seconds
    work = cost.least_seconds(largest) / largest
    in_time = int(BATCH_SECONDS / work) if work else MANY
    worth = max(int(BATCH_SECONDS / each), ceil(TIMES_FIXED * cost.fixed_seconds / each)) if each else MANY
    most = max(1, in_time, min(worth, 2 * largest))
    is_untried = most <= largest and cost.seen_lately(2 * most) < TRIED
    return 2 * most if is_untried else most
