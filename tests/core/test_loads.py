"""Which load begins next: an order by importance, never a barrier, and nothing without room."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.core.loads import (
    HOLD_SECONDS,
    Begin,
    Decision,
    FreeSpares,
    Priority,
    Refuse,
    ScheduledLoad,
    held_until,
    next_decision,
)

UNSERVED, PRODUCTION, OTHER_ALIAS, FURTHER = Priority
LOADS = st.builds(ScheduledLoad, st.sampled_from(Priority), st.floats(0, 100), st.integers(0, 1000))
SOME = st.lists(LOADS, max_size=6)


def load(priority: Priority, since: float = 0.0, size: int = 0) -> ScheduledLoad:
    return ScheduledLoad(priority, since, size)


def decide(
    *waiting: ScheduledLoad,
    now: float = 0.0,
    fetching: tuple[ScheduledLoad, ...] = (),
    running: tuple[ScheduledLoad, ...] = (),
    side_by_side: int = 2,
    available: int = 1000,
    spare: int = 0,
) -> Decision | None:
    return next_decision(
        now,
        fetching=fetching,
        waiting=waiting,
        running=running,
        side_by_side=side_by_side,
        available=available,
        spare=spare,
    )


@given(SOME, SOME, SOME, st.integers(1, 4), st.integers(0, 2000), st.integers(0, 500))
def test_nobody_is_overtaken_by_a_lesser_load(
    fetching: list[ScheduledLoad],
    waiting: list[ScheduledLoad],
    running: list[ScheduledLoad],
    side_by_side: int,
    available: int,
    spare: int,
) -> None:
    decision = next_decision(
        100.0,
        fetching=fetching,
        waiting=waiting,
        running=running,
        side_by_side=side_by_side,
        available=available,
        spare=spare,
    )
    if isinstance(decision, Begin | Refuse):
        assert waiting[decision.index].priority == min(one.priority for one in waiting)


@given(SOME, SOME, SOME, st.integers(1, 4), st.integers(0, 2000))
def test_what_is_not_vital_begins_only_within_the_bound_and_the_memory_that_is_left(
    fetching: list[ScheduledLoad],
    waiting: list[ScheduledLoad],
    running: list[ScheduledLoad],
    side_by_side: int,
    available: int,
) -> None:
    decision = next_decision(
        100.0,
        fetching=fetching,
        waiting=waiting,
        running=running,
        side_by_side=side_by_side,
        available=available,
        spare=0,
    )
    if isinstance(decision, Begin):
        begun = waiting[decision.index]
        rivals = (
            running if begun.priority > PRODUCTION else [r for r in running if r.priority <= begun.priority]
        )
        assert len(rivals) < side_by_side
        if begun.priority is not UNSERVED:
            assert begun.size + sum(one.size for one in running) <= available


@given(st.lists(LOADS, min_size=1, max_size=6), SOME, st.integers(0, 2000), st.integers(0, 500))
def test_with_nothing_running_something_happens_at_the_latest_when_the_hold_is_over(
    waiting: list[ScheduledLoad], fetching: list[ScheduledLoad], available: int, spare: int
) -> None:
    """Nobody waits for an event that never comes."""
    now = max(0.0, *(held_until(one.priority, fetching, ()) for one in waiting))
    assert decide(*waiting, now=now, fetching=tuple(fetching), available=available, spare=spare) is not None


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.integers(1, 9), st.booleans()), max_size=30),
    st.integers(1, 4),
)
def test_a_start_ends_with_every_load_begun_in_order_and_never_too_many_at_once(
    wanted: list[tuple[Priority, int, bool]], side_by_side: int
) -> None:
    """All ask at once; some fail. Each runs for its own time, and a failed one is gone when it ends."""
    waiting = [load(priority) for priority, _, _ in wanted]
    seconds = [seconds for _, seconds, _ in wanted]
    running: dict[float, list[ScheduledLoad]] = {}
    begun: list[Priority] = []
    now = 0.0
    while waiting:
        flat = [one for loads in running.values() for one in loads]
        match decide(*waiting, now=now, running=tuple(flat), side_by_side=side_by_side):
            case Begin(index):
                begun.append(waiting[index].priority)
                ends_at = now + seconds.pop(index)
                running.setdefault(ends_at, []).append(replace(waiting.pop(index), since=now))
                assert len(flat) < side_by_side
            case None:
                now = min(running)
                del running[now]
            case other:
                raise AssertionError(other)
    assert begun == sorted(begun)


def test_a_canary_waits_while_an_unserved_production_is_fetched_or_loaded_but_not_for_ever() -> None:
    for where in ("fetching", "running"):
        production = {where: (load(UNSERVED, since=50.0),)}
        assert decide(load(OTHER_ALIAS), now=50.0, **production) is None  # type: ignore[arg-type]
        over = 50.0 + HOLD_SECONDS
        assert decide(load(OTHER_ALIAS), now=over, **production) == Begin(0)  # type: ignore[arg-type]


def test_a_production_that_is_served_so_long_holds_up_nobody() -> None:
    for where in ("fetching", "running"):
        assert decide(load(OTHER_ALIAS), **{where: (load(PRODUCTION),)}) == Begin(0)  # type: ignore[arg-type]


def test_a_production_without_a_worker_does_not_wait_for_slow_canaries() -> None:
    canaries = (load(OTHER_ALIAS, size=400), load(OTHER_ALIAS, size=400))
    assert decide(load(UNSERVED, size=300), running=canaries) == Begin(0)
    assert decide(load(OTHER_ALIAS), running=canaries) is None


def test_a_canary_without_room_waits_for_what_runs_and_is_refused_when_nothing_does() -> None:
    big = load(OTHER_ALIAS, size=1001)
    assert decide(big, running=(load(FURTHER, size=1),)) is None
    assert decide(big) == Refuse(0)


def test_spares_go_for_a_version_that_fits_then_and_for_no_other_spare() -> None:
    assert decide(load(OTHER_ALIAS, size=1100), spare=100) == FreeSpares()
    assert decide(load(OTHER_ALIAS, size=1101), spare=100) == Refuse(0)
    assert decide(load(FURTHER, size=1100), spare=100) == Refuse(0)


def test_an_unserved_production_is_tried_without_room_after_those_that_have_it_and_after_spares_went() -> (
    None
):
    big, small = load(UNSERVED, since=0.0, size=2000), load(UNSERVED, since=1.0, size=10)
    assert decide(big, small) == Begin(1)
    assert decide(big, running=(small,)) is None
    assert decide(big, spare=1) == FreeSpares()
    assert decide(big) == Begin(0)
