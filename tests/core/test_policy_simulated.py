"""Lifecycle policy over time: from any snapshot, whatever loads do and in whatever order."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.policy import Action, Bind, Load, Snapshot, State, Unbind, Unload, next_action
from tests.support.examples import examples

ALIASES = (PRODUCTION, CANARY, Alias("challenger"))
VERSIONS = tuple(VersionId("fraud", number) for number in (1, 2, 3, 4))
MOST_ACTIONS = 3 * (len(ALIASES) + len(VERSIONS))
"""More than one look at a snapshot can cause: an alias is bound or unbound once, a version let go once and
loaded once."""

Wish = dict[Alias, VersionId]
wishes = st.dictionaries(st.sampled_from(ALIASES), st.sampled_from(VERSIONS))
luck = st.lists(st.booleans(), min_size=60, max_size=60)


@dataclass
class Gateway:
    """Does what the policy says, as the manager does, with loads that end when and how the test wants."""

    aspired: Wish = field(default_factory=dict)
    bound: Wish = field(default_factory=dict)
    states: dict[VersionId, State] = field(default_factory=dict)
    loads: Counter[VersionId] = field(default_factory=Counter)
    done: list[Action] = field(default_factory=list)

    def reconcile(self) -> None:
        for _ in range(MOST_ACTIONS):
            action = next_action(Snapshot(self.aspired, self.bound, self.states))
            if action is None:
                return
            self.apply(action)
            self.done.append(action)
        raise AssertionError(f"no fixed point: {self.done[-MOST_ACTIONS:]}")

    def apply(self, action: Action) -> None:
        match action:
            case Bind(alias, version):
                assert self.states[version] is State.READY
                assert self.aspired[alias] == version
                self.bound[alias] = version
            case Unbind(alias):
                assert alias != PRODUCTION
                assert alias not in self.aspired
                del self.bound[alias]
            case Unload(version):
                assert version not in self.bound.values()
                assert version not in self.aspired.values()
                ready = self.states[version] is State.READY
                self.states[version] = State.DRAINING if ready else State.GONE
            case Load(version):
                assert version in {*self.aspired.values(), *self.bound.values()}
                if self.states.get(version) is State.DRAINING:
                    self.states[version] = State.READY
                else:
                    assert self.states.get(version, State.NEW) in (State.NEW, State.GONE)
                    self.states[version] = State.LOADING
                    self.loads[version] += 1

    def under_way(self) -> list[VersionId]:
        """Versions that something will happen to without a new wish."""
        return [v for v, state in sorted(self.states.items()) if state in (State.LOADING, State.DRAINING)]

    def happen(self, version: VersionId, *, well: bool) -> None:
        """A load ends, a drain ends, or a failed load's wait is over."""
        match self.states.get(version):
            case State.LOADING:
                self.states[version] = State.READY if well else State.ERROR
            case State.DRAINING:
                del self.states[version]  # forgotten or kept as GONE, both are allowed
            case State.ERROR:
                self.states[version] = State.NEW

    def settle(self, order: Iterator[bool]) -> None:
        """Reconcile and let things end, first or last first, until nothing is left to do."""
        self.reconcile()
        while self.under_way():
            self.happen(self.under_way()[0 if next(order) else -1], well=next(order))
            self.reconcile()


@st.composite
def snapshots(draw: st.DrawFn) -> Gateway:
    """Any snapshot at all, also ones no history leads to."""
    states = draw(st.dictionaries(st.sampled_from(VERSIONS), st.sampled_from(State)))
    return Gateway(draw(wishes), draw(wishes), states)


@settings(max_examples=examples(400))
@given(snapshots(), luck)
def test_from_any_snapshot_a_fixed_point_is_reached(gateway: Gateway, order: list[bool]) -> None:
    """Whether loads succeed or fail, and in any order; there every wish is fulfilled or in ERROR."""
    gateway.settle(iter(order))

    assert next_action(Snapshot(gateway.aspired, gateway.bound, gateway.states)) is None
    for alias, version in gateway.aspired.items():
        assert gateway.bound.get(alias) == version or gateway.states[version] is State.ERROR
    assert set(gateway.bound) <= {*gateway.aspired, PRODUCTION}
    for version in gateway.bound.values():
        assert gateway.states[version] in (State.READY, State.ERROR), "bound, and nothing brings it back"
    wanted = {*gateway.aspired.values(), *gateway.bound.values()}
    assert {v for v, state in gateway.states.items() if state is not State.GONE} <= wanted


@given(snapshots(), luck)
def test_production_is_never_unbound(gateway: Gateway, order: list[bool]) -> None:
    had = gateway.bound.get(PRODUCTION)
    gateway.settle(iter(order))

    assert Unbind(PRODUCTION) not in gateway.done
    if had is not None:
        assert gateway.bound[PRODUCTION] in (had, gateway.aspired.get(PRODUCTION))


happenings = st.lists(
    st.one_of(wishes, st.tuples(st.sampled_from(VERSIONS), st.booleans())), min_size=1, max_size=40
)


@settings(max_examples=examples(400))
@given(happenings)
def test_through_any_history_what_is_bound_is_ready(history: list[Wish | tuple[VersionId, bool]]) -> None:
    """Polls, loads that end well or badly, drains and second tries, in any order, from an empty gateway.

    Loads beside: an alias goes from one READY version to another and never through nothing. Invariants 4, 5
    and 7 hold after every happening.
    """
    gateway = Gateway()
    for event in history:
        before = dict(gateway.bound)
        match event:
            case (version, well):
                gateway.happen(version, well=well)
            case wish:
                gateway.aspired = wish
        gateway.reconcile()

        assert all(gateway.states[version] is State.READY for version in gateway.bound.values())
        assert PRODUCTION in gateway.bound or PRODUCTION not in before
        for alias, version in gateway.bound.items():
            assert version in (before.get(alias), gateway.aspired.get(alias))
        for alias in before.keys() - gateway.bound.keys():
            assert alias not in gateway.aspired


@given(wishes.filter(lambda wish: PRODUCTION in wish))
def test_every_version_is_loaded_once_however_many_aliases_ask_for_it(wish: Wish) -> None:
    gateway = Gateway(aspired=wish)
    gateway.settle(iter([True] * 60))

    assert gateway.bound == wish
    assert gateway.loads == Counter(set(wish.values()))


@given(st.lists(wishes, min_size=1, max_size=6), wishes)
def test_a_wish_taken_back_before_anything_ended_reloads_nothing(passing: list[Wish], home: Wish) -> None:
    """1 → 2 → 1 within one load: 1 stayed bound, so it is neither loaded nor drained again."""
    gateway = Gateway(aspired=home)
    gateway.settle(iter([True] * 60))
    bound, loads = dict(gateway.bound), Counter(gateway.loads)

    for wish in passing:
        # Only additions and moves: an alias the registry drops is unbound at once, and that is no swap.
        gateway.aspired = {**home, **wish}
        if any(version in loads for alias, version in wish.items() if home.get(alias) != version):
            continue  # moves to a version that is READY take effect at once, they are no passing wish
        gateway.reconcile()
    gateway.aspired = home
    gateway.settle(iter([True] * 60))

    assert gateway.bound == bound
    assert all(gateway.loads[version] == 1 for version in bound.values())


def test_a_version_called_back_while_it_drains_is_not_loaded_again() -> None:
    v1, v2 = VERSIONS[:2]
    gateway = Gateway(aspired={PRODUCTION: v1})
    gateway.settle(iter([True] * 10))
    gateway.aspired = {PRODUCTION: v2}
    gateway.reconcile()
    gateway.happen(v2, well=True)
    gateway.reconcile()
    assert gateway.states == {v1: State.DRAINING, v2: State.READY}

    gateway.aspired = {PRODUCTION: v1}
    gateway.reconcile()

    assert gateway.bound == {PRODUCTION: v1}
    assert gateway.states == {v1: State.READY, v2: State.DRAINING}
    assert gateway.loads == Counter({v1: 1, v2: 1})


def test_a_version_that_fails_twice_and_then_loads_is_bound_and_production_never_noticed() -> None:
    v1, v2 = VERSIONS[:2]
    gateway = Gateway(aspired={PRODUCTION: v1})
    gateway.settle(iter([True] * 10))
    gateway.aspired = {PRODUCTION: v2}
    for well in (False, False, True):
        gateway.reconcile()
        assert gateway.bound == {PRODUCTION: v1}
        gateway.happen(v2, well=well)
        if not well:
            gateway.reconcile()
            gateway.happen(v2, well=True)  # the wait is over: ERROR becomes NEW
    gateway.reconcile()

    assert gateway.bound == {PRODUCTION: v2}
    assert gateway.loads[v2] == 3
