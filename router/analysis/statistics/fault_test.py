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

from router.analysis.statistics.bucket_flags import Buckets

WORSE = (1.25, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)
"""Odds ratios of the mixture: from a quarter more keys hit to a version that fails everybody."""
EPOCH_REQUESTS = 500
"""Requests the canary must have had before an epoch may end."""
OUTAGE_REQUESTS, OUTAGE_FAULTS = 50, 25
_LAST = (1 << OUTAGE_REQUESTS) - 1


class Mixture:
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
        most = max(self._sums)
        return most + math.log(sum(math.exp(each - most) for each in self._sums) / len(self._sums))


class FirstHits:
    """The buckets that had one event for the first time, look by look.

    Faults of a whole call (a crash, a hang) hit many keys of one arm at once: they are one event per call,
    in a stratum of their own whose π is not below the canary's share of workers.
    """

    def __init__(
        self, buckets: Buckets, event: int, odds: Sequence[float] = WORSE, workers: float = 0.5
    ) -> None:
        self.event = event
        self._buckets, self._odds, self._workers = buckets, odds, workers
        self.restart()

    def restart(self) -> None:
        """Forget everything: E is 1 again, and no bucket has had the event."""
        self._buckets.clear(self.event)
        self._mixture = Mixture(self._odds)
        self.ln_e = 0.0
        self.hits = self.canary_hits = 0
        self._hits = self._canary_hits = self._calls = self._canary_calls = 0
        self.recount()

    def recount(self) -> None:
        """The split changed: π is that of the buckets' new owners. No hit may be pending."""
        self._clean_canary, self._clean = self._buckets.clean(self.event)

    def hit(self, *, canary: bool, whole_call: bool = False) -> None:
        """A clean bucket was hit, and is marked so by the caller."""
        if whole_call:
            self._calls += 1
            self._canary_calls += canary
        else:
            self._hits += 1
            self._canary_hits += canary

    @property
    def share(self) -> float:
        """π: the canary's share of the clean buckets, 0 to 1."""
        return self._clean_canary / self._clean if self._clean else 0.0

    def look(self) -> None:
        """Take in what was hit since the last look. Afterwards `ln_e` and the counts hold it."""
        hits, canary = self._hits + self._calls, self._canary_hits + self._canary_calls
        if hits:
            self._mixture.add(self._canary_hits, self._hits, self.share)
            self._mixture.add(self._canary_calls, self._calls, max(self.share, self._workers))
            self.ln_e = self._mixture.ln_e
            self._clean -= hits
            self._clean_canary -= canary
            self.hits += hits
            self.canary_hits += canary
            self._hits = self._canary_hits = self._calls = self._canary_calls = 0


class Fuse:
    """The outage rule, no test: 25 of the last 50 canary requests failed where production did not.

    Needed for one single heavy key, which no test on keys can judge. Chance at a fault rate of 2 %: 3e-29 per
    request; at 10 %: 1e-12 (binomial tail).
    """

    __slots__ = ("_last", "_seen", "blown")

    def __init__(self) -> None:
        self._last = 0
        self._seen = 0
        self.blown = False

    def add(self, *, fault: bool) -> None:
        """One request of the canary."""
        self._last = self._last << 1 & _LAST | fault
        if self._seen < OUTAGE_REQUESTS:
            self._seen += 1
        if self._seen == OUTAGE_REQUESTS and self._last.bit_count() >= OUTAGE_FAULTS:
            self.blown = True


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
    mixture = Mixture()
    for keys in range(1, 1001):
        mixture.add(1, 1, share)
        if mixture.ln_e >= level:
            return keys
    return 1000
