"""Plain counts of one event: per arm, per group of buckets, and over the last five minutes."""

from collections import deque
from typing import NamedTuple

GROUPS = 1024
"""`bucket % 1024`: few enough to sum at a glance, enough to see that some keys ask more than others."""
RECENT_SECONDS = 300.0
_MARKS = 60


class Tally(NamedTuple):
    """Requests and events of both arms."""

    production_requests: int = 0
    production_events: int = 0
    canary_requests: int = 0
    canary_events: int = 0

    def since(self, earlier: "Tally") -> "Tally":
        """What came after `earlier`."""
        return Tally(*(now - then for now, then in zip(self, earlier, strict=True)))

    @property
    def requests(self) -> int:
        """Of both arms."""
        return self.production_requests + self.canary_requests

    @property
    def events(self) -> int:
        """Of both arms."""
        return self.production_events + self.canary_events

    @property
    def difference(self) -> float | None:
        """Canary's rate − production's, −1 to 1; None while an arm has no request."""
        if not (self.production_requests and self.canary_requests):
            return None
        return self.canary_events / self.canary_requests - self.production_events / self.production_requests


class Counts:
    """Requests and events by group; `[0]` is production's list of 1 024, `[1]` the canary's."""

    __slots__ = ("events", "requests")

    def __init__(self) -> None:
        self.requests: tuple[list[int], list[int]] = ([0] * GROUPS, [0] * GROUPS)
        self.events: tuple[list[int], list[int]] = ([0] * GROUPS, [0] * GROUPS)

    def tally(self) -> Tally:
        """The sums over the groups."""
        (production, canary), (production_events, canary_events) = self.requests, self.events
        return Tally(sum(production), sum(production_events), sum(canary), sum(canary_events))


class Recent:
    """Tallies of the last five minutes, from at most 62 marks; restarts with each step."""

    __slots__ = ("_marks",)

    def __init__(self, now: float) -> None:
        self._marks: deque[tuple[float, Tally]] = deque([(now, Tally())])

    def mark(self, now: float, tally: Tally) -> None:
        """Note what was counted by `now`."""
        marks = self._marks
        if now - marks[-1][0] >= RECENT_SECONDS / _MARKS:
            marks.append((now, tally))
        while len(marks) > 1 and now - marks[0][0] > RECENT_SECONDS:
            marks.popleft()

    def tally(self, now: Tally) -> Tally:
        """What was counted in the last five minutes, or since the step began."""
        return now.since(self._marks[0][1])

    def seconds(self, now: float) -> float:
        """How long that was, at least 0."""
        return max(0.0, now - self._marks[0][0])
