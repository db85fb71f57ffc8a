"""A sample of the last items: bounded whatever comes, and each of them as likely."""

import random
from collections import Counter
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.reservoir import Reservoir, ReservoirLimits

LIMITS = ReservoirLimits(items=20, size=1000, item_size=100, age_seconds=60.0)
streams = st.lists(st.tuples(st.integers(0, 120), st.floats(0, 30)), max_size=200)


def offer(kept: Reservoir[int], item: int, size: int, now: float) -> None:
    if not kept.passes_over():
        kept.add(item, size, now)


def items(kept: Reservoir[int]) -> list[int]:
    return [item for number in kept if (item := kept.get(number)) is not None]


@given(streams, st.randoms(use_true_random=False))
def test_it_is_bounded_in_number_bytes_and_age_whatever_comes(
    stream: list[tuple[int, float]], luck: random.Random
) -> None:
    kept: Reservoir[int] = Reservoir(LIMITS, luck.random)
    now, came = 0.0, {}
    for item, (size, pause) in enumerate(stream):
        now += pause
        came[item] = size, now
        offer(kept, item, size, now)
        kept.expire(now)

        held = items(kept)
        assert len(kept) == len(held) <= LIMITS.items
        assert kept.size == sum(came[one][0] for one in held) <= LIMITS.size
        assert all(came[one][0] <= LIMITS.item_size and now - came[one][1] < 60.0 for one in held)
        assert held == sorted(held), "oldest first"
        assert kept.oldest_at == (came[held[0]][1] if held else None)


@given(streams, st.randoms(use_true_random=False), st.integers(1, 30), st.integers(1, 2000))
def test_other_limits_hold_at_once(
    stream: list[tuple[int, float]], luck: random.Random, number: int, size: int
) -> None:
    kept: Reservoir[int] = Reservoir(LIMITS, luck.random)
    now = 0.0
    for item, (one, pause) in enumerate(stream):
        now += pause
        offer(kept, item, one, now)
    kept.limit(ReservoirLimits(number, size, 50, 10.0), now)

    assert len(kept) <= number
    assert kept.size <= size
    kept.clear()
    assert (len(kept), kept.size, kept.oldest_at, list(kept)) == (0, 0, None, [])


def test_while_there_is_room_all_are_kept() -> None:
    kept: Reservoir[int] = Reservoir(LIMITS)
    for item in range(20):
        offer(kept, item, 1, item / 10)

    assert items(kept) == list(range(20))


def test_an_item_that_is_too_large_is_left_out_and_the_next_one_taken() -> None:
    kept: Reservoir[int] = Reservoir(LIMITS, random.Random(1).random)
    for item in range(1000):
        offer(kept, item, 1, 0.0)
    while kept.passes_over():
        pass
    kept.add(-1, 101, 0.0)

    assert not kept.passes_over()
    kept.add(-2, 1, 0.0)
    assert -1 not in items(kept)
    assert -2 in items(kept)


def test_each_item_of_a_stream_is_as_likely() -> None:
    """Of 400 items 20 are kept; over 400 streams each tenth of them is kept 800 times, give or take 27."""
    luck, tenths = random.Random(7), Counter[int]()
    for _ in range(400):
        kept: Reservoir[int] = Reservoir(LIMITS, luck.random)
        for item in range(400):
            offer(kept, item, 1, item / 100)
        tenths.update(item // 40 for item in items(kept))

    assert sum(tenths.values()) == 400 * 20
    assert all(650 < tenths[tenth] < 950 for tenth in range(10)), tenths


@pytest.mark.parametrize(("item_size", "number"), [(1, 10_000), (100, 5_000)])
def test_the_place_of_another_is_as_soon_taken_where_many_are_kept(
    item_size: int, number: int, slack: float
) -> None:
    """Full in number or in bytes; in the event loop, which it held up by a millisecond for each."""
    kept: Reservoir[int] = Reservoir(ReservoirLimits(10_000, 500_000, 100, 60.0), random.Random(5).random)
    began = process_time()
    for item in range(30_000):
        kept.add(item, item_size, item / 1000)

    assert len(kept) == number
    assert process_time() - began < 1.0 * slack


def test_what_is_too_old_is_soon_dropped_where_much_is(slack: float) -> None:
    kept: Reservoir[int] = Reservoir(ReservoirLimits(10_000, 1_000_000, 100, 60.0), random.Random(5).random)
    for item in range(10_000):
        kept.add(item, 1, item / 1000)
    began = process_time()
    for item in range(10_000):
        kept.expire(60.001 + item / 1000)

    assert len(kept) == 0
    assert process_time() - began < 0.5 * slack


def test_after_hours_it_holds_the_last_minute_and_takes_few_of_what_comes() -> None:
    kept: Reservoir[int] = Reservoir(LIMITS, random.Random(3).random)
    added = 0
    for item in range(100_000):
        if not kept.passes_over():
            kept.add(item, 1, item / 100)  # 6 000 a minute
            added += 1

    kept.expire(999.99)

    assert 15 < len(kept) <= 20
    assert min(items(kept)) >= 100_000 - 6_000
    assert added < 1_500, "about 20 to 60 a minute"
