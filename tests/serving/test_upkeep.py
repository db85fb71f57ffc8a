"""When workers come beside those of the settings, when one that grew goes, and when a spare has room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.memory import MIB
from router.serving.pool.supply import has_room
from router.serving.pool.upkeep import (
    KEPT_SECONDS,
    MOST_EXTRA,
    RECYCLE_DELAYS,
    ExtraWorkers,
    is_runaway,
    is_stuck,
)


def look(extra: ExtraWorkers, now: float, *, stuck: int, workers: int = 1, waiting: int = 1) -> int:
    extra.look(now, stuck=stuck, workers=workers, wanted=1 + extra.count, waiting=waiting)
    return extra.count


@pytest.mark.parametrize(
    ("running", "typical", "stuck"),
    [(0.9, 0.01, False), (1.1, 0.01, True), (4.9, 1.0, False), (5.1, 1.0, True), (1.1, 0.0, True)],
)
def test_a_predict_is_stuck_after_a_second_and_five_typical_ones(
    running: float, typical: float, stuck: bool
) -> None:
    assert is_stuck(running, typical) is stuck


def test_one_worker_comes_when_all_are_stuck_and_requests_wait() -> None:
    assert look(ExtraWorkers(), 1.0, stuck=1) == 1


@pytest.mark.parametrize(
    ("stuck", "workers", "waiting"),
    [(0, 1, 5), (1, 1, 0), (1, 2, 5), (0, 0, 5)],
    ids=["busy, not stuck", "nobody waits", "another worker is there", "no worker: a replacement comes"],
)
def test_none_comes_otherwise(stuck: int, workers: int, waiting: int) -> None:
    assert look(ExtraWorkers(), 1.0, stuck=stuck, workers=workers, waiting=waiting) == 0


def test_while_one_is_coming_no_second_is_called() -> None:
    extra = ExtraWorkers()
    assert [look(extra, float(now), stuck=1, workers=1) for now in range(3)] == [1, 1, 1]
    assert look(extra, 3.0, stuck=2, workers=2) == 2


def test_extra_workers_stay_while_a_predict_is_stuck_and_a_while_after() -> None:
    extra = ExtraWorkers()
    look(extra, 0.0, stuck=1)
    assert look(extra, 500.0, stuck=1, workers=2, waiting=0) == 1
    assert look(extra, 500.0 + KEPT_SECONDS, stuck=0, workers=2, waiting=0) == 1
    assert look(extra, 500.1 + KEPT_SECONDS, stuck=0, workers=2, waiting=0) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_never_more_than_two_whatever_happens(looks: list[tuple[int, int, int]]) -> None:
    extra = ExtraWorkers()
    for now, (stuck, workers, waiting) in enumerate(looks):
        assert 0 <= look(extra, float(now), stuck=stuck, workers=workers, waiting=waiting) <= MOST_EXTRA


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


def test_the_longest_wait_after_replacements_in_vain_is_five_minutes() -> None:
    assert RECYCLE_DELAYS == (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
