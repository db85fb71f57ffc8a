"""How often pairs fail a canary wrongly, and after how many: seeded; `docs/evidence.md` shows what it is.

Some inputs fail whoever is asked, which is what most of a sound production's faults are; a version may fail
others besides, each by chance. Where users are heavy, some of 20 000 ask most of the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from router.analysis.criteria import Criteria
from router.analysis.paired_check import PairedEvidence
from router.analysis.statistics.shadow_record import ShadowCounts, ShadowRecord
from tests.analysis.statistics.days import (
    KEYS,
    SIGMA,
    Traffic,
    canary_requests_until,
    evidence_on,
    failed,
    reported,
)
from tests.conftest import Figure

SHADOWED = Criteria(shadow=True)


@dataclass
class Pairs:
    """Copies of one day. Rates are 0 to 1."""

    seed: int
    per_cell: float = 50.0
    """Ten a second."""
    input_faults: float = 0.0
    """Of requests that both versions fail."""
    own_faults: float = 0.0
    """Of what either version fails by chance, by itself."""
    rise: float = 0.0
    """What the canary fails besides."""
    dropped: float = 0.0
    """Of the copies, at random."""
    outages: int = 0
    """In one of so many cells something that both versions need begins to be broken, or ends: of 15 requests
    at most production was asked before and the canary after it. 0: never."""
    heavy: bool = True
    drawn: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = np.random.default_rng(self.seed)
        activity = self.drawn.lognormal(0.0, SIGMA, KEYS)
        self.until = np.cumsum(activity / activity.sum())
        self.buckets = self.drawn.integers(0, 100_000, KEYS)
        self._broken = False

    def cells(self) -> Iterator[ShadowRecord]:
        """Without end."""
        while True:
            count = self.drawn.poisson(self.per_cell)
            count = self.drawn.binomial(count, 1.0 - self.dropped)
            buckets = self.drawn.integers(0, 100_000, count)
            if self.heavy:
                keys = np.searchsorted(self.until, self.drawn.random(count))
                buckets = self.buckets[np.minimum(keys, KEYS - 1)]
            both = self.drawn.random(count) < self.input_faults
            production = both | (self.drawn.random(count) < self.own_faults)
            canary = both | (self.drawn.random(count) < self.own_faults + self.rise)
            if self.outages and self.drawn.random() < 1.0 / self.outages:
                self._broken = not self._broken
                caught = min(count, 15)
                canary[:caught], production[:caught] = self._broken, not self._broken
            yield of_pairs(buckets, production, canary)


def of_pairs(buckets: Any, production: Any, canary: Any) -> ShadowRecord:
    counts = ShadowCounts(
        len(buckets), *(int(each.sum()) for each in (production, canary, production & canary))
    )
    return ShadowRecord(
        counts,
        canary_alone=set(buckets[canary & ~production].tolist()),
        production_alone=set(buckets[production & ~canary].tolist()),
    )


def pairs_until_fail(told: Pairs, most: int) -> int | None:
    """Copies that were compared until FAIL; None where `most` of them did not suffice."""
    evidence = PairedEvidence(SHADOWED, 0)
    for cell, observed in enumerate(told.cells()):
        evidence.take(cell, observed)
        if evidence.state.failed_by:
            return evidence.state.counts.pairs
        if evidence.state.counts.pairs >= most:
            return None
    raise AssertionError


def fails_wrongly(told: Pairs, cells: int) -> bool:
    evidence = PairedEvidence(SHADOWED, 0)
    for cell, observed in zip(range(cells), told.cells(), strict=False):
        evidence.take(cell, observed)
    return bool(evidence.state.failed_by)


def unpaired_until_fail(seed: int, share: float, base: float, most: int) -> int | None:
    """The canary's requests until the check of faults says FAIL, a point above `base`; it has `share`."""
    traffic = Traffic(seed, share=share, base=base, rise=0.01)
    look = round(100 / share)
    return canary_requests_until(
        failed, evidence_on(traffic), traffic, per_look=look, most=round(most / share)
    )


ALIKE = {
    "faults of their own": {"own_faults": 0.01},
    "of the input too": {"input_faults": 0.05, "own_faults": 0.02},
    "half of the copies dropped": {"own_faults": 0.01, "dropped": 0.5},
    "outages between the answers": {"own_faults": 0.002, "outages": 20},
}


@pytest.mark.parametrize("said", ALIKE.values(), ids=ALIKE)
def test_versions_that_are_alike_rarely_fail_by_copies(said: dict[str, Any]) -> None:
    assert sum(fails_wrongly(Pairs(seed, **said), 400) for seed in range(20)) == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("said", ALIKE.values(), ids=ALIKE)
def test_an_hour_of_versions_that_are_alike(said: dict[str, Any], figure: Figure) -> None:
    """720 cells of ten copies a second, both processes and the gate of size."""
    hours = 1000
    wrong = sum(fails_wrongly(Pairs(seed, **said), 720) for seed in range(hours))
    figure(f"{said}: fail in {wrong} of {hours} hours")

    assert wrong <= 0.01 * hours


def test_twenty_times_as_many_faults_of_the_input_change_nothing() -> None:
    """What both versions fail is no evidence, so it is in nobody's way."""
    rare, frequent = (
        [pairs_until_fail(Pairs(seed, input_faults=rate, rise=0.02), 5000) for seed in range(15)]
        for rate in (0.002, 0.04)
    )

    assert np.median(frequent) == pytest.approx(np.median(rare), rel=0.15)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("share", "base", "times"),
    [
        (0.05, 0.0, 0.2),
        (0.05, 0.01, 1.2),
        (0.05, 0.02, 2.5),
        (0.05, 0.05, 5.0),
        (0.5, 0.01, 2.0),
        (0.5, 0.02, 4.0),
    ],
)
def test_a_point_more_faults_is_found_with_fewer_requests(
    share: float, base: float, times: float, figure: Figure
) -> None:
    """Faults of the input are `base`; copies come ten a second. Without pairs the canary has `share` of the
    keys, and needs so many `times` as many requests: fewer where production never fails."""
    runs, most = 60, 40_000
    told = (Pairs(seed, input_faults=base, rise=0.01, heavy=False) for seed in range(runs))
    by_pairs = [pairs_until_fail(one, most) for one in told]
    alone = [unpaired_until_fail(seed, share, base, most) for seed in range(runs)]
    figure(f"+1 on {base:.0%}: {reported(by_pairs)} copies; {reported(alone)} of {share:.0%} without pairs")

    assert all(one is not None for one in by_pairs)
    found = [most if one is None else one for one in alone]
    assert times * np.median(by_pairs) <= np.median(found)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("own", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("rise", [0.01, 0.05, 1.0])
def test_copies_until_a_fail(own: float, rise: float, figure: Figure) -> None:
    """`own`: what either version fails by chance, which is no fault of the input."""
    told = (Pairs(seed, own_faults=own, rise=rise, heavy=False) for seed in range(100))
    found = [pairs_until_fail(one, 30_000) for one in told]
    figure(f"+{rise:.0%} on {own:.1%} by chance: {reported(found)} copies")

    assert sum(one is not None for one in found) >= 95
