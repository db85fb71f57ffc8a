"""How much of the processors was idle over the last ten seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.idle_share import IdleShare, ProcessorReading


def test_it_is_known_after_two_seconds_and_forgets_what_was_ten_seconds_ago() -> None:
    """Two processors: idle at first, busy from the twentieth second on."""
    idle, seen = IdleShare(), {}
    for now in range(41):
        idle.add(float(now), ProcessorReading(2.0 * min(now, 20), 2.0 * now))
        seen[now] = idle.share
    assert (seen[1], seen[2], seen[20]) == (None, 1.0, 1.0)
    assert seen[25] == pytest.approx(0.5)
    assert seen[30] == seen[40] == 0.0


def test_a_quota_counts_where_it_leaves_less_than_the_machine_has() -> None:
    """Of eight processors that are idle, one and a half may be used, and 1.2 are."""
    idle = IdleShare()
    for now in range(5):
        idle.add(float(now), ProcessorReading(8.0 * now, 8.0 * now, ((1.2 * now, 1.5),)))
    assert idle.share == pytest.approx(0.2)


def test_a_quota_that_comes_or_goes_meanwhile_is_left_out() -> None:
    idle = IdleShare()
    for now in range(5):
        idle.add(float(now), ProcessorReading(now, 2.0 * now, ((50.0, 1.0),) if now > 2 else ()))
    assert idle.share == pytest.approx(0.5)


def test_what_is_forgotten_begins_anew() -> None:
    idle = IdleShare()
    for now in range(5):
        idle.add(float(now), ProcessorReading(now, now))
    idle.forget()
    assert idle.share is None
    idle.add(9.0, ProcessorReading(9.0, 9.0))
    assert idle.share is None


@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4), st.floats(0, 9)), max_size=30))
def test_it_is_a_share_whatever_the_system_says(steps: list[tuple[float, float, float]]) -> None:
    idle, now, spare, whole, used = IdleShare(), 0.0, 0.0, 0.0, 0.0
    for more_idle, more, more_used in steps:
        now, spare, whole, used = now + 1.0, spare + more_idle, whole + more, used + more_used
        idle.add(now, ProcessorReading(spare, whole, ((used, 2.0),)))
        assert idle.share is None or 0.0 <= idle.share <= 1.0
