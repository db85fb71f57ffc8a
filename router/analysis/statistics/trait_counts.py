"""Traits of one version's faults and good answers, counted so that both can be compared; and the ranking.

Every fault is there, and a tenth of the good answers, drawn before anybody knew how they would end. Counts
are of requests as drawn: good answers are not multiplied by ten, which would make ten observations of each,
and the shares of faults and of good answers that have a trait need no weight. Three things would make
patterns of nothing, and are kept out:

- One user's loop. A bucket counts once, by what came first: so where faults hit any request alike, it counts
  as a fault with the same chance whether it sends much or little.
- Users who fail for a reason of their own. Each is seen at its first request, and a good one that sends
  little mostly never; so faults would have the traits of those who send little. Compared are therefore a
  bucket's first requests with first ones, and later ones with later ones.
- The time. It is cut into periods, and a comparison is made within each. In each a bucket counts anew, unless
  it had its fault already: a version that was good for days shows what it fails on now.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from router.analysis.statistics.association import Stratum, holm, p_value, surprise
from router.core.split import BUCKETS
from router.core.traits import MOST_TRAITS, SIZE_PARTS, Trait, TraitKind

PERIOD_OBSERVATIONS = 256
"""Faults and drawn good answers of a period, those of buckets that counted already among them."""
MOST_PERIODS = 32
ENOUGH = 64
"""While newer periods have so many faults and good answers, older ones go."""
MIN_OBSERVATIONS = 8
"""Faults, and good answers, of different buckets below which nothing is said."""
ALPHA = 0.01
"""The chance that any trait is named of a version whose faults have nothing to do with traits."""
_ORDINALS = (1, 4, 16)
"""Last of its bucket's requests up to which each is compared with others of the same part."""
_TESTED_EXACTLY = 16
"""Traits, those with the largest surprise; the others have nothing to say beside them."""


@dataclass(slots=True)
class _Part:
    """Of one period: requests that came about as late among those of their bucket."""

    with_trait: dict[int, list[int]] = field(default_factory=dict)
    """By trait: of good answers, and of faults."""
    sizes: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    """Bytes of the bodies of good answers, and of faults: one for each."""

    @property
    def good(self) -> int:
        return len(self.sizes[0])

    @property
    def faults(self) -> int:
        return len(self.sizes[1])


@dataclass(slots=True)
class _Period:
    observations: int = 0
    parts: list[_Part] = field(default_factory=lambda: [_Part() for _ in range(len(_ORDINALS) + 1)])
    counted: set[int] = field(default_factory=set)

    @property
    def good(self) -> int:
        return sum(part.good for part in self.parts)

    @property
    def faults(self) -> int:
        return sum(part.faults for part in self.parts)


@dataclass(frozen=True, slots=True)
class Shared:
    """A trait that faults have more often than chance allows."""

    trait: Trait
    faults: int
    """How many of them have it."""
    good: int
    p: float
    """Corrected for how many traits were looked at."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was found, the likeliest first; empty where there is no pattern, or too little to say."""

    faults: int
    """Of different buckets, whose traits are known."""
    good: int
    shared: tuple[Shared, ...]
    tests: int
    """How many traits were compared: not those that all have, or none."""

    @property
    def enough(self) -> bool:
        """Whether there is enough to say that there is no pattern."""
        return min(self.faults, self.good) >= MIN_OBSERVATIONS


class TraitCounts:
    """Counts of one version; at most 32 periods of 256 observations."""

    def __init__(self) -> None:
        self.without_traits = 0
        """Faults whose traits are not known."""
        self.taken = 0
        """Observations so far; whoever keeps a ranking sees by it that there is more."""
        self._periods = [_Period()]
        self._faulted = bytearray(BUCKETS)
        """1 of each bucket that had a fault."""

    def take(
        self, bucket: int, ordinal: int, traits: Sequence[int] | None, size: int, *, fault: bool
    ) -> None:
        """Count one fault, or one good answer that was drawn; `traits` are numbers below 256.

        `ordinal`: which of its bucket's requests it is, from 1 on.
        """
        self.taken += 1
        if traits is None:
            self.without_traits += 1
            return
        period = self._periods[-1]
        period.observations += 1
        if bucket not in period.counted and not self._faulted[bucket]:
            period.counted.add(bucket)
            part = period.parts[bisect_left(_ORDINALS, ordinal)]
            part.sizes[fault].append(size)
            for trait in traits:
                if 0 <= trait < MOST_TRAITS:
                    part.with_trait.setdefault(trait, [0, 0])[fault] += 1
            self._faulted[bucket] = fault
        if period.observations >= PERIOD_OBSERVATIONS:
            self._begin_period()

    def _begin_period(self) -> None:
        self._periods[-1].counted.clear()
        if not self._periods[-1].faults:
            self._periods.pop()  # there is nothing in it to compare
        periods = self._periods
        while periods and all(
            sum(getattr(period, arm) for period in periods[1:]) >= ENOUGH for arm in ("faults", "good")
        ):
            del periods[0]
        del periods[: len(periods) + 1 - MOST_PERIODS]
        periods.append(_Period())

    def rank(self, table: Sequence[Trait]) -> Ranking:
        """Which traits of `table` the faults share, by how unlikely that is; 0.1 s at the very most."""
        parts = [part for period in self._periods if period.faults for part in period.parts]
        faults, good = sum(part.faults for part in parts), sum(part.good for part in parts)
        candidates = [
            (trait, strata)
            for trait, strata in (*_by_trait(parts, table), *_by_size(parts))
            if any(stratum.informs for stratum in strata)
        ]
        ranking = Ranking(faults, good, (), len(candidates))
        if not ranking.enough:
            return ranking
        candidates.sort(key=lambda one: -surprise(one[1]))
        likeliest = [(trait, strata, p_value(strata)) for trait, strata in candidates[:_TESTED_EXACTLY]]
        corrected = holm([p for _, _, p in likeliest], len(candidates))
        found = [
            (
                p,
                Shared(
                    trait, sum(one.faults_with for one in strata), sum(one.good_with for one in strata), each
                ),
            )
            for (trait, strata, p), each in zip(likeliest, corrected, strict=True)
            if each <= ALPHA
        ]
        found.sort(key=lambda one: (one[0], one[1].trait.kind, one[1].trait.what))
        return Ranking(faults, good, tuple(shared for _, shared in found), len(candidates))


def _by_trait(parts: Sequence[_Part], table: Sequence[Trait]) -> list[tuple[Trait, list[Stratum]]]:
    known = {number for part in parts for number in part.with_trait if number < len(table)}
    return [(table[number], [_stratum(part, number) for part in parts]) for number in sorted(known)]


def _stratum(part: _Part, trait: int) -> Stratum:
    good, faults = part.with_trait.get(trait, (0, 0))
    return Stratum(part.faults, part.good, faults, good)


def _by_size(parts: Sequence[_Part]) -> list[tuple[Trait, list[Stratum]]]:
    """Which tenth of all bodies, by size, a body is of; equal ones are of the same."""
    every = sorted(size for part in parts for arm in part.sizes for size in arm)
    if not every:
        return []
    starts = sorted({every[len(every) * place // SIZE_PARTS] for place in range(SIZE_PARTS)})
    tables = []
    for start, end in zip(starts, [*starts[1:], every[-1] + 1], strict=True):
        strata = [
            Stratum(
                part.faults,
                part.good,
                *(sum(start <= size < end for size in part.sizes[arm]) for arm in (1, 0)),
            )
            for part in parts
        ]
        tables.append((Trait(TraitKind.SIZE, f"body of {start} to {end - 1} bytes"), strata))
    return tables
