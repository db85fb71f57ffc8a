"""FAIL: a test of whether the canary hits more keys than a coin toss would, valid however often one looks.

Given that `d` clean buckets are newly hit in a look, the number `k` of them that are the canary's is
hypergeometric when the versions behave alike: which arm a bucket fell into knows nothing of its users. Its
exponential moments are below the binomial's (Hoeffding 1963, theorem 4), so for each odds ratio ψ

    exp( Σ_looks [ k·ln ψ − d·ln(1 − π + π·ψ) ] ),    π = clean canary buckets / clean buckets before the look

is a non-negative supermartingale, whatever the traffic, and so is the mean over several ψ (mixtures of
likelihood ratios: Robbins 1970). Then P(E ever ≥ 1/α) ≤ α (Ville 1939). Kin: Lindon & Malek, NeurIPS 2022;
Lindon, Sanden & Shirikian, KDD 2022.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from router.analysis.statistics.non_inferiority import divergence
from router.core.split import BUCKETS

# Buckets are what the split randomised, so a bucket counts the first time it has an event and never again. No
# key is kept: one byte per bucket, one bit per event. The two upper bits say whose the bucket is, so that one
# read says all there is to know of a request's bucket. Maps of replicas with the same split merge by OR.

FAULT, FAULT_EPOCH, SLOW, SLOW_EPOCH, SCORED, SEEN = 1, 2, 4, 8, 16, 32
"""Events, as bits of a bucket's byte."""
OWNER = 6
"""`byte >> OWNER` is 0 for a bucket of production, 1 for the canary's, 2 for anybody else's."""
EVENTS = 0b00111111

_HAD = {bit: bytes(byte & bit > 0 for byte in range(256)) for bit in (1, 2, 4, 8, 16, 32)}
_WITHOUT = {bit: bytes(byte & ~bit & 255 for byte in range(256)) for bit in (1, 2, 4, 8, 16, 32)}
_OWNED_BY = tuple(bytes(byte & EVENTS | owner << OWNER for byte in range(256)) for owner in range(3))


class BucketFlags:
    """The bytes of all buckets, `flags`, and whose they are. 100 KB, whatever the traffic."""

    __slots__ = ("canary", "flags", "production")

    def __init__(self, canary: range, production: range) -> None:
        self.flags = bytearray(BUCKETS)
        self.assign(canary, production)

    def assign(self, canary: range, production: range) -> None:
        """Give the buckets to new owners. An event that a bucket had stays with it: it is used up.

        Raises ValueError for ranges that overlap or leave [0, 100 000).
        """
        for owned in (canary, production):
            if not 0 <= owned.start <= owned.stop <= BUCKETS or owned.step != 1:
                raise ValueError(f"{owned} is not a range of the {BUCKETS} buckets")
        if canary and production and canary.start < production.stop and production.start < canary.stop:
            raise ValueError("a bucket is the canary's or production's, not both")
        self.canary, self.production = canary, production
        flags = self.flags.translate(_OWNED_BY[2])
        for owner, owned in enumerate((production, canary)):
            flags[owned.start : owned.stop] = flags[owned.start : owned.stop].translate(_OWNED_BY[owner])
        self.flags[:] = flags

    def clean(self, event: int) -> tuple[int, int]:
        """Buckets that have not had `event`: the canary's, and both arms'."""
        canary, production = (
            len(owned) - self.flags[owned.start : owned.stop].translate(_HAD[event]).count(1)
            for owned in (self.canary, self.production)
        )
        return canary, canary + production

    def clear(self, event: int) -> None:
        """Forget `event` of all buckets; 0.1 ms."""
        self.flags[:] = self.flags.translate(_WITHOUT[event])


WORSE = (1.25, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)
"""Odds ratios of the mixture: from a quarter more keys hit to a version that fails everybody."""
EPOCH_REQUESTS = 500
"""Requests the canary must have had before an epoch may end."""


def log_mean_exp(values: Sequence[float]) -> float:
    """ln of the mean of e^value, without overflow."""
    most = max(values)
    return most + math.log(sum(math.exp(each - most) for each in values) / len(values))


class OddsMixture:
    """ln E of a mixture of odds ratios, equally weighted; one running sum per ratio is the whole state."""

    __slots__ = ("_odds", "_sums")

    def __init__(self, odds: Sequence[float] = WORSE) -> None:
        self._odds = tuple((math.log(ratio), ratio - 1.0) for ratio in odds)
        self._sums = [0.0] * len(self._odds)

    def add(self, hits: int, events: int, share: float) -> None:
        """One look: `hits` of `events` newly hit buckets are the canary's, who owned `share` of the clean."""
        if events:
            for index, (log, more) in enumerate(self._odds):
                self._sums[index] += hits * log - events * math.log1p(share * more)

    @property
    def ln_e(self) -> float:
        """Natural logarithm of E; 0 before the first look."""
        return log_mean_exp(self._sums)


class FirstHitTest:
    """The buckets that had one event for the first time, look by look.

    Faults of a whole batch (a crash, a hang) hit many keys of one arm at once: they are one event per batch,
    in a stratum of their own whose π is not below the canary's share of workers.
    """

    def __init__(
        self, buckets: BucketFlags, event: int, odds: Sequence[float] = WORSE, workers: float = 0.5
    ) -> None:
        self.event = event
        self._buckets, self._odds, self._workers = buckets, odds, workers
        self.restart()

    def restart(self) -> None:
        """Forget everything: E is 1 again, and no bucket has had the event."""
        self._buckets.clear(self.event)
        self._mixture = OddsMixture(self._odds)
        self.ln_e = 0.0
        self.hits = self.canary_hits = 0
        self._hits = self._canary_hits = self._batches = self._canary_batches = 0
        self.recount()

    def recount(self) -> None:
        """The split changed: π is that of the buckets' new owners. No hit may be pending."""
        self._clean_canary, self._clean = self._buckets.clean(self.event)

    def hit(self, *, canary: bool, whole_batch: bool = False) -> None:
        """A clean bucket was hit, and is marked so by the caller."""
        if whole_batch:
            self._batches += 1
            self._canary_batches += canary
        else:
            self._hits += 1
            self._canary_hits += canary

    @property
    def share(self) -> float:
        """π: the canary's share of the clean buckets, 0 to 1."""
        return self._clean_canary / self._clean if self._clean else 0.0

    def look(self) -> None:
        """Take in what was hit since the last look. Afterwards `ln_e` and the counts hold it."""
        hits, canary = self._hits + self._batches, self._canary_hits + self._canary_batches
        if hits:
            self._mixture.add(self._canary_hits, self._hits, self.share)
            self._mixture.add(self._canary_batches, self._batches, max(self.share, self._workers))
            self.ln_e = self._mixture.ln_e
            self._clean -= hits
            self._clean_canary -= canary
            self.hits += hits
            self.canary_hits += canary
            self._hits = self._canary_hits = self._batches = self._canary_batches = 0


def cumulative_level(alpha: float) -> float:
    """ln(1/α) that the process from the start must reach, of a check whose budget is `alpha`: half of it."""
    return math.log(2.0 / alpha)


def epoch_level(alpha: float, number: int) -> float:
    """ln(1/α) of epoch `number` = 1, 2, …: α/(2·j·(j+1)), which sum to the other half of `alpha`."""
    return math.log(2.0 * number * (number + 1) / alpha)


@lru_cache(maxsize=64)
def keys_to_prove(share: float, level: float) -> int:
    """Hit canary keys in a row that prove it while production has none.

    `level` is ln(1/α), `share` lies in (0, 1). 2 at 1 %, 3 at 5 %, 4 at 10 %, 6 at 25 %, 10 at 50 % for ln
    400. At most 1000 are tried.
    """
    mixture = OddsMixture()
    for keys in range(1, 1001):
        mixture.add(1, 1, share)
        if mixture.ln_e >= level:
            return keys
    return 1000


# How much longer, if things stay as they are: the mean, not a promise


def events_to_fail(ln_e: float, level: float, share: float, hits: int, canary_hits: int) -> float | None:
    """Newly hit keys still needed until ln E reaches `level`, if the odds seen hold; None if they are even.

    (ln(1/α) − ln E)/KL(q‖π), q the canary's share of the hit keys (with ½ added to each arm), π its share of
    the clean ones.
    """
    if not hits or not 0.0 < share < 1.0:
        return None
    q = (canary_hits + 0.5) / (hits + 1.0)
    if q <= share:
        return None
    return max(0.0, (level - ln_e) / divergence(q, share))


def requests_to_show(increase: float, rate: float, share: float, level: float) -> float | None:
    """Canary requests after which a rise of `increase` above production's `rate` would be proven.

    From nothing. The mean of the sum needs ln(9) more than `level`: it does not know which of its 9 odds is
    right. Each request is taken to be of a key of its own.
    """
    if not 0.0 < share < 1.0 or not 0.0 <= rate < 1.0:
        return None
    canary = min(1.0, rate + increase)
    events = canary + rate * (1.0 - share) / share
    return (level + math.log(len(WORSE))) / (events * divergence(canary / events, share))
