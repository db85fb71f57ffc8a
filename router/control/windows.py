"""What each alias did in the last 15 minutes: differences of running counts, so memory is bounded."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from router.core.events import Answered
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind, Outcome
from router.core.scores import OutputCounts, ScoreCounts

WINDOW_SECONDS = 900.0
SLICE_SECONDS = 15.0
"""Between two snapshots: a window is up to so much longer than it says."""
MINUTE = 60.0
_OK, _FALLBACK = Outcome.OK, Outcome.FALLBACK


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one alias; those of a later moment minus an earlier one's are what happened between."""

    requests: int
    fallbacks: int
    """Requests that production answered in its place."""
    faults: tuple[int, ...]
    """By kind, in the order of `FaultKind`."""
    latency: tuple[int, ...]
    """Answers without fault, by `REQUEST_SECONDS`; one number more, for those beyond the last."""
    marks: tuple[tuple[int, ...], ...]
    """Per counted output: scores per bin, or labels per class."""

    def __sub__(self, earlier: "Counts") -> "Counts":
        return Counts(
            self.requests - earlier.requests,
            self.fallbacks - earlier.fallbacks,
            _minus(self.faults, earlier.faults),
            _minus(self.latency, earlier.latency),
            tuple(map(_minus, self.marks, earlier.marks)),
        )


class Tally:
    """Running counts of one version under one alias. Its methods are called for every request."""

    def __init__(self, marks: Sequence[int]) -> None:
        """`marks`: per counted output, into how many bins or classes."""
        self._requests = self._fallbacks = 0
        self._faults: dict[str, int] = dict.fromkeys(FaultKind, 0)
        self._latency = [0] * (len(REQUEST_SECONDS) + 1)
        self._marks = [[0] * number for number in marks]
        self._minutes = deque([(-inf, tuple(self._latency))], maxlen=61)

    def answered(self, event: Answered) -> None:
        """One request was answered, by this version or by production in its place."""
        self._requests += 1
        if event.fault:
            if event.fault in self._faults:
                self._faults[event.fault] += 1
        elif event.outcome == _OK:
            self._latency[bisect_left(REQUEST_SECONDS, event.seconds)] += 1
        if event.outcome == _FALLBACK:
            self._fallbacks += 1

    def scored(self, outputs: Sequence[OutputCounts]) -> None:
        """One batch was predicted. Counts of other bins, from before a change of settings, are left out."""
        if len(outputs) != len(self._marks):
            return
        for marks, counted in zip(self._marks, outputs, strict=True):
            counts = counted.bins if isinstance(counted, ScoreCounts) else counted.counts
            if len(counts) == len(marks):
                for index, count in enumerate(counts):
                    if count:
                        marks[index] += count

    def tick(self, now: float) -> None:
        """Time goes on; for `hour`."""
        if now - self._minutes[-1][0] >= MINUTE:
            self._minutes.append((now, tuple(self._latency)))

    def hour(self) -> tuple[int, ...]:
        """`Counts.latency` of about the last hour."""
        return _minus(self._latency, self._minutes[0][1])

    def counts(self) -> Counts:
        """All of them, at this moment."""
        return Counts(
            self._requests,
            self._fallbacks,
            tuple(self._faults.values()),
            tuple(self._latency),
            tuple(map(tuple, self._marks)),
        )


@dataclass(frozen=True, slots=True)
class _Snapshot:
    at: float
    production: Counts
    canary: Counts


class Window:
    """The last 15 minutes of two tallies, or since they are compared."""

    def __init__(self, production: Tally, canary: Tally, now: float) -> None:
        """`now` as in the other methods: seconds of a monotonic clock."""
        self._production, self._canary = production, canary
        self._snapshots = deque((self._snapshot(now),))

    def slide(self, now: float) -> None:
        """Take a snapshot, if it is time, and forget those that are older than the window."""
        if now - self._snapshots[-1].at >= SLICE_SECONDS:
            self._snapshots.append(self._snapshot(now))
        while len(self._snapshots) > 1 and self._snapshots[1].at <= now - WINDOW_SECONDS:
            self._snapshots.popleft()

    def seconds(self, now: float) -> float:
        """How long it is."""
        return now - self._snapshots[0].at

    def counts(self) -> tuple[Counts, Counts]:
        """What production and the canary did in it."""
        first = self._snapshots[0]
        return self._production.counts() - first.production, self._canary.counts() - first.canary

    def _snapshot(self, now: float) -> _Snapshot:
        return _Snapshot(now, self._production.counts(), self._canary.counts())


def _minus(later: Sequence[int], earlier: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(int.__sub__, later, earlier))
