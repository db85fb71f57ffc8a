"""When a worker that grows is replaced, and when a spare has room."""

import pytest

from router.core.memory import MIB, PAUSE_SECONDS, Pace, Resident, has_room, is_runaway


def test_what_was_of_use_may_be_done_again_at_once() -> None:
    pace = Pace()
    assert pace.allows(0.0)
    pace.replaced(100.0, in_vain=False)
    assert pace.allows(100.0)


def test_replacements_in_vain_come_later_and_later_and_never_stop() -> None:
    pace, now = Pace(), 0.0
    waits = []
    for _ in range(8):
        pace.replaced(now, in_vain=True)
        wait = next(seconds for seconds in range(1000) if pace.allows(now + seconds))
        waits.append(wait)
        now += wait
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert tuple(waits[:6]) == PAUSE_SECONDS[1:]


def test_one_that_was_of_use_ends_the_waiting() -> None:
    pace = Pace()
    for _ in range(4):
        pace.replaced(0.0, in_vain=True)
    assert not pace.allows(79.0)
    pace.replaced(80.0, in_vain=False)
    assert pace.allows(80.0)
    pace.replaced(80.0, in_vain=True)
    assert pace.allows(90.0)


@pytest.mark.parametrize(
    ("grown_mib", "seconds", "ended"),
    [(64, 60.0, False), (128, 60.0, False), (129, 60.0, True), (129, 0.9, False), (10_000, 0.1, False)],
)
def test_only_a_long_predict_that_took_twice_the_limit_is_ended(
    grown_mib: int, seconds: float, *, ended: bool
) -> None:
    assert is_runaway(grown_mib * MIB, 64 * MIB, seconds) is ended


@pytest.mark.parametrize(
    ("available_mib", "kept", "room"),
    [(200, False, True), (199, False, False), (100, True, True), (50, True, True), (49, True, False)],
)
def test_a_spare_comes_where_two_fit_and_goes_before_the_last_half(
    available_mib: int, *, kept: bool, room: bool
) -> None:
    assert has_room(available_mib * MIB, 100 * MIB, kept=kept) is room


def test_a_spare_that_came_is_not_sent_away_for_the_room_it_takes() -> None:
    """Else it would come and go for ever."""
    for worker in (1, 100 * MIB, 10_000 * MIB):
        assert has_room(2 * worker, worker, kept=False)
        assert has_room(2 * worker - worker, worker, kept=True)


def test_pages_of_files_cost_another_worker_nothing() -> None:
    assert Resident(100, 30).own == 70
    assert Resident().own == 0
