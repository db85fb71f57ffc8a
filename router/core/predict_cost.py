"""What a predict takes: a part that is fixed, and a part for each row, learned from those that ran.

A busy machine makes a predict last longer than it has to, and never shorter. So of predicts of like size the
fast ones count, and the line through these points is what predicts cost; how much longer they usually last is
known beside it. A mean would take noise for the cost of rows, and end in batches of one.
"""

from collections import deque
from collections.abc import Iterator
from statistics import median

KNOWN = 64
"""Predicts of one size class that are remembered."""
FORGOTTEN_AFTER = 512
"""Predicts of any size; what was seen before says nothing of a version that has become slower since."""
LATELY = 64
"""Predicts; a size that was not seen among these may be tried again."""
_LOOK_EVERY = 8


class PredictCost:
    """Learns fixed + rows · each, in seconds, of one version's predicts. Pure, without a clock."""

    def __init__(self) -> None:
        self.fixed_seconds = 0.0
        """Of a predict, whatever its rows; 0.0 until predicts of two sizes are known."""
        self.row_seconds = 0.0
        """Of one more row; 0.0 until a predict is known."""
        self.slowness = 1.0
        """How much longer a predict usually lasts than a fast one of its size, at least 1: the median."""
        self._sizes: dict[int, deque[tuple[int, float, int]]] = {}
        """Rows, seconds and ordinal of the newest predicts, by size class: bits that the rows have."""
        self.learned = 0
        """Predicts, forgotten ones among them."""

    @property
    def largest(self) -> int:
        """Rows of the largest predict that is remembered; 0 for none."""
        if not self._sizes:
            return 0
        return max(rows for rows, _, _ in self._sizes[max(self._sizes)])  # no smaller class has larger ones

    def seen_lately(self, rows: int) -> int:
        """How many of the last predicts were of about that size."""
        since = self.learned - LATELY
        return sum(number > since for _, _, number in self._sizes.get(rows.bit_length(), ()))

    def learn(self, rows: int, seconds: float) -> None:
        """A predict of so many rows, at least 1, took `seconds`."""
        self.learned += 1
        known = self._sizes.setdefault(rows.bit_length(), deque(maxlen=KNOWN))
        known.append((rows, seconds, self.learned))
        if self.learned % _LOOK_EVERY == 0 or len(known) <= _LOOK_EVERY:
            self._forget()
            self._fit()
            remembered = [one for seen in self._sizes.values() for one in seen]
            ratios = [took / least for n, took, _ in remembered if (least := self.least_seconds(n)) > 0]
            self.slowness = max(1.0, median(ratios)) if ratios else 1.0

    def least_seconds(self, rows: int) -> float:
        """What a predict of so many rows takes where nothing disturbs it."""
        return self.fixed_seconds + rows * self.row_seconds

    def usual_seconds(self, rows: int) -> float:
        """What it takes on this machine as it is now."""
        return self.slowness * self.least_seconds(rows)

    def _forget(self) -> None:
        for size, seen in list(self._sizes.items()):
            while seen and seen[0][2] <= self.learned - FORGOTTEN_AFTER:
                seen.popleft()
            if not seen:
                del self._sizes[size]

    def _fast(self) -> Iterator[tuple[int, float, int]]:
        """Rows and seconds of a fast predict of each size class, and of how many.

        The lower quartile: unlike the fastest of all, it does not fall with how many there are.
        """
        for seen in self._sizes.values():
            ordered = sorted((seconds / rows, rows) for rows, seconds, _ in seen)
            each, rows = ordered[(len(ordered) - 1) // 4]
            yield rows, each * rows, len(seen)

    def _fit(self) -> None:
        """Least squares of relative errors, neither part below zero; what was seen often weighs more."""
        points = list(self._fast())
        if len(points) == 1:
            [(rows, seconds, _)] = points
            self.fixed_seconds, self.row_seconds = 0.0, seconds / rows
            return
        weights = [count / max(seconds, 1e-9) ** 2 for _, seconds, count in points]
        total = sum(weights)
        mean_rows = sum(w * rows for w, (rows, _, _) in zip(weights, points, strict=True)) / total
        mean_seconds = sum(w * seconds for w, (_, seconds, _) in zip(weights, points, strict=True)) / total
        spread = sum(w * (rows - mean_rows) ** 2 for w, (rows, _, _) in zip(weights, points, strict=True))
        common = sum(
            w * (rows - mean_rows) * (seconds - mean_seconds)
            for w, (rows, seconds, _) in zip(weights, points, strict=True)
        )
        each = max(0.0, common / spread)
        fixed = mean_seconds - each * mean_rows
        if fixed < 0:
            squares = sum(w * rows * rows for w, (rows, _, _) in zip(weights, points, strict=True))
            products = sum(w * rows * seconds for w, (rows, seconds, _) in zip(weights, points, strict=True))
            fixed, each = 0.0, products / squares
        self.fixed_seconds, self.row_seconds = fixed, each
