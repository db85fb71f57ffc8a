"""FAIL by pairs: does the canary alone fail more buckets than production alone, of the same bytes?

Both versions were asked the same, so what both fail says nothing. Where one of them failed alone, alike
versions have equal chances of having been the one, whatever the traffic, its drift and the users are: a fair
coin, and the mixture of `fault_test` with π = ½ is a non-negative supermartingale. A bucket counts the first
time only.

What happens to a machine between the two answers may hit many copies of one version at once. So there is a
second sum, of one coin a cell: which version failed more new buckets alone. A proof needs both.
"""

from collections.abc import Iterable

from msgspec import Struct, field

from router.analysis.statistics.bucket_set import BITMAP_BYTES, BucketSet
from router.analysis.statistics.fault_test import OddsMixture

EVEN = 0.5
"""π: chance that it was the canary, where one version failed alone and both are alike."""


class PairedTest(Struct, array_like=True):
    """Buckets of which one version alone failed a request for the first time, cell by cell."""

    used: bytearray = field(default_factory=lambda: bytearray(BITMAP_BYTES))
    """Buckets that had it, as in a `BucketSet`."""
    buckets: OddsMixture = field(default_factory=OddsMixture)
    cells: OddsMixture = field(default_factory=OddsMixture)
    production_hits: int = 0
    canary_hits: int = 0
    ties: int = 0
    """Buckets with both in the cell in which they were new: used up, and counted for neither."""

    def take(self, canary_alone: Iterable[int], production_alone: Iterable[int]) -> None:
        """Take in the buckets that had it in one cell."""
        known = BucketSet(self.used)
        canary, production = set(known.new(canary_alone)), set(known.new(production_alone))
        if not (canary or production):
            return
        known.add(canary | production)
        # Both in one cell: which came first is not known where two gateways had them.
        tied = canary & production
        hits, others = len(canary - tied), len(production - tied)
        self.ties += len(tied)
        self.canary_hits += hits
        self.production_hits += others
        self.buckets.add(hits, hits + others, EVEN)
        if hits != others:
            self.cells.add(int(hits > others), 1, EVEN)

    @property
    def ln_e(self) -> float:
        """Natural logarithm of the lesser of both E; 0 before the first bucket."""
        return min(self.buckets.ln_e, self.cells.ln_e)
