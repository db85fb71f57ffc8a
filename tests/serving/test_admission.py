"""Who may join a queue: bursts always, what would only make everybody wait never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.serving.pool.admission import BURST_SECONDS, CALM_SECONDS, LEARNED_FROM, Admission


def learned(seconds: float, rows: int = 1, size: int = 100) -> Admission:
    admission = Admission()
    for _ in range(LEARNED_FROM):
        admission.learn(seconds, [rows], [size])
    return admission


def admits(admission: Admission, now: float, waiting: int, *, workers: int = 1, left: float = 60.0) -> bool:
    return admission.admits(now, waiting=waiting, rows=waiting, workers=workers, seconds_left=left)


def test_a_burst_is_taken_in_whole() -> None:
    """A thousand callers at once have 9 s of work in front of them, and a minute."""
    admission = learned(0.009)
    assert all(admits(admission, 100.0, waiting) for waiting in range(1000))


def test_under_lasting_overload_the_queue_stays_as_long_as_a_second_of_work() -> None:
    """Ten times the capacity for a minute, request by request."""
    admission, served_each = learned(0.01), 0.01
    waiting, served_until, longest_after_a_while = 0, 0.0, 0
    for step in range(60_000):
        now = step / 1000
        while waiting and served_until + served_each <= now:
            waiting, served_until = waiting - 1, served_until + served_each
        if not waiting:
            served_until = max(served_until, now)
        if admits(admission, now, waiting):
            waiting += 1
        if now > 10:
            longest_after_a_while = max(longest_after_a_while, waiting)
            assert waiting > 0, "the worker was idle under overload"
    assert longest_after_a_while * served_each <= CALM_SECONDS + served_each


def test_what_could_not_be_answered_in_time_is_refused_even_in_a_burst() -> None:
    admission = learned(0.1)
    assert admits(admission, 1.0, 10, left=1.1)
    assert not admits(admission, 1.0, 12, left=1.1)
    assert admits(admission, 1.0, 12, workers=2, left=1.1)


def test_a_slow_version_may_have_some_callers_waiting_for_long() -> None:
    """With 3 s a request, eight in a row are no overload."""
    admission = learned(3.0)
    assert all(admits(admission, float(now), 8) for now in range(100))
    assert not admits(admission, 200.0, 9)


def test_an_empty_queue_takes_anything() -> None:
    assert admits(learned(100.0), 0.0, 0, left=0.1)


def test_nothing_is_refused_before_anything_is_known() -> None:
    assert admits(Admission(), 0.0, 100_000, left=0.1)


@given(st.lists(st.floats(0.001, 0.01), min_size=40, max_size=40))
def test_one_endless_request_in_five_moves_what_is_typical_by_nothing(usual: list[float]) -> None:
    admission = Admission()
    for seconds in usual:
        admission.learn(seconds, [1], [100])
    for _ in range(8):
        admission.learn(60.0, [1], [100])
    assert admission.cost.usual_seconds(1) <= 0.01
    assert 0.001 <= admission.fastest_seconds <= min(usual)


def test_a_burst_after_calm_is_taken_again() -> None:
    admission = learned(0.01)
    assert not admits(admission, 50.0, 500)
    assert admits(admission, 51.0, 0)
    assert admits(admission, 51.0 + BURST_SECONDS, 500)
    assert not admits(admission, 51.01 + BURST_SECONDS, 500)


@pytest.mark.parametrize(("seconds", "rows"), [(0.0001, 500), (0.009, 5), (0.3, 2)])
def test_a_worker_is_handed_little_at_once_by_a_slow_version(seconds: float, rows: int) -> None:
    """No more than was tried, twice; what a batch of two costs is tried."""
    assert learned(seconds).rows_at_once == rows


@pytest.mark.parametrize(
    ("rows", "size", "asked", "reported"), [(10, 100, 999, 100), (1, 100, 10, 1), (0, 5, 9, 1)]
)
def test_rows_are_estimated_by_bytes_and_never_less_than_one(
    rows: int, size: int, asked: int, reported: int
) -> None:
    assert learned(0.01, rows, size).rows_in(asked) == reported


def test_a_frame_doubles_where_requests_together_take_no_longer_than_one() -> None:
    """A predict that waits for 50 ms waits for all of them at once; what many cost is not known before."""
    admission, frames = learned(0.05), []
    for _ in range(7):
        frames.append(admission.rows_at_once)
        admission.learn(0.05, [1] * frames[-1], [100] * frames[-1])
    assert frames == [2, 4, 8, 16, 32, 64, 128]


def test_a_frame_stays_where_requests_together_take_as_long_as_one_after_the_other() -> None:
    admission = learned(0.03)
    for _ in range(20):
        requests = admission.rows_at_once
        assert requests <= 2
        admission.learn(0.03 * requests, [1] * requests, [100] * requests)


def test_what_requests_cost_is_learned_anew_when_they_begin_to_share_predicts() -> None:
    admission = learned(0.05)
    assert not admits(admission, 100.0, 64, left=1.0)
    admission.note_batching(merges=True)
    assert admits(admission, 100.0, 64, left=1.0)
    assert admission.rows_at_once > 64
