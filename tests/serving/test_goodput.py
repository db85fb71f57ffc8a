"""Batches and admission together, in simulated time: how much of what could be answered is answered."""

import random

import pytest

from router.serving.pool.admission import MAX_BATCH_REQUESTS, Admission


def goodput(fixed: float, each: float, noise: float, load: float, predicts: int = 800) -> tuple[float, float]:
    """Answers over the best possible, and the part that was refused.

    One worker; a predict of n rows takes fixed + n · each, up to `noise` times as long. `load`: arrivals over
    what full batches could answer. As long as so many predicts of four rows take.
    """
    dice = random.Random(3)
    capacity = MAX_BATCH_REQUESTS / ((fixed + each * MAX_BATCH_REQUESTS) * (1 + noise) / 2)
    rate, ends = capacity * load, predicts * (fixed + 4 * each)
    admission = Admission()
    admission.note_batching(merges=True)
    waiting, answered, refused = 0, 0, 0
    running, ends_at, began_at, arrives_at = 0, 0.0, 0.0, dice.expovariate(rate)
    now = 0.0
    while now < ends:
        if not running and waiting:
            running = min(waiting, MAX_BATCH_REQUESTS, admission.rows_at_once)
            waiting, began_at = waiting - running, now
            ends_at = now + (fixed + each * running) * dice.uniform(1.0, noise)
        if running and ends_at <= arrives_at:
            now, answered = ends_at, answered + running
            admission.learn(now - began_at, [1] * running, [100] * running)
            running = 0
        else:
            now, arrives_at = arrives_at, arrives_at + dice.expovariate(rate)
            if admission.admits(now, waiting=waiting, rows=waiting, workers=1, seconds_left=60.0):
                waiting += 1
            else:
                refused += 1
    return answered / (now * min(rate, capacity)), refused / max(1, answered + refused)


COSTS = [(0.02, 0.0), (0.05, 0.0003), (0.05, 0.01), (0.2, 0.03), (0.01, 0.01), (0.02, 0.03), (0.002, 0.03)]


@pytest.mark.parametrize("noise", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("fixed", "each"), COSTS)
def test_four_fifths_of_what_is_possible_are_answered_however_noisy_the_machine(
    fixed: float, each: float, noise: float
) -> None:
    for load in (0.9, 1.0, 2.0):
        share, _ = goodput(fixed, each, noise, load)
        assert share >= 0.8, f"{load} of capacity"


@pytest.mark.parametrize("noise", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("fixed", "each"), COSTS)
def test_at_half_of_the_capacity_next_to_nothing_is_refused(fixed: float, each: float, noise: float) -> None:
    _, refused = goodput(fixed, each, noise, 0.5)
    assert refused <= 0.01
