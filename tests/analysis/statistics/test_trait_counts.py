"""What is found of simulated traffic: users who send much and little, columns that are null together."""

from collections.abc import Callable, Iterator
from random import Random
from time import process_time

import pytest

from router.analysis.statistics.trait_counts import (
    ALPHA,
    ENOUGH,
    MOST_PERIODS,
    PERIOD_OBSERVATIONS,
    Ranking,
    TraitCounts,
)
from router.core.split import BUCKETS
from router.core.traits import MOST_TRAITS, SAMPLED_SHARE, TraitColumn, TraitKind, trait_table

COLUMNS = tuple(TraitColumn(name, "range") for name in ("plan", "age", "income", "region", "device", "score"))
TABLE = trait_table(COLUMNS)
NULL = {one.what: number for number, one in enumerate(TABLE) if one.kind is TraitKind.NULL}
Fails = Callable[[set[int], int, Random], bool]
"""Of the traits of one request, its user and chance: whether the version fails it."""


def requests(seed: int, users: int) -> Iterator[tuple[int, set[int], int, Random]]:
    """User, traits, size of the body and the chance of each request.

    A tenth of the users sends half; these never have an income, and often no region, where others mostly have
    no score. A plan is null for some users always, and for any user now and then, and the device mostly with
    it.
    """
    random = Random(seed)
    habits = [(random.random() < 0.05, random.random() < 0.3) for _ in range(users)]
    while True:
        user = int(users * random.random() ** 3)
        traits = {0, 2 if random.random() < 0.8 else 3}
        without_plan, without_age = habits[user]
        if without_plan or random.random() < 0.02:
            traits.add(NULL["plan"])
            if random.random() < 0.8:
                traits.add(NULL["device"])
        if without_age:
            traits.add(NULL["age"])
        if user < users // 10:
            traits |= {NULL["income"], NULL["region"]} if random.random() < 0.5 else {NULL["income"]}
        elif random.random() < 0.9:
            traits.add(NULL["score"])
        yield user, traits, int(random.lognormvariate(6, 1)), random


def ranked(seed: int, fails: Fails, *, number: int = 4000, users: int = 1500) -> Ranking:
    """Of so many requests, recorded as a gateway does."""
    counts, asked = TraitCounts(), [0] * users
    stream = requests(seed, users)
    for _ in range(number):
        user, traits, size, random = next(stream)
        asked[user] += 1
        drawn = random.random() < SAMPLED_SHARE
        if (fault := fails(traits, user, random)) or drawn:
            counts.take(user, asked[user], sorted(traits), size, fault=fault)
    return counts.rank(TABLE)


def test_a_canary_that_fails_where_a_column_is_null_is_seen_to_in_99_of_100() -> None:
    found = [ranked(seed, lambda traits, *_: NULL["plan"] in traits, number=3000) for seed in range(100)]

    first = [one.shared[0].trait.what if one.shared else "" for one in found]
    assert first.count("plan") >= 99
    for one in found:
        assert [shared.faults for shared in one.shared[:1]] == [one.faults]


def test_it_is_seen_too_beside_as_many_faults_that_have_no_reason() -> None:
    def fails(traits: set[int], _: int, random: Random) -> bool:
        return NULL["plan"] in traits or random.random() < 0.05

    found = [ranked(seed, fails, number=4000) for seed in range(30)]
    assert [one.shared[0].trait.what for one in found if one.shared].count("plan") >= 29


def _of_some_users(_: set[int], user: int, random: Random) -> bool:
    return (user * 40_503) % 100 < 5 and random.random() < 0.7


RANDOM: dict[str, tuple[Fails, int, int, int]] = {
    "any request": (lambda _traits, _user, random: random.random() < 0.01, 1500, 3000, 100),
    "many, of few users": (lambda _traits, _user, random: random.random() < 0.3, 60, 3000, 100),
    "of some users, always": (lambda _, user, _random: (user * 40_503) % 1000 < 30, 1500, 3000, 100),
    "of some users, for long": (_of_some_users, 1500, 20_000, 10),
}
"""What fails, users, requests, and seeds."""


@pytest.mark.parametrize(("fails", "users", "number", "seeds"), RANDOM.values(), ids=RANDOM)
def test_faults_without_a_reason_have_no_pattern_in_95_of_100(
    fails: Fails, users: int, number: int, seeds: int
) -> None:
    """Though who sends much has other traits than who sends little."""
    found = [ranked(seed, fails, number=number, users=users) for seed in range(seeds)]

    assert sum(bool(one.shared) for one in found) <= 0.05 * seeds, f"the chance of each is {ALPHA}"
    assert sum(one.enough for one in found) > 0.8 * seeds, "they would have had one to show"


def test_one_users_loop_is_one() -> None:
    counts = TraitCounts()
    for _ in range(500):
        counts.take(7, 1, (0, NULL["plan"]), 100, fault=True)
    for bucket in range(100, 160):
        counts.take(bucket, 1, (0,), 100, fault=False)

    ranking = counts.rank(TABLE)
    assert (ranking.faults, ranking.enough, ranking.shared) == (1, False, ())


def test_a_key_counts_once_in_a_period_by_what_came_first_and_a_fault_ends_it() -> None:
    counts = TraitCounts()
    for bucket in range(20):
        counts.take(bucket, 1, (0,), 100, fault=True)
    for ordinal in range(1, 51):
        counts.take(100, ordinal, (0,), 100, fault=False)
    counts.take(100, 51, (0,), 100, fault=True)
    assert (counts.rank(TABLE).faults, counts.rank(TABLE).good) == (20, 1)

    for bucket in range(200, 200 + PERIOD_OBSERVATIONS):  # the next period
        counts.take(bucket, 1, (0,), 100, fault=False)
    before = counts.rank(TABLE).faults
    counts.take(100, 52, (0,), 100, fault=True)
    counts.take(100, 53, (0,), 100, fault=True)
    counts.take(0, 2, (0,), 100, fault=True)
    assert counts.rank(TABLE).faults == before + 1


@pytest.mark.parametrize(("faults", "good", "enough"), [(7, 40, False), (8, 40, True), (40, 7, False)])
def test_under_eight_of_either_nothing_is_said(faults: int, good: int, enough: bool) -> None:
    counts = TraitCounts()
    for bucket in range(faults):
        counts.take(bucket, 1, (0, NULL["plan"]), 100, fault=True)
    for bucket in range(good):
        counts.take(1000 + bucket, 1, (0,), 100, fault=False)

    ranking = counts.rank(TABLE)
    assert (ranking.enough, bool(ranking.shared)) == (enough, enough)


def test_a_version_that_was_good_for_long_shows_what_it_fails_on_now() -> None:
    """Every user was seen to be answered well a hundred times before."""
    counts, random = TraitCounts(), Random(1)
    for _ in range(50_000):
        counts.take(random.randrange(500), 1, (0,), 100, fault=False)
    for _ in range(4000):
        traits = (0, NULL["plan"]) if random.random() < 0.05 else (0,)
        if len(traits) > 1 or random.random() < SAMPLED_SHARE:
            counts.take(random.randrange(500), 1, traits, 100, fault=len(traits) > 1)

    ranking = counts.rank(TABLE)
    assert [one.trait.what for one in ranking.shared] == ["plan"]
    assert ranking.faults >= ENOUGH


def test_large_bodies_that_fail_are_told_by_their_size() -> None:
    counts, random = TraitCounts(), Random(2)
    for bucket in range(3000):
        size = random.randrange(100, 10_000)
        if size > 9_000 or random.random() < SAMPLED_SHARE:
            counts.take(bucket, 1, (0,), size, fault=size > 9_000)

    [*named] = counts.rank(TABLE).shared
    assert {one.trait.kind for one in named} == {TraitKind.SIZE}
    assert all(int(one.trait.what.split()[2]) > 8_900 for one in named)


def test_faults_without_traits_are_counted_and_say_nothing() -> None:
    counts = TraitCounts()
    for bucket in range(20):
        counts.take(bucket, 1, None, 100, fault=True)

    assert (counts.without_traits, counts.rank(TABLE).faults) == (20, 0)


def test_what_is_kept_is_bounded_whatever_comes_and_ranking_it_takes_no_second(slack: float) -> None:
    counts, random = TraitCounts(), Random(3)
    numbers = range(len(trait_table([TraitColumn(f"c{n}", "range") for n in range(58)])))
    for _ in range(10_000):
        traits = [number for number in numbers if random.random() < 0.5]
        counts.take(
            random.randrange(BUCKETS), 1, traits, random.randrange(1 << 40), fault=random.random() < 0.5
        )

    periods = counts._periods
    assert len(periods) <= MOST_PERIODS
    assert all(period.observations <= PERIOD_OBSERVATIONS for period in periods)
    assert all(len(part.with_trait) <= MOST_TRAITS for period in periods for part in period.parts)
    began = process_time()
    counts.rank(trait_table([TraitColumn(f"c{n}", "range") for n in range(58)]))
    assert process_time() - began < 1.0 * slack
