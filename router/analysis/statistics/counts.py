"""What is counted: of one event, in both arms; and of one arm, everything, over the last 15 minutes."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from router.analysis.statistics.durations import BINS, EDGES, by_request_seconds
from router.core.events import Answered
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind, Outcome
from router.core.scores import OutputCounts, ScoreCounts

GROUPS = 1024
"""`bucket % 1024`: few enough to sum quickly, enough to see that some keys send more requests than others."""
RECENT_SECONDS = 300.0
_RECENT_SNAPSHOTS = 60
WINDOW_SECONDS = 900.0
SLICE_SECONDS = 15.0
"""Between two snapshots: a window is up to so much longer than it says."""
MINUTE = 60.0


# One event, such as faults, in both arms


class ArmTotals(NamedTuple):
    """Requests and events of both arms."""

    production_requests: int = 0
    production_events: int = 0
    canary_requests: int = 0
    canary_events: int = 0

    def since(self, earlier: "ArmTotals") -> "ArmTotals":
        """What came after `earlier`."""
        return ArmTotals(*(now - then for now, then in zip(self, earlier, strict=True)))

    @property
    def requests(self) -> int:
        """Of both arms."""
        return self.production_requests + self.canary_requests

    @property
    def events(self) -> int:
        """Of both arms."""
        return self.production_events + self.canary_events

    @property
    def production_rate(self) -> float:
        """Production's events per request, 0 to 1; 0 without a request."""
        return self.production_events / self.production_requests if self.production_requests else 0.0

    @property
    def difference(self) -> float | None:
        """Canary's rate − production's, −1 to 1; None while an arm has no request."""
        if not (self.production_requests and self.canary_requests):
            return None
        return self.canary_events / self.canary_requests - self.production_events / self.production_requests


class GroupCounts:
    """Requests and events by group; `[0]` is production's list of 1 024, `[1]` the canary's."""

    __slots__ = ("events", "requests")

    def __init__(self) -> None:
        self.requests: tuple[list[int], list[int]] = ([0] * GROUPS, [0] * GROUPS)
        self.events: tuple[list[int], list[int]] = ([0] * GROUPS, [0] * GROUPS)

    def totals(self) -> ArmTotals:
        """The sums over the groups."""
        (production, canary), (production_events, canary_events) = self.requests, self.events
        return ArmTotals(sum(production), sum(production_events), sum(canary), sum(canary_events))


class RecentTotals:
    """Totals of the last five minutes, from at most 62 snapshots; restarts with each step."""

    __slots__ = ("_snapshots",)

    def __init__(self, now: float) -> None:
        self._snapshots: deque[tuple[float, ArmTotals]] = deque([(now, ArmTotals())])

    def add(self, now: float, total: ArmTotals) -> None:
        """Remember what was counted by `now`."""
        snapshots = self._snapshots
        if now - snapshots[-1][0] >= RECENT_SECONDS / _RECENT_SNAPSHOTS:
            snapshots.append((now, total))
        while len(snapshots) > 1 and now - snapshots[0][0] > RECENT_SECONDS:
            snapshots.popleft()

    def totals(self, now: ArmTotals) -> ArmTotals:
        """What was counted in the last five minutes, or since the step began."""
        return now.since(self._snapshots[0][1])

    def seconds(self, now: float) -> float:
        """How long that was, at least 0."""
        return max(0.0, now - self._snapshots[0][0])


# One arm, over the last 15 minutes: differences of counts that only grow, so memory is bounded


@dataclass(frozen=True, slots=True)
class CountersSnapshot:
    """Counts of one arm; those of a later moment minus an earlier one's are what happened between."""

    requests: int
    fallbacks: int
    """Requests that production answered in its place."""
    faults: tuple[int, ...]
    """By kind, in the order of `FaultKind`."""
    latency: tuple[int, ...]
    """Answers without fault, by `REQUEST_SECONDS`; one number more, for those beyond the last."""
    bins: tuple[tuple[int, ...], ...]
    """Per counted output: scores per bin, or labels per class."""

    def __sub__(self, earlier: "CountersSnapshot") -> "CountersSnapshot":
        return CountersSnapshot(
            self.requests - earlier.requests,
            self.fallbacks - earlier.fallbacks,
            _minus(self.faults, earlier.faults),
            _minus(self.latency, earlier.latency),
            tuple(map(_minus, self.bins, earlier.bins)),
        )


_OK, _FALLBACK = Outcome.OK, Outcome.FALLBACK
NOTHING = CountersSnapshot(0, 0, (0,) * len(FaultKind), (0,) * (len(REQUEST_SECONDS) + 1), ())
"""Of an arm that is not counted."""


class ArmCounters:
    """Running counts of one version under one alias, of all its requests. Called for every request."""

    def __init__(self, bin_counts: Sequence[int]) -> None:
        """`bin_counts`: per counted output, into how many bins or classes."""
        self._requests = self._fallbacks = 0
        self._faults = dict.fromkeys(map(str, FaultKind), 0)
        self._durations = [0] * BINS
        self._bins = [[0] * number for number in bin_counts]
        self._minutes = deque([(-inf, array("q", self._durations))], maxlen=61)

    def answered(self, event: Answered) -> None:
        """One request was answered, by this version or by production in its place."""
        self._requests += 1
        if event.fault:
            if event.fault in self._faults:
                self._faults[event.fault] += 1
        elif event.outcome == _OK:
            self._durations[bisect_left(EDGES, event.seconds)] += 1
        if event.outcome == _FALLBACK:
            self._fallbacks += 1

    def scored(self, outputs: Sequence[OutputCounts]) -> None:
        """One batch was predicted. Counts of other bins, from before a change of settings, are left out."""
        if len(outputs) != len(self._bins):
            return
        for bins, counted in zip(self._bins, outputs, strict=True):
            counts = counted.bins if isinstance(counted, ScoreCounts) else counted.counts
            if len(counts) == len(bins):
                for index, count in enumerate(counts):
                    if count:
                        bins[index] += count

    def tick(self, now: float) -> None:
        """Time goes on; for `durations_of_last_hour`."""
        if now - self._minutes[-1][0] >= MINUTE:
            self._minutes.append((now, array("q", self._durations)))

    def durations_of_last_hour(self) -> dict[int, int]:
        """Answers without fault of about the last hour by bin of `durations`, empty bins left out."""
        counts = _minus(self._durations, self._minutes[0][1])
        return {index: count for index, count in enumerate(counts) if count}

    def snapshot(self) -> CountersSnapshot:
        """All of them, at this moment."""
        return CountersSnapshot(
            self._requests,
            self._fallbacks,
            tuple(self._faults.values()),
            tuple(by_request_seconds(self._durations)),
            tuple(map(tuple, self._bins)),
        )


class SlidingWindow:
    """The last 15 minutes of two arms' counters, or since they are compared."""

    def __init__(self, production: ArmCounters, canary: ArmCounters, now: float) -> None:
        """`now` as in the other methods: seconds of a monotonic clock."""
        self._arms = production, canary
        self._snapshots = deque([(now, *self._counted())])

    def slide(self, now: float) -> None:
        """Take a snapshot, if it is time, and forget those that are older than the window."""
        if now - self._snapshots[-1][0] >= SLICE_SECONDS:
            self._snapshots.append((now, *self._counted()))
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= now - WINDOW_SECONDS:
            self._snapshots.popleft()

    def seconds(self, now: float) -> float:
        """How long it is."""
        return now - self._snapshots[0][0]

    def counts(self) -> tuple[CountersSnapshot, CountersSnapshot]:
        """What production and the canary did in it."""
        _, production, canary = self._snapshots[0]
        now = self._counted()
        return now[0] - production, now[1] - canary

    def _counted(self) -> tuple[CountersSnapshot, CountersSnapshot]:
        return self._arms[0].snapshot(), self._arms[1].snapshot()


def _minus(later: Sequence[int], earlier: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(int.__sub__, later, earlier))
