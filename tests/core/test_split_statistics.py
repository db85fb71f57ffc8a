"""Keys of every shape spread evenly, and two salts have nothing to do with each other.

The keys are fixed, so each statistic is one number that a change of the hash alone can move. The bounds are
those of a fair hash at a probability of 1e-6 per tail (4.75 standard deviations): wide enough that no honest
hash trips over one of some thirty numbers, and far below what a biased one gives, as the last tests show.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from uuid import UUID

import pytest

from router.core.split import BUCKETS, bucket_of

DEVIATIONS = 4.75
COUNT = 100_000
CELLS = 1_000

SHAPES: dict[str, Callable[[int], str]] = {
    "sequential": str,
    "zero-padded": lambda n: f"{n:012d}",
    "uuid": lambda n: str(UUID(int=Random(n).getrandbits(128), version=4)),
    "e-mail": lambda n: f"first.last{n}@example.com",
    "cyrillic": lambda n: f"пользователь-{n}",
}


def bounds(freedom: int) -> tuple[float, float]:
    """Where chi-square with that many degrees of freedom lies but for 1e-6 at each end (Wilson-Hilferty)."""
    spread = 2 / (9 * freedom)
    low, high = (freedom * (1 - spread + z * math.sqrt(spread)) ** 3 for z in (-DEVIATIONS, DEVIATIONS))
    return low, high


def uniform(buckets: Iterable[int]) -> float:
    """Chi-square of buckets against an even spread over 1 000 cells; 999 degrees of freedom."""
    cells = Counter(bucket * CELLS // BUCKETS for bucket in buckets)
    expected = cells.total() / CELLS
    return sum((cells[cell] - expected) ** 2 / expected for cell in range(CELLS))


def independent(pairs: Iterable[tuple[int, int]], parts: int) -> float:
    """Chi-square of a contingency table of parts × parts; (parts − 1)² degrees of freedom."""
    table = Counter((a * parts // BUCKETS, b * parts // BUCKETS) for a, b in pairs)
    rows, columns = Counter[int](), Counter[int]()
    for (row, column), count in table.items():
        rows[row] += count
        columns[column] += count
    total = table.total()
    return sum(
        (table[row, column] - rows[row] * columns[column] / total) ** 2
        / (rows[row] * columns[column] / total)
        for row in rows
        for column in columns
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_keys_of_any_shape_spread_evenly(shape: str) -> None:
    buckets = [bucket_of("sentiment", SHAPES[shape](n)) for n in range(COUNT)]

    low, high = bounds(CELLS - 1)
    assert low < uniform(buckets) < high
    for share in (100, 1_000, 5_000, 25_000, 50_000):
        ratio = share / BUCKETS
        expected = COUNT * ratio
        deviation = math.sqrt(expected * (1 - ratio))
        observed = sum(bucket < share for bucket in buckets)
        assert abs(observed - expected) < DEVIATIONS * deviation, f"{share} buckets"


@pytest.mark.parametrize(
    ("one", "other"),
    [("sentiment", "churn"), ("sentiment", "sentiment2"), ("a", "b"), ("sentiment", "Sentiment")],
)
def test_two_salts_are_independent(one: str, other: str) -> None:
    """Who is in one model's canary says nothing about who is in another's."""
    pairs = [(bucket_of(one, f"user-{n}"), bucket_of(other, f"user-{n}")) for n in range(COUNT // 2)]

    for parts in (10, 20):  # with 20, the first row and column are a canary of 5 percent
        low, high = bounds((parts - 1) ** 2)
        assert low < independent(pairs, parts) < high


def test_the_same_salt_twice_is_found_dependent() -> None:
    pairs = [(bucket_of("sentiment", str(n)),) * 2 for n in range(COUNT // 10)]

    assert independent(pairs, 10) > 100 * bounds(81)[1]


def test_a_hash_that_leans_by_a_tenth_is_found_uneven() -> None:
    """Half of the cells 10 percent fuller than the others: still a plausible looking canary share."""
    leaning = [
        bucket for n in range(COUNT) if (bucket := bucket_of("sentiment", str(n))) < BUCKETS // 2 or n % 10
    ]

    assert uniform(leaning) > bounds(CELLS - 1)[1]


def test_counting_keys_off_is_found_too_even() -> None:
    """Sequential keys taken in turn look perfect, until keys come in any other order."""
    assert uniform(n % BUCKETS for n in range(COUNT)) < bounds(CELLS - 1)[0]
