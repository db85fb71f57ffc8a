"""Lifecycle policy where versions are held back from every alias but production for a while."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.policy import Action, Bind, Load, Snapshot, State, Unload, next_action
from tests.core.test_policy_simulated import MOST_ACTIONS, VERSIONS, Gateway, Wish, wishes
from tests.support.examples import examples

P, C = PRODUCTION, CANARY
V1, V2, V3, _ = VERSIONS
READY, LOADING, ERROR = State.READY, State.LOADING, State.ERROR
NOBODY: frozenset[VersionId] = frozenset()


def look(
    aspired: Wish,
    bound: Wish,
    states: dict[VersionId, State],
    held_back: frozenset[VersionId] = frozenset((V2,)),
    *,
    in_turn: bool = False,
) -> Action | None:
    return next_action(Snapshot(aspired, bound, states, in_turn, held_back=held_back))


def test_what_is_held_back_is_bound_when_it_is_no_more() -> None:
    states = {V1: READY, V2: READY}

    assert look({P: V1, C: V2}, {P: V1}, states) is None
    assert look({P: V1, C: V2}, {P: V1}, states, NOBODY) == Bind(C, V2)


def test_nothing_is_held_back_from_production() -> None:
    assert look({P: V2, C: V2}, {P: V1}, {V1: READY, V2: READY}) == Bind(P, V2)


def test_the_former_canary_serves_meanwhile() -> None:
    states = {V1: READY, V2: READY, V3: READY}

    assert look({P: V1, C: V2}, {P: V1, C: V3}, states) is None
    assert look({P: V1, C: V2}, {P: V1, C: V2}, states, NOBODY) == Unload(V3)


def test_in_turn_the_former_canary_is_not_loaded_beside_what_is_held_back() -> None:
    both, before = {P: V1, C: V2}, {P: V1, C: V3}

    assert look(both, before, {V1: READY, V2: READY}, in_turn=True) is None
    assert look(both, before, {V1: READY, V2: READY}, NOBODY, in_turn=True) == Bind(C, V2)


def test_in_turn_what_is_held_back_takes_no_place_before_it_is_loaded() -> None:
    both, before = {P: V1, C: V2}, {P: V1, C: V3}

    assert look(both, before, {V1: READY, V2: LOADING, V3: READY}, in_turn=True) is None
    assert look(both, before, {V1: READY, V2: ERROR}, in_turn=True) == Load(V3)


@dataclass
class HoldingBack(Gateway):
    """As a gateway of `test_policy_simulated`, some of whose versions are held back."""

    held_back: frozenset[VersionId] = field(default_factory=frozenset)

    def reconcile(self) -> None:
        for _ in range(MOST_ACTIONS):
            action = next_action(Snapshot(self.aspired, self.bound, self.states, held_back=self.held_back))
            if action is None:
                return
            if isinstance(action, Bind):
                assert action.alias == P or action.version not in self.held_back
            self.apply(action)
        raise AssertionError("no fixed point")


ends = st.tuples(st.sampled_from(VERSIONS), st.booleans())
events = st.lists(st.one_of(wishes, ends, st.frozensets(st.sampled_from(VERSIONS))))


@settings(max_examples=examples(600))
@given(events)
def test_through_any_history_production_is_served_as_if_nothing_were_held_back(
    history: list[Wish | tuple[VersionId, bool] | frozenset[VersionId]],
) -> None:
    """And all is bound that is named and READY, once nothing is held back."""
    holding, free = HoldingBack(), Gateway()
    for event in history:
        for gateway in (holding, free):
            match event:
                case (version, well):
                    gateway.happen(version, well=well)
                case frozenset():
                    if isinstance(gateway, HoldingBack):
                        gateway.held_back = event
                case wish:
                    assert isinstance(wish, dict)
                    gateway.aspired = dict(wish)
            gateway.reconcile()
        assert holding.bound.get(P) == free.bound.get(P)

    holding.held_back = NOBODY
    holding.reconcile()
    ready = {alias: v for alias, v in holding.aspired.items() if holding.states.get(v) is READY}
    assert ready.items() <= holding.bound.items()
