"""Lifecycle policy where nothing may be loaded beside what it replaces."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.policy import Action, Begin, Bind, Load, Snapshot, State, Turn, Unbind, Unload, next_action
from tests.support.examples import examples

P, C = PRODUCTION, CANARY
ALIASES = (P, C, Alias("challenger"))
V1, V2, V3 = VERSIONS = tuple(VersionId("fraud", number) for number in (1, 2, 3))
READY, LOADING, DRAINING, GONE, ERROR = State.READY, State.LOADING, State.DRAINING, State.GONE, State.ERROR
Wish = dict[Alias, VersionId]


def look(
    aspired: Wish,
    bound: Wish,
    states: dict[VersionId, State],
    turns: dict[VersionId, Turn] | None = None,
    *,
    in_turn: bool = True,
) -> Action | None:
    return next_action(Snapshot(aspired, bound, states, in_turn, turns or {}))


WAITS, TAKES = {V2: Turn.WAITING}, {V2: Turn.TAKEN}


def test_what_is_replaced_serves_until_the_next_versions_files_are_here() -> None:
    """A fetch that fails or takes long is no outage."""
    assert look({P: V2}, {P: V1}, {V1: READY}) == Load(V2)
    assert look({P: V2}, {P: V1}, {V1: READY, V2: LOADING}) is None
    assert look({P: V2}, {P: V1}, {V1: READY, V2: LOADING}, WAITS) == Unload(V1)


def test_the_next_version_begins_when_all_that_was_let_go_has_ended() -> None:
    for state in (DRAINING, GONE):
        assert look({P: V2}, {P: V1}, {V1: state, V2: LOADING}, WAITS) is None
        assert look({P: V2}, {P: V2}, {V3: state, V2: LOADING}, WAITS) is None, (
            "also what it does not replace"
        )
    assert look({P: V2}, {P: V1}, {V2: LOADING}, WAITS) == Begin(V2)
    assert look({P: V2}, {P: V1}, {V2: LOADING}, TAKES) is None
    assert look({P: V2}, {P: V1}, {V2: READY}) == Bind(P, V2)


def test_a_version_that_does_not_load_has_the_old_one_loaded_again() -> None:
    assert look({P: V2}, {P: V1}, {V2: ERROR}) == Load(V1)
    assert look({P: V2}, {P: V1}, {V1: LOADING, V2: ERROR}, {V1: Turn.WAITING}) == Begin(V1)
    assert look({P: V2}, {P: V1}, {V1: READY, V2: ERROR}) is None


def test_an_alias_that_moves_back_calls_the_draining_version_back() -> None:
    assert look({P: V1}, {P: V1}, {V1: DRAINING, V2: LOADING}, WAITS) == Unload(V2)
    assert look({P: V1}, {P: V1}, {V1: DRAINING, V2: GONE}) == Load(V1)


def test_in_turn_nothing_is_loaded_while_its_former_workers_end() -> None:
    assert look({P: V1}, {P: V1}, {V1: GONE}) is None
    assert look({P: V1}, {P: V1}, {}) == Load(V1)


def test_a_version_that_another_alias_serves_stays_and_is_loaded_beside() -> None:
    """It can not be ended: the other alias' callers would pay for it."""
    both = {P: V1, C: V1}
    assert look({P: V1, C: V2}, both, {V1: READY, V2: LOADING}, WAITS) == Begin(V2)


def test_a_mode_that_changed_meanwhile_lets_the_waiting_begin_and_calls_the_other_back() -> None:
    states = {V1: DRAINING, V2: LOADING}
    assert look({P: V2}, {P: V1}, states, WAITS, in_turn=False) == Begin(V2)
    assert look({P: V2}, {P: V1}, states, TAKES, in_turn=False) == Load(V1)


@dataclass
class Gateway:
    """Does what the policy says; what has begun ends when and how the test wants."""

    aspired: Wish = field(default_factory=dict)
    bound: Wish = field(default_factory=dict)
    states: dict[VersionId, State] = field(default_factory=dict)
    turns: dict[VersionId, Turn] = field(default_factory=dict)
    holders: set[VersionId] = field(default_factory=set)
    """Versions that have workers, or are about to."""

    def reconcile(self) -> None:
        for _ in range(40):
            snapshot = Snapshot(self.aspired, self.bound, self.states, in_turn=True, turns=self.turns)
            if (action := next_action(snapshot)) is None:
                return
            self.apply(action)
        raise AssertionError("no fixed point")

    def apply(self, action: Action) -> None:
        match action:
            case Bind(alias, version):
                assert self.states[version] is READY
                self.bound[alias] = version
            case Unbind(alias):
                assert alias != P
                del self.bound[alias]
            case Begin(version):
                replaced = {
                    self.bound[alias]
                    for alias, wanted in self.aspired.items()
                    if wanted == version and self.bound.get(alias, version) != version
                }
                others = {v for a, v in self.bound.items() if self.aspired.get(a, v) == v}
                assert not replaced & self.holders - others, "loaded beside what it replaces"
                assert version not in self.holders, "loaded beside itself"
                self.turns[version] = Turn.TAKEN
                self.holders.add(version)
            case Unload(version):
                self.turns.pop(version, None)
                ready = self.states[version] is READY
                self.states[version] = DRAINING if ready else GONE
            case Load(version):
                assert self.states.get(version) is not GONE
                if self.states.get(version) is DRAINING:
                    self.states[version] = READY
                else:
                    self.states[version] = LOADING

    def happen(self, version: VersionId, *, well: bool) -> None:
        """A fetch, a load, a drain or the end of workers is over, or a failed load's wait is."""
        match self.states.get(version), self.turns.get(version):
            case State.LOADING, None:
                if well:
                    self.turns[version] = Turn.WAITING
                else:
                    self.states[version] = ERROR
            case State.LOADING, Turn.TAKEN:
                del self.turns[version]
                self.states[version] = READY if well else ERROR
                if not well:
                    self.holders.discard(version)
            case State.DRAINING, _:
                self.states[version] = GONE
            case State.GONE, _:
                del self.states[version]
                self.holders.discard(version)
            case State.ERROR, _:
                self.states[version] = State.NEW


wishes = st.dictionaries(st.sampled_from(ALIASES), st.sampled_from(VERSIONS))
happenings = st.lists(st.one_of(wishes, st.tuples(st.sampled_from(VERSIONS), st.booleans())), max_size=60)


@settings(max_examples=examples(600))
@given(happenings)
def test_in_any_order_nothing_is_loaded_beside_what_it_replaces_and_in_the_end_all_serve(
    history: list[Wish | tuple[VersionId, bool]],
) -> None:
    gateway = Gateway()
    for event in history:
        had_production = P in gateway.bound
        match event:
            case (version, well):
                gateway.happen(version, well=well)
            case wish:
                gateway.aspired = wish
        gateway.reconcile()
        assert P in gateway.bound or not had_production

    for _ in range(12):
        for version in VERSIONS:
            gateway.happen(version, well=True)
            gateway.reconcile()
    for alias, version in gateway.aspired.items():
        assert gateway.bound[alias] == version
    assert all(gateway.states[version] is READY for version in gateway.bound.values())


@pytest.mark.parametrize("alias", [P, C])
def test_without_a_turn_nothing_makes_way(alias: Alias) -> None:
    assert Snapshot({alias: V2}, {alias: V1}, {V1: READY}, in_turn=True).making_way == frozenset()
    assert Snapshot({alias: V2}, {alias: V1}, {V1: READY}, False, WAITS).making_way == frozenset()
    assert Snapshot({alias: V2}, {alias: V1}, {V1: READY}, True, WAITS).making_way == {V1}
