"""Whether the canary gets the keys it should: a self-check of the split, never a verdict on a version.

The first request of each bucket is a coin toss whose odds the split fixes, so the test of `fault_test` serves
with odds on both sides. Requests are never tested: with heavy keys χ² on them alarms in most sound splits.
"""

import math
from collections.abc import Iterable

from msgspec import field

from router.analysis.statistics.fault_test import SEEN, BucketFlags, FirstHitTest, OddsMixture

BOTH_SIDES = (0.25, 0.5, 0.8, 0.9, 1 / 0.9, 1.25, 2.0, 4.0)
"""Odds ratios: from a quarter of the canary's keys to four times as many."""
LN_ALARM = math.log(1000.0)
MIN_KEYS = 50
"""Canary keys, or as many as are due, before it says that all is well."""


class SampleRatioTest(FirstHitTest, array_like=True):
    """E over the first requests of buckets; restarted at each step."""

    event: int = SEEN
    mixture: OddsMixture = field(default_factory=lambda: OddsMixture(BOTH_SIDES))
    alarmed: bool = False
    """True once E reached 1000 in this step."""
    pair: tuple[int, int] = (0, 0)
    """Buckets that production and the canary own."""

    def restart(self, buckets: BucketFlags) -> None:
        """Another step."""
        super().restart(buckets)
        self.alarmed = False
        self.pair = len(buckets.production), len(buckets.canary)

    def take(self, buckets: BucketFlags, hit: Iterable[int], calls: Iterable[int] = ()) -> None:
        """Take in the buckets seen in one cell."""
        before = self.hits
        super().take(buckets, hit, calls)
        self.alarmed = self.alarmed or (self.hits > before and self.ln_e >= LN_ALARM)

    @property
    def share_of_buckets(self) -> float:
        """The canary's share of both arms' buckets, 0 to 1: what is expected of the buckets seen."""
        return self.pair[1] / sum(self.pair) if any(self.pair) else 0.0

    @property
    def observed(self) -> float | None:
        """The canary's share of the buckets seen, 0 to 1."""
        return self.canary_hits / self.hits if self.hits else None

    def enough(self, share: float) -> bool:
        """Whether 50 canary keys were seen, or are due by `share`, as of a canary that nobody reaches."""
        return self.canary_hits >= MIN_KEYS or self.hits * share >= MIN_KEYS
