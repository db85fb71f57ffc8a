"""What is counted: of one event, in both arms; and of one arm, everything, over the last 15 minutes."""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from msgspec import Struct

from router.analysis.statistics.durations import BINS, bin_of, by_request_seconds
from router.analysis.statistics.records import CELL_SECONDS
from router.core.events import Answered
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind, Outcome
from router.core.scores import OutputCounts, ScoreCounts

GROUPS = 1024
"""`bucket % 1024`: few enough to sum quickly, enough to see that some keys send more requests than others."""
RECENT_CELLS = 60
"""Five minutes."""
WINDOW_SECONDS = 900.0
SLICE_SECONDS = 15.0
"""Between two snapshots: a window is up to so much longer than it says."""
MINUTE = 60.0
_COLUMNS = 6


# One event, such as faults, in both arms


class ArmTotals(NamedTuple):
    """Requests and events of both arms."""

    production_requests: int = 0
    production_events: int = 0
    canary_requests: int = 0
    canary_events: int = 0

    def since(self, earlier: "ArmTotals") -> "ArmTotals":
        """What came after `earlier`."""
        return ArmTotals(*map(int.__sub__, self, earlier))

    def plus(self, later: "ArmTotals") -> "ArmTotals":
        """Both together."""
        return ArmTotals(*map(int.__add__, self, later))

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


class EventGroups(NamedTuple):
    """Requests and events by group; `[0]` is production's, `[1]` the canary's."""

    requests: tuple[Sequence[int], Sequence[int]]
    events: tuple[Sequence[int], Sequence[int]]


class GroupCounts:
    """Everything by group, in this step. 100 KB, whatever the traffic.

    `arms[0]` is production's, `arms[1]` the canary's: requests, faults, timed, slow, scored, and the sum of
    `score_units` of the scored, each by group.
    """

    __slots__ = ("arms",)

    def __init__(self) -> None:
        self.arms = tuple(tuple(array("q", [0]) * GROUPS for _ in range(_COLUMNS)) for _ in range(2))

    def add(self, arm: int, groups: Mapping[int, Sequence[int]]) -> None:
        """What one arm counted by group, as in an `ArmRecord`. Groups that do not exist are left out."""
        columns = self.arms[arm]
        for group, counts in groups.items():
            if 0 <= group < GROUPS:
                for column, count in zip(columns, counts, strict=False):
                    column[group] += count

    @property
    def faults(self) -> EventGroups:
        """Requests, and those of them that faulted."""
        return EventGroups(self._both(0), self._both(1))

    @property
    def slow(self) -> EventGroups:
        """Answers held against the line, and the slow ones of them."""
        return EventGroups(self._both(2), self._both(3))

    @property
    def scored(self) -> tuple[Sequence[int], Sequence[int]]:
        """Scored answers of production and of the canary."""
        return self._both(4)

    @property
    def score_sums(self) -> tuple[Sequence[int], Sequence[int]]:
        """Sums of their `score_units`."""
        return self._both(5)

    def _both(self, column: int) -> tuple[Sequence[int], Sequence[int]]:
        return self.arms[0][column], self.arms[1][column]

    def to_lists(self) -> list[list[int]]:
        """Production's columns, and the canary's after them."""
        return [list(column) for arm in self.arms for column in arm]

    def load(self, lists: Sequence[Sequence[int]]) -> None:
        """Take over what `to_lists` gave. Raises ValueError for other lists."""
        if len(lists) != 2 * _COLUMNS or any(len(column) != GROUPS for column in lists):
            raise ValueError(f"counts by group are {2 * _COLUMNS} lists of {GROUPS}")
        columns = [array("q", column) for column in lists]
        self.arms = tuple(columns[:_COLUMNS]), tuple(columns[_COLUMNS:])


class RecentTotals(Struct, array_like=True):
    """Totals of the last five minutes, from at most 61 snapshots; restarts with each step."""

    snapshots: list[tuple[int, ArmTotals]]
    """The cell before which each was taken."""

    @classmethod
    def since(cls, cell: int) -> "RecentTotals":
        """From the beginning of that cell on."""
        return cls([(cell, ArmTotals())])

    def add(self, cell: int, total: ArmTotals) -> None:
        """Remember what was counted before `cell` begins."""
        snapshots = self.snapshots
        snapshots.append((cell, total))
        while len(snapshots) > 1 and cell - snapshots[0][0] > RECENT_CELLS:
            del snapshots[0]

    def totals(self) -> ArmTotals:
        """What was counted in the last five minutes, or since the step began."""
        return self.snapshots[-1][1].since(self.snapshots[0][1])

    def seconds(self) -> int:
        """How long that was."""
        return (self.snapshots[-1][0] - self.snapshots[0][0]) * CELL_SECONDS


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

    def answered(self, answers: Sequence[Answered]) -> None:
        """Requests were answered, by this version or by production in its place."""
        self._requests += len(answers)
        durations = self._durations
        for one in answers:
            outcome, fault = one.outcome, one.fault
            if fault:
                if fault in self._faults:
                    self._faults[fault] += 1
            elif outcome == _OK:
                durations[bin_of(one.seconds)] += 1
            if outcome == _FALLBACK:
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
