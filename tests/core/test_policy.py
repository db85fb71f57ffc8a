"""Lifecycle policy, one look at a time: which action a snapshot asks for."""

import pytest

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.policy import Action, Bind, Load, Snapshot, State, Unbind, Unload, next_action

CHALLENGER = Alias("challenger")
V1, V2, V3 = (VersionId("fraud", number) for number in (1, 2, 3))
READY, LOADING, DRAINING = State.READY, State.LOADING, State.DRAINING
P, C = PRODUCTION, CANARY


def look(
    aspired: dict[Alias, VersionId], bound: dict[Alias, VersionId], states: dict[VersionId, State]
) -> Action | None:
    return next_action(Snapshot(aspired, bound, states))


@pytest.mark.parametrize("silence", [{}, {C: V2}], ids=["empty", "canary only"])
def test_a_poll_without_production_leaves_production_bound(silence: dict[Alias, VersionId]) -> None:
    """Silence about production is a fault, not a wish: neither unbound nor unloaded."""
    assert look(silence, {P: V1, **silence}, {V1: READY, V2: READY} if silence else {V1: READY}) is None


def test_a_failed_poll_changes_nothing() -> None:
    """Invariant 5: a failed poll leaves the wish as it was, and that wish is fulfilled."""
    wish = {P: V1, C: V2}

    assert look(wish, wish, {V1: READY, V2: READY}) is None


def test_an_empty_poll_unbinds_the_canary_and_nothing_else() -> None:
    both = {V1: READY, V2: READY}

    assert look({}, {P: V1, C: V2}, both) == Unbind(C)
    assert look({}, {P: V1}, both) == Unload(V2)
    assert look({}, {P: V1}, {V1: READY, V2: DRAINING}) is None


def test_an_alias_stays_with_its_version_while_the_next_one_gathers_workers() -> None:
    wish, bound, ready = {P: V2, C: V2}, {P: V1, C: V1}, {V1: READY, V2: READY}

    def gathering(*aliases: Alias) -> Action | None:
        return next_action(Snapshot(wish, bound, ready, gathering=frozenset(aliases)))

    assert gathering() == Bind(P, V2)
    assert gathering(P) == Bind(C, V2)
    assert gathering(P, C) is None


def test_a_poll_that_lacks_the_canary_unbinds_it() -> None:
    assert look({P: V1}, {P: V1, C: V2}, {V1: READY, V2: READY}) == Unbind(C)


def test_a_first_version_is_loaded_and_then_bound() -> None:
    assert look({P: V1}, {}, {}) == Load(V1)
    assert look({P: V1}, {}, {V1: LOADING}) is None
    assert look({P: V1}, {}, {V1: READY}) == Bind(P, V1)
    assert look({P: V1}, {P: V1}, {V1: READY}) is None


def test_production_is_loaded_and_bound_before_the_canary() -> None:
    """Nothing is answered while production is not bound, whatever the alphabet says."""
    wish = {C: V2, P: V1, CHALLENGER: V3}

    assert look(wish, {}, {}) == Load(V1)
    assert look(wish, {}, {V1: LOADING}) == Load(V2)
    assert look(wish, {}, {V1: READY, V2: READY, V3: READY}) == Bind(P, V1)
    assert look(wish, {P: V1}, {V1: READY, V2: READY, V3: READY}) == Bind(C, V2)


def test_a_canary_does_not_wait_for_a_production_that_does_not_load() -> None:
    """Swaps are independent; without production it is bound and gets nothing."""
    wish = {P: V1, C: V2}

    assert look(wish, {}, {V1: State.ERROR, V2: READY}) == Bind(C, V2)


def test_a_moved_alias_loads_beside_and_keeps_serving_the_old_version() -> None:
    """Load beside, bind, drain, let go: the old one is touched only after the new one is bound."""
    wish = {P: V2}

    assert look(wish, {P: V1}, {V1: READY}) == Load(V2)
    assert look(wish, {P: V1}, {V1: READY, V2: LOADING}) is None
    assert look(wish, {P: V1}, {V1: READY, V2: READY}) == Bind(P, V2)
    assert look(wish, {P: V2}, {V1: READY, V2: READY}) == Unload(V1)
    assert look(wish, {P: V2}, {V1: DRAINING, V2: READY}) is None
    assert look(wish, {P: V2}, {V2: READY}) is None


def test_a_version_that_does_not_load_leaves_the_old_one_bound() -> None:
    """No action on ERROR: whoever holds it makes it NEW again after its wait."""
    assert look({P: V2}, {P: V1}, {V1: READY, V2: State.ERROR}) is None
    assert look({P: V2}, {P: V1}, {V1: READY, V2: State.NEW}) == Load(V2)


@pytest.mark.parametrize("state", [State.NEW, State.LOADING, State.READY, State.ERROR])
def test_a_version_nobody_wants_any_more_is_let_go_whatever_it_was_doing(state: State) -> None:
    assert look({P: V1}, {P: V1}, {V1: READY, V2: state}) == Unload(V2)


@pytest.mark.parametrize("state", [State.DRAINING, State.GONE])
def test_a_version_that_is_already_going_is_not_let_go_twice(state: State) -> None:
    assert look({P: V1}, {P: V1}, {V1: READY, V2: state}) is None


def test_both_aliases_on_one_version_load_it_once() -> None:
    """Invariant 7."""
    wish = {P: V1, C: V1}

    assert look(wish, {}, {}) == Load(V1)
    assert look(wish, {}, {V1: LOADING}) is None
    assert look(wish, {}, {V1: READY}) == Bind(P, V1)
    assert look(wish, {P: V1}, {V1: READY}) == Bind(C, V1)
    assert look(wish, {P: V1, C: V1}, {V1: READY}) is None


def test_promoting_the_canary_binds_it_without_loading() -> None:
    """@production moves to what @canary serves: the version is there already."""
    assert look({P: V2, C: V2}, {P: V1, C: V2}, {V1: READY, V2: READY}) == Bind(P, V2)


def test_going_back_before_the_new_version_was_ready_reloads_nothing() -> None:
    """1 → 2 → 1 while 2 still loads: 1 was bound all the time."""
    assert look({P: V1}, {P: V1}, {V1: READY, V2: LOADING}) == Unload(V2)
    assert look({P: V1}, {P: V1}, {V1: READY}) is None


def test_a_draining_version_that_is_aspired_again_is_called_back() -> None:
    """1 → 2 → 1 after the swap: 1 is still in memory, so it is not loaded a second time."""
    assert look({P: V1}, {P: V2}, {V1: DRAINING, V2: READY}) == Load(V1)
    assert look({P: V1}, {P: V2}, {V1: READY, V2: READY}) == Bind(P, V1)


def test_a_version_that_is_gone_is_loaded_anew_when_it_is_aspired_again() -> None:
    assert look({P: V1}, {P: V2}, {V1: State.GONE, V2: READY}) == Load(V1)


def test_a_version_stays_while_any_alias_is_bound_to_it() -> None:
    """Invariant 4: the canary leaves it, production keeps it."""
    assert look({P: V1, C: V2}, {P: V1, C: V1}, {V1: READY, V2: READY}) == Bind(C, V2)
    assert look({P: V1, C: V2}, {P: V1, C: V2}, {V1: READY, V2: READY}) is None


def test_memory_is_freed_before_more_is_taken() -> None:
    """Of two things to do, letting go comes before loading."""
    assert look({P: V1, C: V3}, {P: V1}, {V1: READY, V2: READY}) == Unload(V2)


@pytest.mark.parametrize("state", [State.NEW, State.GONE, State.DRAINING])
def test_production_that_the_registry_no_longer_names_is_brought_back(state: State) -> None:
    """It stays bound, so it must serve. From ERROR it becomes NEW by itself, after its wait."""
    bound = {PRODUCTION: VersionId("sentiment", 1)}
    snapshot = Snapshot(aspired={}, bound=bound, states={bound[PRODUCTION]: state})

    assert next_action(snapshot) == Load(bound[PRODUCTION])
