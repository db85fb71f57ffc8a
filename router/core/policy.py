"""Lifecycle policy: what to do next about one registered model's versions. Pure; one action per look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


Action = Load | Bind | Unbind | Unload


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One registered model at one instant."""

    aspired: Mapping[Alias, VersionId]
    """By the last good poll. A failed poll leaves it as it was."""
    bound: Mapping[Alias, VersionId]
    states: Mapping[VersionId, State]
    """Versions absent here are NEW (when aspired) or GONE."""


def next_action(snapshot: Snapshot) -> Action | None:
    """The one next action, or None at the fixed point (or while what was started is still under way).

    Order: bind what is ready; unbind an alias nobody asks for, but never production, of which silence is a
    fault and not a wish; unload what is neither bound nor aspired; load what is aspired or bound, and new.
    """
    return next(_actions(snapshot), None)


def _actions(snapshot: Snapshot) -> Iterator[Action]:
    aspired, bound, states = snapshot.aspired, snapshot.bound, snapshot.states
    # Production first: while it is not bound nothing is answered at all.
    wishes = sorted(aspired.items(), key=lambda wish: (wish[0] != PRODUCTION, wish[0]))
    for alias, version in wishes:
        if bound.get(alias) != version and states.get(version) is State.READY:
            yield Bind(alias, version)
    for alias in sorted(bound):
        if alias not in aspired and alias != PRODUCTION:
            yield Unbind(alias)
    wanted = {*aspired.values(), *bound.values()}
    for version in sorted(states):
        if version not in wanted and states[version] in (State.NEW, State.LOADING, State.READY, State.ERROR):
            yield Unload(version)
    # What is bound counts too: production that outlived the registry's word for it must come back as well.
    for _, version in (*wishes, *sorted(bound.items())):
        if states.get(version, State.NEW) in (State.NEW, State.GONE, State.DRAINING):
            yield Load(version)
