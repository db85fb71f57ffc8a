"""The FAIL side: E is what it promises, whoever looks and however often."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from router.analysis.statistics.fault_test import (
    FAULT,
    FAULT_EPOCH,
    SEEN,
    WORSE,
    BucketFlags,
    FirstHitTest,
    OddsMixture,
    cumulative_level,
    epoch_level,
    keys_to_prove,
)
from router.analysis.statistics.sample_ratio import BOTH_SIDES
from router.core.breaker import OutageRule

ODDS = pytest.mark.parametrize("odds", [WORSE, BOTH_SIDES], ids=["worse", "both-sides"])


def evidence_of(looks: list[tuple[int, int, float]], odds: tuple[float, ...] = WORSE) -> float:
    return math.exp(ln_evidence_of(looks, odds))


def ln_evidence_of(looks: list[tuple[int, int, float]], odds: tuple[float, ...] = WORSE) -> float:
    """Its logarithm: the evidence itself may be larger than a float."""
    mixture = OddsMixture(odds)
    for hits, events, share in looks:
        mixture.add(hits, events, share)
    return mixture.ln_e


@ODDS
@pytest.mark.parametrize("clean", [(1, 2), (3, 20), (10, 40), (19, 20)], ids=str)
def test_one_look_is_not_expected_to_gain(clean: tuple[int, int], odds: tuple[float, ...]) -> None:
    """Exactly, over all hypergeometric draws of hits among `clean` buckets (canary's, all)."""
    canary, every = clean
    for events in range(every + 1):
        drawn = stats.hypergeom(every, canary, events)
        expected = math.fsum(
            drawn.pmf(hits) * evidence_of([(hits, events, canary / every)], odds)
            for hits in range(min(events, canary) + 1)
        )

        assert expected <= 1 + 1e-9


@ODDS
def test_two_looks_are_not_expected_to_gain(odds: tuple[float, ...]) -> None:
    """The second look's π follows what the first took; exactly, over both draws."""
    canary, every, first, second = 6, 24, 5, 7
    expected = 0.0
    for one in range(first + 1):
        rest = stats.hypergeom(every - first, canary - one, second)
        for two in range(second + 1):
            looks = [(one, first, canary / every), (two, second, (canary - one) / (every - first))]
            chance = stats.hypergeom(every, canary, first).pmf(one) * rest.pmf(two)
            expected += chance * evidence_of(looks, odds) if chance else 0.0

    assert expected <= 1 + 1e-9


@given(share=st.floats(0.001, 0.999), events=st.integers(0, 60))
def test_moments_are_those_of_the_binomial(share: float, events: int) -> None:
    """The denominator is what scipy's binomial expects of ψ^k: tosses of a coin gain nothing."""
    coin = stats.binom(events, share)

    expected = math.fsum(coin.pmf(k) * evidence_of([(k, events, share)]) for k in range(events + 1))

    assert expected == pytest.approx(1.0, rel=1e-9)


@given(
    looks=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
    share=st.floats(0.01, 0.99),
)
def test_looking_often_or_once_is_the_same_where_the_share_stays(
    looks: list[tuple[int, int]], share: float
) -> None:
    often = [(min(pair), max(pair), share) for pair in looks]
    once = [(sum(hits for hits, _, _ in often), sum(events for _, events, _ in often), share)]

    # As far apart as the evidence is relatively.
    assert ln_evidence_of(often) == pytest.approx(ln_evidence_of(once), rel=0, abs=1e-9)


@given(events=st.integers(1, 40), share=st.floats(0.01, 0.99))
def test_each_hit_that_is_the_canarys_says_more(events: int, share: float) -> None:
    grown = [evidence_of([(hits, events, share)]) for hits in range(events + 1)]

    assert all(more > less for less, more in pairwise(grown))


def test_it_stays_under_its_level_where_the_versions_are_equal() -> None:
    """Ville: of 4 000 days on which every bucket is hit one by one, fewer than α see E ≥ 1/α at any time."""
    drawn = random.Random(20)
    alpha, crossed, days, canary, every = 0.05, 0, 4000, 10, 200
    for _ in range(days):
        arms = [True] * canary + [False] * (every - canary)
        drawn.shuffle(arms)
        mixture, clean_canary = OddsMixture(), canary
        for gone, hit in enumerate(arms[:40]):
            mixture.add(int(hit), 1, clean_canary / (every - gone))
            clean_canary -= hit
            if mixture.ln_e >= -math.log(alpha):
                crossed += 1
                break

    assert crossed / days <= alpha


def test_epochs_and_the_process_from_the_start_share_the_budget() -> None:
    spent = math.exp(-cumulative_level(0.005))
    spent += sum(math.exp(-epoch_level(0.005, number)) for number in range(1, 100_000))

    assert spent == pytest.approx(0.005, rel=1e-4)
    assert spent < 0.005


def test_fewer_keys_prove_it_at_a_smaller_share() -> None:
    keys = [keys_to_prove(share / 100, math.log(400)) for share in range(1, 100)]

    assert keys == sorted(keys)
    assert keys_to_prove(0.9999, math.log(400)) == 1000, "as many as are tried"


def test_the_outage_rule_is_innocent_at_ordinary_fault_rates() -> None:
    """The chances that its docstring gives, as scipy's binomial tail."""
    assert stats.binom(50, 0.02).sf(24) == pytest.approx(3e-29, rel=0.2)
    assert stats.binom(50, 0.1).sf(24) == pytest.approx(1e-12, rel=0.6)


@pytest.mark.parametrize(("faults", "broken"), [(24, False), (25, True)])
def test_the_outage_rule_counts_the_last_fifty(faults: int, *, broken: bool) -> None:
    rule = OutageRule()
    for _ in range(1000):
        rule.add(fault=False)
    for index in range(49):
        rule.add(fault=index % 2 == 0 and index // 2 < faults - 1)
    rule.add(fault=True)

    assert rule.broken is broken


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=50, max_size=200))
def test_the_outage_rule_is_a_plain_window(faults: list[bool]) -> None:
    rule = OutageRule()
    for fault in faults:
        rule.add(fault=fault)

    windows = (sum(faults[start : start + 50]) for start in range(len(faults) - 49))
    assert rule.broken is (max(windows) >= 25)


@given(
    hit=st.lists(st.integers(0, 99_999), max_size=40, unique=True),
    shares=st.lists(st.integers(0, 100_000), min_size=1, max_size=4),
)
def test_clean_buckets_are_those_never_hit_whoever_owns_them(hit: list[int], shares: list[int]) -> None:
    owned = BucketFlags(range(5_000), range(5_000, 100_000))
    for bucket in hit:
        owned.flags[bucket] |= FAULT | SEEN
    owned.clear(SEEN)
    for share in shares:
        owned.assign(range(share), range(share, 100_000))
        of_canary = share - sum(bucket < share for bucket in hit)
        assert owned.clean(FAULT) == (of_canary, 100_000 - len(hit))
        assert owned.clean(FAULT_EPOCH) == owned.clean(SEEN) == (share, 100_000)
        assert [owned.flags[bucket] >> 6 for bucket in hit] == [int(bucket < share) for bucket in hit]


@pytest.mark.parametrize(
    ("canary", "production"),
    [(range(10), range(5, 20)), (range(100_001), range(0)), (range(0, 10, 2), range(20, 30))],
    ids=["overlap", "too-many", "holes"],
)
def test_buckets_are_owned_once(canary: range, production: range) -> None:
    with pytest.raises(ValueError, match=r"bucket"):
        BucketFlags(canary, production)


def test_a_bucket_is_marked_once_and_by_its_owner_only() -> None:
    owned = BucketFlags(range(10), range(10, 20))

    assert owned.mark(FAULT, [3, 4, 12, 50, 100_000, -1]) == (1, 2)
    assert owned.mark(FAULT, {3, 5, 12, 13}) == (1, 1)
    assert owned.mark(SEEN, [3]) == (0, 1)
    assert owned.clean(FAULT) == (7, 15)
    assert BucketFlags(range(15), range(15, 20), owned.events()).clean(FAULT) == (10, 15)


def test_raising_the_share_takes_the_new_buckets_into_the_odds() -> None:
    owned = BucketFlags(range(1_000), range(1_000, 100_000))
    hits = FirstHitTest(FAULT)
    hits.recount(owned)
    hits.take(owned, {1, 2, 3})
    assert hits.share == 997 / 99_997

    owned.assign(range(5_000), range(5_000, 100_000))
    hits.recount(owned)

    assert hits.share == 4_997 / 99_997
    assert hits.canary_hits == 3


def test_a_whole_call_is_tossed_with_the_larger_of_both_shares() -> None:
    by_keys, by_calls = (BucketFlags(range(share), range(share, 100_000)) for share in (50_000, 1_000))
    keys, calls = FirstHitTest(FAULT), FirstHitTest(FAULT)
    keys.recount(by_keys)
    calls.recount(by_calls)
    keys.take(by_keys, {1, 2, 3, 4})
    calls.take(by_calls, set(), {1, 2, 3, 4})

    assert calls.ln_e == pytest.approx(keys.ln_e)


def test_a_bucket_hit_in_both_ways_is_hit_by_itself() -> None:
    owned = BucketFlags(range(1_000), range(1_000, 100_000))
    both, alone = FirstHitTest(FAULT), FirstHitTest(FAULT)
    both.recount(owned)
    both.take(owned, {1}, {1})
    owned.clear(FAULT)
    alone.recount(owned)
    alone.take(owned, {1})

    assert both == alone
