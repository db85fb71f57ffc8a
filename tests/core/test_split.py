"""The split: published vectors, exact shares, monotone ramps, and the same numbers in SQL."""

import hashlib
import sqlite3
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.split import BUCKETS, Split, bucket_of

CHALLENGER = Alias("challenger")
ALIASES = (PRODUCTION, CANARY, CHALLENGER)
PUBLISHED = [("user-1", 62121), ("user-2", 418), ("Ünïcödé", 64699), ("42", 90928), ("", 80627)]

keys = st.text(st.characters(exclude_categories=["Cs"]))
salts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"), min_size=1)
buckets = st.integers(0, BUCKETS - 1)
shares = st.integers(0, BUCKETS)


@pytest.mark.parametrize(("key", "bucket"), PUBLISHED)
def test_published_vectors_hold_for_ever(key: str, bucket: int) -> None:
    """Teams recompute these in SQL; a release that changes one moves every user."""
    assert bucket_of("sentiment", key) == bucket
    assert bucket_of("sentiment", key.encode()) == bucket


@given(salts, keys)
def test_a_bucket_is_an_integer_below_100_000(salt: str, key: str) -> None:
    assert 0 <= bucket_of(salt, key) < BUCKETS


@given(salts, keys)
def test_a_bucket_is_what_the_documentation_writes(salt: str, key: str) -> None:
    digest = hashlib.sha256(f"{salt}:{key}".encode()).hexdigest()

    assert bucket_of(salt, key) == int(digest[:8], 16) * 100_000 >> 32
    assert bucket_of(salt, key) == int(digest[:8], 16) * 100_000 // 4_294_967_296  # no shift needed either


@given(salts, st.binary())
def test_header_bytes_that_are_not_utf_8_hash_as_they_came(salt: str, raw: bytes) -> None:
    assert bucket_of(salt, raw.decode("utf-8", "surrogateescape")) == bucket_of(salt, raw)


def test_sql_finds_the_same_buckets_with_integers_alone() -> None:
    """Any database with SHA-256 can: eight hex digits, plus, times, and a shift of 64-bit integers."""
    names = [key for key, _ in PUBLISHED] + [f"user-{n}" for n in range(2_000)]
    digests = {key: hashlib.sha256(f"sentiment:{key}".encode()).hexdigest() for key in names}
    number = " + ".join(
        f"(instr('0123456789abcdef', substr(digest, {place}, 1)) - 1) * {16 ** (8 - place)}"
        for place in range(1, 9)
    )
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE request (key TEXT PRIMARY KEY, digest TEXT)")
        database.executemany("INSERT INTO request VALUES (?, ?)", digests.items())
        found = dict(database.execute(f"SELECT key, ({number}) * 100000 >> 32 FROM request"))
        ends = database.execute(
            f"SELECT ({number}) * 100000 >> 32 FROM (SELECT ? AS digest UNION ALL SELECT ?) ORDER BY 1",
            ("0" * 64, "f" * 64),
        ).fetchall()
    database.close()

    assert found == {key: bucket_of("sentiment", key) for key in names}
    assert ends == [(0,), (BUCKETS - 1,)]


@pytest.mark.parametrize("number", [float, Decimal], ids=["float", "decimal"])
def test_every_thousandth_of_a_percent_is_exactly_one_bucket(number: type[float] | type[Decimal]) -> None:
    """All 100 001 splits an operator can write, as a float from YAML or as a decimal."""
    for canary in range(BUCKETS + 1):
        percentages = {
            "production": number(BUCKETS - canary) / 1000,
            "canary": number(canary) / 1000,
        }
        split = Split.from_percentages(percentages)
        assert split.canary == canary
        assert split.further is None


@given(st.integers(0, 100), st.integers(0, 100))
def test_whole_percentages_may_be_integers(canary: int, challenger: int) -> None:
    if canary + challenger > 100:
        canary, challenger = 100 - canary, 100 - challenger
    split = Split.from_percentages(
        {"challenger": challenger, "canary": canary, "production": 100 - canary - challenger}
    )

    assert split == Split(canary * 1000, (CHALLENGER, challenger * 1000))


@given(shares, shares)
def test_percentages_that_do_not_sum_to_100_are_refused(production: int, canary: int) -> None:
    percentages = {"production": production / 1000, "canary": canary / 1000}
    if production + canary == BUCKETS:
        assert Split.from_percentages(percentages).canary == canary
        return

    with pytest.raises(ValueError, match="sum to exactly 100"):
        Split.from_percentages(percentages)


@pytest.mark.parametrize(
    ("percent", "why"),
    [
        (-0.001, "between"),
        (100.001, "between"),
        (float("nan"), "between"),
        (float("inf"), "between"),
        (Decimal("NaN"), "between"),
        (Decimal("sNaN"), "between"),
        (Decimal("1e999999"), "between"),
        (0.0005, "multiple"),
        (5.0001, "multiple"),
        (0.1 + 0.2, "multiple"),
        (Decimal("0.0010000000000000000000000000001"), "multiple"),
        (Decimal("1e-999999999"), "multiple"),
        (True, "number"),
    ],
    ids=repr,
)
def test_a_share_that_is_no_whole_number_of_buckets_is_refused(percent: float | Decimal, why: str) -> None:
    """Nothing is rounded: what is in force is what the operator wrote, or nothing is."""
    with pytest.raises(ValueError, match=f"canary must be .*{why}"):
        Split.from_percentages({"production": 100, "canary": percent})


@pytest.mark.parametrize(
    ("percentages", "why"),
    [
        ({}, "production must be named"),
        ({"canary": 100}, "production must be named"),
        ({"production": 99}, "sum to exactly 100, not 99$"),
        ({"production": 99.999}, "sum to exactly 100, not 99.999$"),
        ({"production": 100, "canary": 100}, "sum to exactly 100, not 200$"),
        ({"production": 98, "canary": 1, "a": 1, "b": 0}, "at most one alias"),
    ],
)
def test_a_split_names_production_and_at_most_two_others(percentages: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Split.from_percentages(percentages)


@pytest.mark.parametrize(
    ("canary", "further"),
    [
        (-1, None),
        (BUCKETS + 1, None),
        (BUCKETS, (CHALLENGER, 1)),
        (5, (CHALLENGER, -1)),
        (5, (PRODUCTION, 5)),
        (5, (CANARY, 5)),
    ],
)
def test_an_impossible_split_can_not_be_built(canary: int, further: tuple[Alias, int] | None) -> None:
    with pytest.raises(ValueError, match=r"shares must|further alias"):
        Split(canary, further)


@pytest.mark.parametrize(
    "split",
    [
        Split(),
        Split(BUCKETS),
        Split(1),
        Split(5_000, (CHALLENGER, 0)),
        Split(5_000, (CHALLENGER, 1)),
        Split(0, (CHALLENGER, BUCKETS)),
        Split(33_333, (CHALLENGER, 66_667)),
    ],
    ids=repr,
)
def test_an_alias_owns_exactly_as_many_buckets_as_its_share(split: Split) -> None:
    owned = dict.fromkeys(split.shares(), 0)
    for bucket in range(BUCKETS):
        owned[split.alias_of(bucket)] += 1

    assert owned == split.shares()
    assert sum(owned.values()) == BUCKETS
    for alias in (*ALIASES, Alias("nobody")):
        first, end = split.range_of(alias)
        assert all(split.alias_of(bucket) == alias for bucket in range(first, end))
        assert end - first == owned.get(alias, 0)


@given(shares, shares, buckets)
def test_raising_a_share_never_returns_a_bucket_to_production(one: int, other: int, bucket: int) -> None:
    low, high = sorted((one, other))

    if Split(low).alias_of(bucket) == CANARY:
        assert Split(high).alias_of(bucket) == CANARY


@given(st.lists(st.integers(0, BUCKETS), min_size=1, max_size=8))
def test_lowering_and_raising_gives_back_the_same_keys(ramp: list[int]) -> None:
    """Whatever lies between two visits to a share, the same users are in the canary both times."""
    users = [f"user-{n}" for n in range(200)]

    def in_canary(share: int) -> set[str]:
        return {user for user in users if Split(share).alias_of(bucket_of("sentiment", user)) == CANARY}

    first = [in_canary(share) for share in ramp]
    again = [in_canary(share) for share in reversed(ramp)]

    assert first == again[::-1]
    for smaller, larger in pairwise(sorted(ramp)):
        assert in_canary(smaller) <= in_canary(larger)


@given(shares, shares, shares, buckets)
def test_a_further_alias_keeps_the_top_while_the_canary_ramps(
    one: int, other: int, top: int, bucket: int
) -> None:
    """Both ramps grow from their own end, so neither takes a key from the other."""
    before, after = (Split(min(share, BUCKETS - top), (CHALLENGER, top)) for share in (one, other))

    owns = bucket >= BUCKETS - top
    assert (before.alias_of(bucket) == CHALLENGER) is owns
    assert (after.alias_of(bucket) == CHALLENGER) is owns


@given(shares, shares, buckets)
def test_raising_a_further_alias_never_returns_a_bucket_to_production(
    one: int, other: int, bucket: int
) -> None:
    low, high = sorted((one, other))

    if Split(0, (CHALLENGER, low)).alias_of(bucket) == CHALLENGER:
        assert Split(0, (CHALLENGER, high)).alias_of(bucket) == CHALLENGER
