"""Traffic of made-up days, seeded: what the operating characteristics are measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.analysis.statistics.cell_recorder import Observation
from router.core.verdict import Verdict
from tests.analysis.statistics.observed import Observed, split_of

KEYS = 20_000
SIGMA = 2.0
"""Of the lognormal activity of heavy users: 5 % of 20 000 keys are as many as about 50 that ask equally
often."""
CORRELATION = 0.3
"""Of the faults of one key."""


@dataclass
class Traffic:
    """Requests of one day. Rates are 0 to 1; `heavy`: sticky keys, some of which ask most of the time."""

    seed: int
    share: float = 0.05
    base: float = 0.01
    rise: float = 0.0
    heavy: bool = False
    slow: float | None = None
    """Share of slow answers, both arms; None: durations are not given."""
    slow_rise: float = 0.0

    def __post_init__(self) -> None:
        self.drawn = np.random.default_rng(self.seed)
        self.edge = round(self.share * 100_000)
        self.split = split_of(self.share)
        if self.heavy:
            activity = self.drawn.lognormal(0.0, SIGMA, KEYS)
            self.until = np.cumsum(activity / activity.sum())
            self.buckets = self.drawn.integers(0, 100_000, KEYS)
            self.rates = np.where(
                self.buckets < self.edge, self.by_key(self.base + self.rise), self.by_key(self.base)
            )

    def by_key(self, rate: float) -> Any:
        """A fault rate for each key: beta, with the mean `rate` and the correlation."""
        if rate <= 0.0:
            return np.zeros(KEYS)
        both = 1.0 / CORRELATION - 1.0
        return self.drawn.beta(rate * both, max(1e-9, (1.0 - rate) * both), KEYS)

    def requests(self, count: int) -> list[Observation]:
        """The next `count` requests."""
        if self.heavy:
            keys = np.searchsorted(self.until, self.drawn.random(count))
            keys = np.minimum(keys, KEYS - 1)
            buckets, rates = self.buckets[keys], self.rates[keys]
            canary = buckets < self.edge
        else:
            buckets = self.drawn.integers(0, 100_000, count)
            canary = buckets < self.edge
            rates = np.where(canary, self.base + self.rise, self.base)
        faults = self.drawn.random(count) < rates
        if self.slow is None:
            seconds: list[float | None] = [None] * count
        else:
            slow = self.drawn.random(count) < np.where(canary, self.slow + self.slow_rise, self.slow)
            seconds = np.where(slow, 0.2, 0.004).tolist()
        rows = zip(buckets.tolist(), canary.tolist(), faults.tolist(), seconds, strict=True)
        return [
            Observation(bucket, is_canary, self.split, fault, None if fault else took, None, None, False)
            for bucket, is_canary, fault, took in rows
        ]


def evidence_on(traffic: Traffic, **said: Any) -> Observed:
    """Evidence that has seen nothing yet."""
    return Observed(traffic.split, **said)


def failed(seen: Observed) -> bool:
    """Whether the fault check said FAIL by the last cell."""
    return bool(seen.state._faults.state.failed_by)


def passed(seen: Observed) -> bool:
    """Whether the fault check says PASS."""
    return seen.report().faults.verdict is Verdict.PASS


def canary_requests_until(
    said: Callable[[Observed], bool],
    seen: Observed,
    traffic: Traffic,
    *,
    per_look: int,
    most: int,
    seconds_per_look: float = 10.0,
) -> int | None:
    """Canary requests by the cell in which it was said first; None within `most` requests of both arms.

    `per_look`: requests of a cell; `seconds_per_look`: between two that hold some, a multiple of 5.
    """
    now, canary = 0.0, 0
    for _ in range(0, most, per_look):
        now += seconds_per_look
        for one in traffic.requests(per_look):
            canary += one.canary
            seen.observe(one)
        seen.look(now)
        if said(seen):
            return canary
    return None


def reported(values: list[int | None]) -> str:
    """Median and 95th percentile of those that came to an end, and the share that did."""
    done = [value for value in values if value is not None]
    if not done:
        return f"none of {len(values)}"
    median, late = np.quantile(done, [0.5, 0.95])
    came = "" if len(done) == len(values) else f", {100 * len(done) / len(values):.0f} % came to it"
    return f"{median:.0f}/{late:.0f}{came}"


def days_of_first_hits(
    traffic: Traffic,
    requests_per_second: float,
    hours: float,
    epoch_seconds: float,
    look_seconds: float = 10.0,
) -> list[Any]:
    """Newly faulty buckets per look: `(production, canary)` from the start, then of each epoch.

    A key's faults are a Poisson process, so its first one, after the start or after an epoch's, is
    exponential.
    """
    activity = np.diff(traffic.until, prepend=0.0)
    per_second = np.bincount(
        traffic.buckets, requests_per_second * activity * traffic.rates, minlength=100_000
    )
    hit = np.flatnonzero(per_second > 1e-9)
    rates, canary = per_second[hit], hit < traffic.edge
    seconds = hours * 3600.0

    def looks(length: float) -> Any:
        edges = np.arange(0.0, length + look_seconds / 2, look_seconds)
        first = traffic.drawn.exponential(1.0, len(hit)) / rates
        return np.stack([np.histogram(first[canary == arm], edges)[0] for arm in (False, True)])

    return [looks(seconds)] + [looks(epoch_seconds) for _ in range(int(seconds / epoch_seconds))]


def highest_ln_e(hits: Any, edge: int, odds: tuple[float, ...]) -> float:
    """The largest ln E of a process over its looks: the sum of `worse`, once more, without its code."""
    production, canary = hits[0].astype(float), hits[1].astype(float)
    events = production + canary
    before = np.cumsum(canary) - canary
    share = (edge - before) / (100_000 - (np.cumsum(events) - events))
    ratios = np.array(odds)[:, None]
    sums = np.cumsum(canary * np.log(ratios) - events * np.log1p(share * (ratios - 1.0)), axis=1)
    return float(np.logaddexp.reduce(sums, axis=0).max() - np.log(len(odds))) if sums.size else 0.0
