"""The breaker: who is stopped, when, and who never is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.breaker import CRASH_WINDOW_SECONDS, OUTAGE_REQUESTS, Breaker

verdicts = st.lists(st.booleans(), max_size=300)


def judged(faults: list[bool]) -> Breaker:
    breaker = Breaker()
    for fault in faults:
        breaker.judge(fault=fault)
    return breaker


def test_a_version_that_always_fails_is_stopped_at_its_50th_request_and_not_before() -> None:
    breaker = judged([True] * 49)
    assert not breaker.is_open
    breaker.judge(fault=True)
    assert breaker.is_open
    assert breaker.view().why == "50 of its last 50 requests were faults"


@pytest.mark.parametrize(("faults", "stopped"), [(24, False), (25, True)])
def test_half_of_the_last_50_is_too_much(faults: int, stopped: bool) -> None:
    assert judged([True] * faults + [False] * (50 - faults)).is_open is stopped
    assert judged([False] * 500 + [True] * faults).is_open is stopped


@given(verdicts)
def test_it_opens_exactly_when_25_of_the_last_50_were_faults(faults: list[bool]) -> None:
    """The rule, said again without a running sum."""
    stopped = any(
        sum(faults[end - OUTAGE_REQUESTS : end]) >= 25 for end in range(OUTAGE_REQUESTS, len(faults) + 1)
    )
    assert judged(faults).is_open is stopped


@given(verdicts)
def test_it_says_why_exactly_when_it_is_open_and_says_so_once(faults: list[bool]) -> None:
    reported: list[str] = []
    breaker = Breaker(lambda: reported.append(breaker.view().why))
    for fault in faults:
        breaker.judge(fault=fault)

    assert reported == ([breaker.view().why] if breaker.is_open else [])
    assert bool(breaker.view().why) is breaker.is_open


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_fails_one_request_in_ten_is_never_stopped(seed: int) -> None:
    """The chance is 1e-12 at each look; 20 runs of 50 000 requests are a million looks."""
    dice = random.Random(seed)
    assert not judged([dice.random() < 0.1 for _ in range(50_000)]).is_open


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_fails_three_in_four_is_stopped_within_60_requests(seed: int) -> None:
    dice = random.Random(seed)
    assert judged([dice.random() < 0.75 for _ in range(60)]).is_open


@given(st.lists(st.floats(0, 1000, allow_nan=False), max_size=30).map(sorted))
def test_three_crashes_within_a_minute_stop_it_and_fewer_do_not(times: list[float]) -> None:
    breaker = Breaker()
    for now in times:
        breaker.crash(now)
    crowded = any(
        later - first <= CRASH_WINDOW_SECONDS for first, later in zip(times, times[2:], strict=False)
    )
    assert breaker.is_open is crowded


def test_what_ends_after_it_opened_changes_nothing() -> None:
    breaker = judged([True] * 50)
    before = breaker.view()
    breaker.judge(fault=False)
    breaker.crash(1.0)
    assert breaker.view() == before


def test_a_fault_goes_by_as_the_window_moves_on() -> None:
    breaker = judged([True] * 24 + [False] * 26)
    assert breaker.view().faults == 24
    for _ in range(24):
        breaker.judge(fault=False)
    assert (breaker.view().faults, breaker.view().requests) == (0, 74)


def test_one_that_was_open_before_is_so_from_the_start_and_reports_nothing() -> None:
    reported: list[str] = []
    breaker = Breaker(lambda: reported.append(breaker.view().why), open_because="it crashed")
    breaker.judge(fault=True)
    breaker.open("it is open elsewhere")

    assert (breaker.is_open, breaker.view().why, breaker.view().requests) == (True, "it crashed", 0)
    assert reported == []


def test_one_that_opened_elsewhere_opens_here_once() -> None:
    reported: list[str] = []
    breaker = Breaker(lambda: reported.append(breaker.view().why))
    breaker.open("25 faults at another gateway")
    breaker.open("again")

    assert reported == ["25 faults at another gateway"]
