"""What workers took of a processor is counted once, and the count never goes back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.processor_time import PHASES, ProcessorTime, WorkersTime


@given(st.lists(st.tuples(*[st.floats(0.0, 1e4)] * 3), min_size=1, max_size=8), st.integers(0, 2**32))
def test_in_whatever_order_workers_come_work_and_end_their_time_never_goes_back(
    loads: list[tuple[float, float, float]], seed: int
) -> None:
    dice, total, alive = random.Random(seed), WorkersTime(), list[ProcessorTime]()
    everyone = [ProcessorTime(load, warmup, predict) for load, warmup, predict in loads]
    coming = list(everyone)
    before = dict.fromkeys(PHASES, 0.0)
    while coming or alive:
        step = dice.random()
        if coming and step < 0.3:
            alive.append(coming.pop())
        elif alive and step < 0.6:
            dice.choice(alive).answered(dice.random(), dice.random() * 2)
        elif alive:
            total.ended(alive.pop(dice.randrange(len(alive))))
        dice.shuffle(alive)  # as those that are let go, which are a set
        now = total.with_alive(alive).by_phase()
        assert all(now[phase] >= before[phase] for phase in PHASES)
        before = now

    for phase in PHASES:
        assert before[phase] == pytest.approx(sum(getattr(one, phase) for one in everyone))
