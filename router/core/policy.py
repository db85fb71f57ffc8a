"""Lifecycle policy: what to do next about one registered model's versions. Pure; one action per look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from router.core.ids import PRODUCTION, Alias, VersionId


class State(StrEnum):
    """Life of one version in this gateway."""

    NEW = "new"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"
    ERROR = "error"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.NEW: frozenset({State.LOADING, State.GONE}),
    State.LOADING: frozenset({State.READY, State.ERROR, State.GONE}),
    State.READY: frozenset({State.DRAINING, State.GONE}),  # GONE without a drain: the gateway stops
    State.DRAINING: frozenset({State.READY, State.GONE}),
    State.ERROR: frozenset({State.NEW, State.GONE}),  # NEW: it is tried again
    State.GONE: frozenset(),  # the version's next life begins with a new harness
}
"""Where a version's life may go from each state."""


@dataclass(frozen=True, slots=True)
class Load:
    """Bring `version` to READY, or call back one that is draining."""

    version: VersionId


@dataclass(frozen=True, slots=True)
class Bind:
    """Let `alias` serve `version`, which is READY."""

    alias: Alias
    version: VersionId


@dataclass(frozen=True, slots=True)
class Unbind:
    """Stop serving `alias`; its share goes to production."""

    alias: Alias


@dataclass(frozen=True, slots=True)
class Unload:
    """Drain `version` and let it go."""

    version: VersionId


@dataclass(frozen=True, slots=True)
class Begin:
    """What `version` replaces has ended: it may be loaded now."""

    version: VersionId


Action = Load | Bind | Unbind | Unload | Begin


class Turn(StrEnum):
    """Where a version stands that is LOADING in turn, once its files are here."""

    WAITING = "waiting"
    """What it replaces has not ended yet."""
    TAKEN = "taken"
    """It is loaded."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One registered model at one instant."""

    aspired: Mapping[Alias, VersionId]
    """By the last good poll. A failed poll leaves it as it was."""
    bound: Mapping[Alias, VersionId]
    states: Mapping[VersionId, State]
    """Versions absent here are NEW (when aspired) or GONE, with their workers ended."""
    in_turn: bool = False
    """Whether no version may be loaded beside the one that it replaces."""
    turns: Mapping[VersionId, Turn] = field(default_factory=dict)
    """Of versions that are LOADING in turn, and whose files are here."""
    kept: VersionId | None = None
    """Stays while it is READY, though no alias asks for it. Nothing is loaded for it, or waits for it."""
    held_back: frozenset[VersionId] = frozenset()
    """Versions that no alias but production may be bound to yet."""
    gathering: frozenset[Alias] = frozenset()
    """Bound aliases whose next version has too few workers yet to take them over."""

    @property
    def making_way(self) -> frozenset[VersionId]:
        """Bound versions that end, or have ended, so that those which replace them can be loaded."""
        if not self.in_turn:
            return frozenset()
        here = {version for version in self.held_back if self.states.get(version) is State.READY}
        in_place = self.turns.keys() | here
        replaced = {alias for alias, version in self.aspired.items() if version in in_place}
        kept = (version for alias, version in self.bound.items() if alias not in replaced)
        return frozenset(self.bound.values()).difference(self.aspired.values(), kept)


def next_action(snapshot: Snapshot) -> Action | None:
    """The one next action, or None at the fixed point (or while what was started is still under way).

    Order: bind what is ready, and is not held back, as nothing is from production, nor gathers workers while
    another version serves the alias; unbind an alias nobody asks for, but never production, of which silence
    is a fault and not a wish; unload what is neither bound nor aspired, unless it is READY and kept; load
    what is aspired or bound, and new.

    In turn, what is replaced stays bound and is unloaded as soon as the files of the next version are here;
    that one begins when all that was let go has ended. If it does not load, what is bound is loaded again.
    """
    return next(_actions(snapshot), None)


def _actions(snapshot: Snapshot) -> Iterator[Action]:
    aspired, bound, states = snapshot.aspired, snapshot.bound, snapshot.states
    # Production first: while it is not bound nothing is answered at all.
    wishes = sorted(aspired.items(), key=lambda wish: (wish[0] != PRODUCTION, wish[0]))
    for alias, version in wishes:
        waits = alias in snapshot.gathering or (alias != PRODUCTION and version in snapshot.held_back)
        if not waits and bound.get(alias) != version and states.get(version) is State.READY:
            yield Bind(alias, version)
    for alias in sorted(bound):
        if alias not in aspired and alias != PRODUCTION:
            yield Unbind(alias)
    making_way = snapshot.making_way
    wanted = {*aspired.values(), *bound.values()} - making_way
    for version in sorted(states):
        # In turn nothing may be beside what serves.
        kept = version == snapshot.kept and states[version] is State.READY and not snapshot.in_turn
        if version in wanted or kept:
            continue
        if states[version] in (State.NEW, State.LOADING, State.READY, State.ERROR):
            yield Unload(version)
    for version in sorted(snapshot.turns):
        waits = snapshot.turns[version] is Turn.WAITING
        if waits and not (snapshot.in_turn and states.keys() - wanted):
            yield Begin(version)
    # What is bound counts too: production that outlived the registry's word for it must come back as well.
    for _, version in (*wishes, *sorted(bound.items())):
        state = states.get(version, State.NEW)
        # GONE, and not absent: its workers still end, and in turn nothing is loaded beside them.
        loadable = state in (State.NEW, State.DRAINING) or (state is State.GONE and not snapshot.in_turn)
        if loadable and version not in making_way:
            yield Load(version)
