"""What was in force when, as far as answers show it: the heart of the check that no answer was wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 50
"""Entries kept; the demo's own story makes three."""


@dataclass(slots=True)
class Entry(Generic[T]):
    """One value: when it was asked for, when it was first seen, and when a later one was."""

    value: T
    asked_at: float
    shown_at: float | None = None
    """When the first answer arrived that no earlier value explains."""
    over_at: float = math.inf
    """When the first answer arrived that only a later value explains: from then on this one is history."""


class Timeline(Generic[T]):
    """Values of one thing that changes: an alias's version, or a split.

    A change is asked for at one moment and in force a little later. Until an answer shows the new value
    both are right; a request sent after that answer must get the new one. Times are seconds of one
    monotonic clock.
    """

    def __init__(self, value: T) -> None:
        self._entries = [Entry(value, asked_at=-math.inf, shown_at=-math.inf)]

    @property
    def latest(self) -> Entry[T]:
        """What was asked for last."""
        return self._entries[-1]

    @property
    def in_force_since(self) -> float:
        """When the value that answers showed last was first shown."""
        return max((one.shown_at for one in self._entries if one.shown_at is not None), default=-math.inf)

    def ask(self, value: T, not_before: float) -> None:
        """`value` was asked for, at `not_before` at the earliest. The same again changes nothing."""
        if value != self.latest.value:
            self._entries.append(Entry(value, asked_at=not_before))
            del self._entries[:-KEPT]

    def explanation(self, sent: float, received: float, fits: Callable[[T], bool]) -> Entry[T] | None:
        """The earliest value that explains an answer, or None when the answer is wrong.

        Answers come in the order in which they were received.
        """
        possible = [one for one in self._entries if one.asked_at <= received and sent <= one.over_at]
        found = next((one for one in possible if fits(one.value)), None)
        if found is None:
            return None
        for earlier in possible[: possible.index(found)]:
            earlier.over_at = min(earlier.over_at, received)
        if found.shown_at is None:
            found.shown_at = received
        return found
