"""How many threads predicts get: never more than allowed, and no more than help."""

import random
from collections.abc import Callable
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.cpu_threads import (
    ARM,
    FIRST_PAUSE,
    HEAVY_SECONDS,
    LONGEST_TRIAL,
    WINDOW,
    ThreadChoice,
    fair_bounds,
)
from tests.support.examples import examples

SECONDS = st.floats(1e-5, 1.0)
ENOUGH = WINDOW + 8 * LONGEST_TRIAL


def amdahl(serial: float) -> Callable[[int], float]:
    """A predict of 20 ms of which that share does not get shorter with threads."""
    return lambda threads: 0.020 * (serial + (1.0 - serial) / threads)


def predict(choice: ThreadChoice, lasts: Callable[[int], float], number: int, now: float = 0.0) -> float:
    """So many predicts, one after the other, each thread computing all the time. When the last one ended."""
    for _ in range(number):
        threads = choice.threads
        seconds = lasts(threads)
        now += seconds
        choice.add(now, 1, seconds, seconds * threads)
    return now


@settings(max_examples=examples(300))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(1, 64), SECONDS, st.floats(0.0, 4.0)),
            st.integers(1, 33),
        ),
        max_size=400,
    ),
    st.integers(1, 33),
    st.floats(0.0, 30.0),
)
def test_threads_are_never_below_one_nor_above_what_is_allowed(
    steps: list[tuple[int, float, float] | int], most: int, pause: float
) -> None:
    """Whatever predicts take, and whenever the bound changes."""
    choice, now = ThreadChoice(most), 0.0
    for step in steps:
        if isinstance(step, int):
            most = step
            choice.limit(most)
        else:
            rows, seconds, processor_seconds = step
            now += seconds + pause
            choice.add(now, rows, seconds, processor_seconds)
        assert 1 <= choice.threads <= most
        assert 1 <= choice.chosen <= most
        assert choice.most == most


@given(st.integers(1, 64), st.lists(SECONDS, min_size=1, max_size=50), st.integers(0, 2**32), st.floats(0, 5))
def test_trials_are_few_whatever_predicts_take(
    most: int, kinds: list[float], seed: int, pause: float
) -> None:
    """At each look one that checks, and one per doubling: between looks lies a minute at least."""
    choice, now, dice = ThreadChoice(most), 0.0, random.Random(seed)
    for _ in range(3000):
        seconds = dice.choice(kinds)
        now += seconds + pause
        choice.add(now, dice.randrange(1, 9), seconds, max(seconds, HEAVY_SECONDS))
    assert choice.trials <= (1 + now // FIRST_PAUSE) * (log2(most) + 2)


@given(st.floats(1e-5, 0.0049), st.integers(1, 64))
def test_a_small_version_keeps_one_thread_and_is_never_tried_with_more(seconds: float, most: int) -> None:
    choice = ThreadChoice(most)
    predict(choice, lambda _: seconds, ENOUGH)
    assert (choice.threads, choice.trials, choice.computes) == (1, 0, False)


def test_a_version_that_waits_keeps_one_thread() -> None:
    choice = ThreadChoice(16)
    for _ in range(ENOUGH):
        choice.add(0.0, 1, 0.5, 0.001)
    assert (choice.threads, choice.trials) == (1, 0)


@pytest.mark.parametrize(
    ("serial", "most", "chosen"),
    [
        (0.0, 2, 2),
        (0.0, 16, 16),
        (0.0, 6, 6),
        (0.0, 1, 1),
        (0.2, 16, 16),
        (0.3, 16, 8),
        (0.5, 16, 4),
        (0.9, 16, 1),
    ],
)
def test_as_many_threads_are_kept_as_shorten_predicts_by_a_seventh_per_doubling(
    serial: float, most: int, chosen: int
) -> None:
    choice = ThreadChoice(most)
    predict(choice, amdahl(serial), ENOUGH)
    assert (choice.threads, choice.computes) == (chosen, True)


@given(st.integers(2, 64), st.floats(1.0, 10.0))
def test_threads_that_do_not_help_are_given_back(most: int, longer: float) -> None:
    """Predicts with two threads last as long as with one, or longer; `longer` ones end their trial early."""
    choice = ThreadChoice(most)
    predict(choice, lambda threads: 0.02 if threads == 1 else 0.02 * longer, WINDOW + 2 * ARM + 1)
    assert (choice.threads, choice.trials) == (1, 1)
    predict(choice, lambda _: 0.02, 100)
    assert (choice.threads, choice.trials) == (1, 1)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_batches_that_are_large_and_small_by_turns_show_no_gain_that_is_not_there(period: int) -> None:
    """Callers in step make batches of 7, 1, 7, 1 rows: the large ones must not all be of one number."""
    choice = ThreadChoice(2)
    for number in range(ENOUGH):
        rows = 7 if number % period == 0 else 4
        choice.add(0.0, rows, 0.01 * rows, 0.01 * rows)
    assert choice.threads == 1


def test_noise_that_hits_both_numbers_hides_no_gain() -> None:
    """Up to half as long again, at random: of 100 versions whose work divides, nearly all are seen."""
    seen = 0
    for seed in range(100):
        dice, choice = random.Random(seed), ThreadChoice(2)
        predict(choice, lambda threads, dice=dice: amdahl(0.1)(threads) * dice.uniform(1, 1.5), ENOUGH)  # type: ignore[misc]
        seen += choice.threads == 2
    assert seen >= 98


def test_predicts_of_too_many_sizes_end_a_trial_without_an_answer() -> None:
    choice = ThreadChoice(2)
    for number in range(WINDOW + 1 + LONGEST_TRIAL):
        choice.add(0.0, 2 ** (number % 20), 0.02, 0.02)
    assert (choice.threads, choice.trials) == (1, 1)


def test_what_is_learned_outlasts_a_lower_bound() -> None:
    """While others compute it has fewer threads; when they are gone it has its own again, without a trial."""
    choice = ThreadChoice(8)
    predict(choice, amdahl(0.0), ENOUGH)
    trials = choice.trials
    choice.limit(2)
    assert choice.threads == 2
    predict(choice, amdahl(0.0), 100)
    choice.limit(8)
    assert (choice.threads, choice.trials) == (8, trials)


def test_more_room_is_tried_at_once_where_the_bound_was_what_held_it() -> None:
    choice = ThreadChoice(1)
    predict(choice, amdahl(0.0), ENOUGH)
    assert (choice.threads, choice.trials, choice.computes) == (1, 0, True)
    choice.limit(4)
    predict(choice, amdahl(0.0), ENOUGH)
    assert choice.threads == 4


def test_a_machine_that_became_busy_takes_the_threads_back_at_the_next_look() -> None:
    choice = ThreadChoice(2)
    now = predict(choice, amdahl(0.0), ENOUGH)
    assert choice.threads == 2
    now = predict(choice, lambda _: 0.02, LONGEST_TRIAL, now + FIRST_PAUSE)
    assert choice.threads == 1
    predict(choice, amdahl(0.0), LONGEST_TRIAL, now + FIRST_PAUSE)
    assert choice.threads == 2


def test_looks_become_rarer_while_nothing_changes() -> None:
    """In a day about one an hour."""
    choice, now = ThreadChoice(2), 0.0
    while now < 86_400:
        now = predict(choice, lambda _: 1.0, 1, now)
    assert 24 <= choice.trials <= 32


def test_a_version_whose_requests_became_small_has_one_thread_and_later_its_own_again() -> None:
    choice = ThreadChoice(2)
    predict(choice, amdahl(0.0), ENOUGH)
    predict(choice, lambda _: 0.001, 2 * WINDOW)
    assert (choice.threads, choice.computes) == (1, False)
    trials = choice.trials
    predict(choice, amdahl(0.0), 2 * WINDOW)
    assert (choice.threads, choice.trials) == (2, trials)


WORKERS = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 64)), max_size=8)


@given(st.integers(1, 64), WORKERS)
def test_bounds_are_fair(processors: int, workers: list[tuple[float, int]]) -> None:
    """Each from 1 to all; settled after one look; together no more than there is, but for rounding."""
    busy = [share for share, _ in workers]
    bounds = fair_bounds(processors, busy, [before for _, before in workers])

    assert all(1 <= bound <= processors for bound in bounds)
    assert fair_bounds(processors, busy, bounds) == bounds
    expected = sum(share * (bound - 0.25) for share, bound in zip(busy, bounds, strict=True) if bound > 1)
    assert expected <= processors + 1e-6


def test_those_that_compute_at_once_share_and_the_one_beside_idle_ones_has_all() -> None:
    assert fair_bounds(16, [1.0, 1.0], [1, 1]) == [8, 8]
    assert fair_bounds(16, [1.0, 0.0, 0.0], [1, 1, 1]) == [16, 8, 8]
    assert fair_bounds(16, [1.0, 0.05], [1, 1]) == [15, 8]
    assert fair_bounds(2, [1.0, 1.0, 1.0], [2, 2, 2]) == [1, 1, 1]
    assert fair_bounds(4, [], []) == []
    assert fair_bounds(2, [0.0, 0.0], [1, 1]) == [2, 2]


def test_a_bound_does_not_change_back_and_forth() -> None:
    assert fair_bounds(16, [0.0, 0.62], [10, 10]) == [10, 16]  # 9.88: as before
    assert fair_bounds(16, [0.0, 0.62], [9, 9]) == [9, 16]
    assert fair_bounds(16, [0.0, 0.66], [10, 10]) == [9, 16]  # 9.64
