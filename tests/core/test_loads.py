"""Which load begins next: an order by importance, never a barrier, and nothing without room."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.core.loads import (
    HOLD_SECONDS,
    Begin,
    Decision,
    FreeKept,
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
MACHINES = st.fixed_dictionaries(
    {
        "fetching": SOME,
        "running": SOME,
        "side_by_side": st.integers(1, 4),
        "available": st.integers(0, 2000),
    }
)
"""What is under way there, and what there is room for."""


def load(priority: Priority, since: float = 0.0, size: int = 0) -> ScheduledLoad:
    return ScheduledLoad(priority, since, size)


def decide(
    *waiting: ScheduledLoad,
    now: float = 0.0,
    fetching: Sequence[ScheduledLoad] = (),
    running: Sequence[ScheduledLoad] = (),
    side_by_side: int = 2,
    available: int = 1000,
    spare: int = 0,
    kept: int = 0,
) -> Decision | None:
    return next_decision(
        now,
        fetching=fetching,
        waiting=waiting,
        running=running,
        side_by_side=side_by_side,
        available=available,
        spare=spare,
        kept=kept,
    )


@given(SOME, MACHINES, st.integers(0, 500))
def test_nobody_is_overtaken_by_a_lesser_load(
    waiting: list[ScheduledLoad], machine: dict[str, Any], spare: int
) -> None:
    decision = decide(*waiting, now=100.0, spare=spare, **machine)
    if isinstance(decision, Begin | Refuse):
        assert waiting[decision.index].priority == min(one.priority for one in waiting)


@given(SOME, MACHINES)
def test_what_is_not_vital_begins_only_within_the_bound_and_the_memory_that_is_left(
    waiting: list[ScheduledLoad], machine: dict[str, Any]
) -> None:
    decision = decide(*waiting, now=100.0, **machine)
    running: list[ScheduledLoad] = machine["running"]
    if isinstance(decision, Begin):
        begun = waiting[decision.index]
        rivals = (
            running if begun.priority > PRODUCTION else [r for r in running if r.priority <= begun.priority]
        )
        assert len(rivals) < machine["side_by_side"]
        if begun.priority is not UNSERVED:
            assert begun.size + sum(one.size for one in running) <= machine["available"]


@given(st.lists(LOADS, min_size=1, max_size=6), SOME, st.integers(0, 2000), st.integers(0, 500))
def test_with_nothing_running_something_happens_at_the_latest_when_the_hold_is_over(
    waiting: list[ScheduledLoad], fetching: list[ScheduledLoad], available: int, spare: int
) -> None:
    """Nobody waits for an event that never comes."""
    now = max(0.0, *(held_until(one.priority, fetching, ()) for one in waiting))
    assert decide(*waiting, now=now, fetching=fetching, available=available, spare=spare) is not None


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
        match decide(*waiting, now=now, running=flat, side_by_side=side_by_side):
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


@given(LOADS, MACHINES, st.integers(0, 500), st.integers(1, 2000), st.integers(1, 5))
def test_whatever_it_is_a_load_begins_as_if_nothing_were_kept(
    wanted: ScheduledLoad, machine: dict[str, Any], spare: int, kept: int, workers: int
) -> None:
    """Productions, canaries, further workers and spares: at once, but for the kept workers to end."""
    available = machine.pop("available")
    alone = decide(wanted, now=100.0, spare=spare, available=available + kept, **machine)
    while (
        decision := decide(wanted, now=100.0, spare=spare, available=available, kept=kept, **machine)
    ) == FreeKept():
        step = -(-kept // workers)
        kept, available, workers = kept - step, available + step, max(workers - 1, 1)

    assert (decision == Begin(0)) == (alone == Begin(0))


@given(LOADS, MACHINES, st.integers(0, 500), st.integers(1, 2000))
def test_what_is_kept_goes_for_no_load_that_has_no_room_even_then(
    wanted: ScheduledLoad, machine: dict[str, Any], spare: int, kept: int
) -> None:
    """But for a production that nobody stands in for, which begins anyway."""
    decision = decide(wanted, now=100.0, spare=spare, kept=kept, **machine)
    if decision == FreeKept() and wanted.priority is not UNSERVED:
        needed = wanted.size + sum(one.size for one in machine["running"])
        helped = machine["available"] + kept + (0 if machine["running"] else spare)
        assert machine["available"] < needed <= helped


def test_what_is_kept_goes_before_spares_and_for_spares_too() -> None:
    assert decide(load(FURTHER, size=1001), kept=1) == FreeKept()
    assert decide(load(OTHER_ALIAS, size=1001), kept=1, spare=1) == FreeKept()
    assert decide(load(OTHER_ALIAS, size=1002), kept=1, spare=1) == FreeKept()
    assert decide(load(OTHER_ALIAS, size=1002), spare=2) == FreeSpares()
    assert decide(load(UNSERVED, size=5000), kept=1, spare=1) == FreeKept()


def test_a_load_that_waits_for_room_does_not_wait_for_others_where_what_is_kept_makes_it() -> None:
    running = (load(OTHER_ALIAS, size=600),)
    assert decide(load(OTHER_ALIAS, size=500), running=running, kept=100) == FreeKept()
    assert decide(load(OTHER_ALIAS, size=500), running=running, kept=99) is None
