"""When production gets workers beside those of the settings, how many, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.relief import KEPT_SECONDS, MOST_EXTRA, Relief, is_stuck


def look(relief: Relief, now: float, *, stuck: int, workers: int = 1, waiting: int = 1) -> int:
    relief.look(now, stuck=stuck, workers=workers, wanted=1 + relief.extra, waiting=waiting)
    return relief.extra


@pytest.mark.parametrize(
    ("running", "typical", "stuck"),
    [(0.9, 0.01, False), (1.1, 0.01, True), (4.9, 1.0, False), (5.1, 1.0, True), (1.1, 0.0, True)],
)
def test_a_predict_is_stuck_after_a_second_and_five_typical_ones(
    running: float, typical: float, stuck: bool
) -> None:
    assert is_stuck(running, typical) is stuck


def test_one_worker_comes_when_all_are_stuck_and_requests_wait() -> None:
    assert look(Relief(), 1.0, stuck=1) == 1


@pytest.mark.parametrize(
    ("stuck", "workers", "waiting"),
    [(0, 1, 5), (1, 1, 0), (1, 2, 5), (0, 0, 5)],
    ids=["busy, not stuck", "nobody waits", "another worker is there", "no worker: a replacement comes"],
)
def test_none_comes_otherwise(stuck: int, workers: int, waiting: int) -> None:
    assert look(Relief(), 1.0, stuck=stuck, workers=workers, waiting=waiting) == 0


def test_while_one_is_coming_no_second_is_called() -> None:
    relief = Relief()
    assert [look(relief, float(now), stuck=1, workers=1) for now in range(3)] == [1, 1, 1]
    assert look(relief, 3.0, stuck=2, workers=2) == 2


def test_extra_workers_stay_while_a_predict_is_stuck_and_a_while_after() -> None:
    relief = Relief()
    look(relief, 0.0, stuck=1)
    assert look(relief, 500.0, stuck=1, workers=2, waiting=0) == 1
    assert look(relief, 500.0 + KEPT_SECONDS, stuck=0, workers=2, waiting=0) == 1
    assert look(relief, 500.1 + KEPT_SECONDS, stuck=0, workers=2, waiting=0) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_never_more_than_two_whatever_happens(looks: list[tuple[int, int, int]]) -> None:
    relief = Relief()
    for now, (stuck, workers, waiting) in enumerate(looks):
        assert 0 <= look(relief, float(now), stuck=stuck, workers=workers, waiting=waiting) <= MOST_EXTRA
