"""Which load begins next: productions first, so many side by side, and none that has no room. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

HOLD_SECONDS = 30.0
"""How long one production that is fetched or loaded keeps others from beginning. An order, not a barrier."""


class Priority(IntEnum):
    """What a load is for, the most important first."""

    UNSERVED = 0  # production, while nothing answers for it: nobody can stand in
    PRODUCTION = 1  # production's next version, or relief of its stuck workers: another one answers so long
    OTHER_ALIAS = 2  # a version that production does not name: production answers so long
    FURTHER = 3  # a further worker of a version that has one, or a spare


@dataclass(frozen=True, slots=True)
class ScheduledLoad:
    """One load of the gateway, as its schedule sees it at one instant. `since` is in seconds of any clock."""

    priority: Priority
    since: float
    """When it was asked for; of one that is running, when it began."""
    size: int
    """Bytes that it is expected to take."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The waiting load of this index begins."""

    index: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The waiting load of this index has no room, and no end of another load will make it."""

    index: int


@dataclass(frozen=True, slots=True)
class FreeSpares:
    """Spare workers go, and with the memory that comes free the decision is made anew."""


@dataclass(frozen=True, slots=True)
class FreeKept:
    """Workers that are kept though no alias asks for their version go, one step of them; then as above."""


Decision = Begin | Refuse | FreeSpares | FreeKept


def next_decision(
    now: float,
    *,
    fetching: Sequence[ScheduledLoad],
    waiting: Sequence[ScheduledLoad],
    running: Sequence[ScheduledLoad],
    side_by_side: int,
    available: int,
    spare: int,
    kept: int = 0,
) -> Decision | None:
    """The one next decision, or None until something changes, also by time (`held_until`).

    `fetching` are loads whose files are not here yet, `available` the bytes that are left now, `spare` those
    that spare workers hold, `kept` those of versions that are kept though no alias asks for them. What runs
    may not have taken its memory yet, so its size counts as taken.

    - By priority, then by age. Of unserved productions those that have room come first.
    - At most `side_by_side`. A production does not wait for lesser loads: they do not count for it.
    - A canary or further worker waits while an unserved production is fetched or loaded, for `HOLD_SECONDS`.
    - Without room what is kept goes for it first, whatever it is and whatever runs, where that helps.
    - Then it waits for what runs; when nothing runs, spares go for it where that helps, unless it is one
      itself; then it is refused. An unserved production waits only for its equals, and begins even so: a
      figure that is too high must not keep it down, and there is nobody to stand in for it.
    """
    if not waiting:
        return None
    reserved = sum(load.size for load in running)

    def rank(index: int) -> tuple[Priority, bool, float]:
        load = waiting[index]
        return load.priority, load.priority is Priority.UNSERVED and load.size > available, load.since

    index = min(range(len(waiting)), key=rank)
    load = waiting[index]
    beside = [one for one in running if load.priority > Priority.PRODUCTION or one.priority <= load.priority]
    if len(beside) >= side_by_side or now < held_until(load.priority, fetching, running):
        return None
    if load.priority is Priority.UNSERVED:
        if load.size + sum(one.size for one in beside) <= available:
            return Begin(index)
        if kept:
            return FreeKept()
        if beside:
            return None
        return FreeSpares() if spare else Begin(index)
    if load.size + reserved <= available:
        return Begin(index)
    if kept and load.size + reserved <= available + kept:
        return FreeKept()
    if running:
        return None
    spare = 0 if load.priority is Priority.FURTHER else spare
    if not (kept or spare) or load.size > available + kept + spare:
        return Refuse(index)
    return FreeKept() if kept else FreeSpares()


def held_until(
    priority: Priority, fetching: Sequence[ScheduledLoad], running: Sequence[ScheduledLoad]
) -> float:
    """Until when loads of `priority` wait for unserved productions; in the past when they do not."""
    if priority <= Priority.PRODUCTION:
        return float("-inf")
    unserved = (load.since for load in (*fetching, *running) if load.priority is Priority.UNSERVED)
    return max(unserved, default=float("-inf")) + HOLD_SECONDS
