"""Tries that fail come later and later, never stop, and after a success come at once again."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.backoff import Backoff

DELAYS = st.lists(st.floats(0.0, 300.0), min_size=1, max_size=8).map(lambda delays: tuple(sorted(delays)))
TIMES = st.floats(-1e6, 1e6)


@given(DELAYS, TIMES)
def test_a_first_try_may_begin_at_once(delays: tuple[float, ...], now: float) -> None:
    fresh = Backoff(delays)
    assert fresh.allows(now)
    assert (fresh.failures, fresh.seconds) == (0, 0.0)


@given(DELAYS, st.integers(1, 20))
def test_each_failure_waits_by_its_place_in_the_row_and_the_last_delay_repeats(
    delays: tuple[float, ...], failures: int
) -> None:
    backoff, now, waits = Backoff(delays), 0.0, []
    for _ in range(failures):
        backoff = backoff.failed(now)
        waits.append(backoff.seconds)
        assert backoff.not_before == now + backoff.seconds
        now = backoff.not_before
    assert waits == [delays[min(n, len(delays) - 1)] for n in range(failures)]
    assert waits == sorted(waits)
    assert backoff.failures == failures


@given(DELAYS, TIMES, st.floats(0.0, 600.0))
def test_a_try_may_begin_when_the_wait_is_over_and_not_before(
    delays: tuple[float, ...], now: float, later: float
) -> None:
    backoff = Backoff(delays).failed(now)
    assert backoff.allows(now + later) == (now + later >= now + delays[0])


@given(DELAYS, st.lists(st.one_of(st.just("success"), TIMES), max_size=30), TIMES)
def test_after_a_success_it_is_as_if_nothing_had_failed(
    delays: tuple[float, ...], story: list[object], now: float
) -> None:
    backoff = Backoff(delays)
    for event in story:
        backoff = backoff.failed(event) if isinstance(event, float) else backoff.reset()
    assert backoff.reset() == Backoff(delays)
    assert backoff.reset().failed(now) == Backoff(delays).failed(now)


def test_a_value_never_changes() -> None:
    fresh = Backoff((1.0, 2.0))
    once = fresh.failed(10.0)
    once.failed(20.0)
    assert (fresh.failures, once.failures, once.not_before) == (0, 1, 11.0)
