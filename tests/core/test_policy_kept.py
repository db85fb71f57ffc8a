"""Lifecycle policy where the version that production left stays loaded for a while."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, ROLLBACK, Alias, VersionId
from router.core.policy import Action, Bind, Load, Snapshot, State, Unload, next_action
from router.core.rollback import Productions, kept_version, rollback_version
from tests.core.test_policy_simulated import MOST_ACTIONS, VERSIONS, Gateway
from tests.support.examples import examples

P, C = PRODUCTION, CANARY
V1, V2, V3, _ = VERSIONS
READY = State.READY
Wish = dict[Alias, VersionId]


def look(
    aspired: Wish,
    bound: Wish,
    states: dict[VersionId, State],
    kept: VersionId | None = V1,
    *,
    in_turn: bool = False,
) -> Action | None:
    return next_action(Snapshot(aspired, bound, states, in_turn, kept=kept))


def test_what_production_left_stays_and_is_bound_again_without_a_load() -> None:
    assert look({P: V2}, {P: V2}, {V1: READY, V2: READY}) is None
    assert look({P: V1}, {P: V2}, {V1: READY, V2: READY}) == Bind(P, V1)


def test_it_goes_when_it_is_kept_no_more() -> None:
    assert look({P: V2}, {P: V2}, {V1: READY, V2: READY}, None) == Unload(V1)
    assert look({P: V2}, {P: V2}, {V1: READY, V2: READY}, V3) == Unload(V1)


def test_in_turn_nothing_is_kept_beside_what_serves() -> None:
    assert look({P: V2}, {P: V2}, {V1: READY, V2: READY}, in_turn=True) == Unload(V1)


def test_nothing_is_loaded_in_order_to_be_kept() -> None:
    for state in (State.NEW, State.LOADING, State.ERROR):
        assert look({P: V2}, {P: V2}, {V1: state, V2: READY}) == Unload(V1)
    for state in (State.DRAINING, State.GONE):
        assert look({P: V2}, {P: V2}, {V1: state, V2: READY}) is None
    assert look({P: V2}, {P: V2}, {V2: READY}) is None


def test_what_is_kept_holds_up_no_load() -> None:
    assert look({P: V2, C: V3}, {P: V2}, {V1: READY, V2: READY}) == Load(V3)


@dataclass
class Keeping(Gateway):
    """As a gateway of `test_policy_simulated`, which keeps what the manager would keep."""

    named: VersionId | None = None
    seconds: int = 10
    now: int = 0
    moved_at: int = 0
    productions: Productions = field(default_factory=Productions)
    given_up: VersionId | None = None

    @property
    def kept(self) -> VersionId | None:
        if self.now >= self.moved_at + self.seconds:
            return None
        kept = kept_version(
            self.bound.get(P),
            self.named,
            self.productions.former,
            loaded=self.loaded,
            wanted=self.wanted,
        )
        return None if kept == self.given_up else kept

    @property
    def loaded(self) -> set[VersionId]:
        return {version for version, state in self.states.items() if state is READY}

    @property
    def wanted(self) -> set[VersionId]:
        return {*self.aspired.values(), *self.bound.values()}

    @property
    def unwanted(self) -> set[VersionId]:
        """Versions that have workers and no alias."""
        return self.loaded - self.wanted

    def reconcile(self) -> None:
        for _ in range(MOST_ACTIONS):
            action = next_action(Snapshot(self.aspired, self.bound, self.states, kept=self.kept))
            if action is None:
                return
            self.apply(action)
            if isinstance(action, Bind) and action.alias == P:
                self.productions = self.productions.moved(action.version)
                self.moved_at, self.given_up = self.now, None
        raise AssertionError("no fixed point")


wishes = st.dictionaries(st.sampled_from((P, C, ROLLBACK)), st.sampled_from(VERSIONS))
ends = st.tuples(st.sampled_from(VERSIONS), st.booleans())
happenings = st.lists(st.one_of(wishes, ends, st.integers(0, 20), st.sampled_from(["reload", "memory"])))


@settings(max_examples=examples(600))
@given(happenings)
def test_through_any_history_one_version_is_kept_at_most_and_only_while_its_time_lasts(
    history: list[Wish | tuple[VersionId, bool] | int | str],
) -> None:
    """Polls, loads that end, time that passes, settings that change, memory that is needed, in any order."""
    gateway = Keeping()
    for event in history:
        match event:
            case (version, well):
                gateway.happen(version, well=well)
            case int(seconds):
                gateway.now += seconds
            case "reload":
                gateway.seconds = 0 if gateway.seconds else 10
            case "memory":
                gateway.given_up = gateway.kept
            case wish:
                assert isinstance(wish, dict)
                gateway.named = wish.get(ROLLBACK)
                gateway.aspired = {alias: version for alias, version in wish.items() if alias != ROLLBACK}
        gateway.reconcile()

        assert gateway.unwanted <= {gateway.kept}
        if gateway.seconds == 0 or gateway.now >= gateway.moved_at + gateway.seconds:
            assert gateway.unwanted == set()
        assert all(gateway.states[version] is READY for version in gateway.bound.values())


@given(st.sampled_from([None, V1]))
def test_a_rollback_within_the_time_loads_nothing_and_lets_go_what_it_left(named: VersionId | None) -> None:
    gateway = Keeping(aspired={P: V1})
    gateway.settle(iter([True] * 10))
    gateway.named, gateway.aspired = named, {P: V2}
    gateway.settle(iter([True] * 10))
    assert gateway.kept == rollback_version(V2, named, gateway.productions.former) == V1
    gateway.now += 9
    gateway.aspired = {P: V1}
    gateway.reconcile()

    assert gateway.bound == {P: V1}
    assert gateway.loads == Counter({V1: 1, V2: 1})
    assert gateway.states[V2] is State.DRAINING
