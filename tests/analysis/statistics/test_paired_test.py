"""Pairs of answers to the same bytes: a fair coin where the versions are alike, each bucket tossed once."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.analysis.statistics.bucket_set import BucketSet
from router.analysis.statistics.fault_test import WORSE, keys_to_prove
from router.analysis.statistics.paired_test import PairedTest
from router.core.split import BUCKETS
from tests.analysis.statistics import golden_numbers as golden

some = st.sets(st.integers(0, 30), max_size=6)
cells = st.lists(st.tuples(some, some), max_size=8)


def folded(told: list[tuple[set[int], set[int]]]) -> PairedTest:
    test = PairedTest()
    for canary, production in told:
        test.take(canary, production)
    return test


def test_so_many_buckets_in_a_row_prove_it_as_at_a_split_of_one_half() -> None:
    """By hand: E of k heads is the mean of (2ψ/(1 + ψ))^k over the nine ψ."""
    test = folded([({bucket}, set()) for bucket in range(11)])

    by_hand = math.log(sum((2 * odds / (1 + odds)) ** 11 for odds in WORSE) / len(WORSE))
    assert test.ln_e == pytest.approx(by_hand)
    assert test.ln_e >= math.log(800) > folded([({b}, set()) for b in range(10)]).ln_e
    assert keys_to_prove(0.5, math.log(800)) == 11


def test_the_other_program_computes_the_same_numbers() -> None:
    test, found = PairedTest(), list[tuple[float, float]]()
    for canary, production in golden.PAIRS:
        test.take(canary, production)
        found.append((test.buckets.ln_e, test.cells.ln_e))

    buckets, cells_ = map(list, zip(*found, strict=True))
    assert [buckets, cells_] == [pytest.approx(told) for told in golden.ln_e_of_pairs(golden.PAIRS)]


def test_many_buckets_of_one_cell_are_one_coin_of_the_second_sum() -> None:
    """What happened to the machine meanwhile may have hit them all."""
    test = folded([(set(range(1000)), set())])

    assert test.canary_hits == 1000
    assert test.buckets.ln_e > 500
    assert test.ln_e == pytest.approx(folded([({0}, set())]).ln_e)


def test_a_bucket_in_both_in_the_cell_in_which_it_is_new_counts_for_neither_and_is_used_up() -> None:
    test = folded([({1, 2}, {2}), ({2}, set()), (set(), {1, 2})])

    assert (test.canary_hits, test.production_hits, test.ties) == (1, 0, 1)


@given(cells)
def test_a_bucket_counts_once_whatever_comes_later(told: list[tuple[set[int], set[int]]]) -> None:
    test = folded(told)
    first: dict[int, tuple[bool, bool]] = {}
    for canary, production in told:
        for bucket in (canary | production) - first.keys():
            first[bucket] = (bucket in canary, bucket in production)

    assert test.canary_hits == sum(one == (True, False) for one in first.values())
    assert test.production_hits == sum(one == (False, True) for one in first.values())
    assert test.ties == sum(one == (True, True) for one in first.values())
    assert folded([*told, *told]) == test, "what came before changes nothing"


@given(cells)
def test_with_the_versions_exchanged_the_counts_are(told: list[tuple[set[int], set[int]]]) -> None:
    one, other = folded(told), folded([(production, canary) for canary, production in told])

    assert (one.canary_hits, one.production_hits) == (other.production_hits, other.canary_hits)


def test_the_mean_of_e_is_at_most_one_where_the_versions_are_alike() -> None:
    """Of both sums, after some cells; at the smallest odds, whose mean is not that of rare events."""
    drawn = random.Random(7)
    totals = [0.0, 0.0]
    for _ in range(4000):
        test = PairedTest()
        for cell in range(4):
            buckets = range(cell * 10, cell * 10 + drawn.choice([0, 1, 1, 2, 3]))
            heads = {bucket for bucket in buckets if drawn.random() < 0.5}
            test.take(heads, set(buckets) - heads)
        totals[0] += math.exp(test.buckets.sums[0])
        totals[1] += math.exp(test.cells.sums[0])

    assert [total / 4000 for total in totals] == pytest.approx([1.0, 1.0], abs=0.02)


@given(st.sets(st.integers(-5, BUCKETS + 5), max_size=20))
def test_a_set_of_buckets_holds_those_that_exist(buckets: set[int]) -> None:
    held = BucketSet()
    held.add(buckets)

    exist = {bucket for bucket in buckets if 0 <= bucket < BUCKETS}
    assert {bucket for bucket in range(-5, BUCKETS + 5) if bucket in held} == exist if buckets else True
    assert not set(held.new(buckets))
    assert len(held.bits) == 12_500


def test_a_set_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="12500 bytes, not 3"):
        BucketSet(bytearray(3))
