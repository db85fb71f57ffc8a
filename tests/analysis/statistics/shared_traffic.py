"""Traffic of made-up users that several gateways share: seeded, the same whoever answers it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

BUCKETS = 100_000
USERS = 20_000
SIGMA = 2.0
"""Of the lognormal activity of heavy users: 5 % of 20 000 are as many as about 50 that ask equally often."""
CORRELATION = 0.3
"""Of the faults of one user."""
MOST_OF_A_CALL = 8
"""Requests in a call that fails as a whole."""


class Fact(NamedTuple):
    """What happens to a request, but for the version that answers it."""

    bucket: int
    roll: float
    """0 to 1: it is a fault where the version fails more often than that."""
    seconds: float
    """What production would take."""
    call: int | None
    """Of the requests that fail together; they are asked of one gateway."""


@dataclass
class Users:
    """Whoever asks. Rates are 0 to 1."""

    seed: int
    heavy: bool = False
    """Whether some ask most of the time, and each has a fault rate of its own."""
    base: float = 0.01
    """Fault rate of production."""
    seconds: float = 0.020
    """Median of the durations, which are lognormal."""
    scatter: float = 0.3
    """σ of their logarithm."""
    users_differ: float = 0.2
    """σ of a user's part in it, where users are heavy."""
    crashes: float = 0.0
    """Chance per request that it begins a call of up to 8 that fails as a whole."""

    def __post_init__(self) -> None:
        self.drawn = np.random.default_rng(self.seed)
        self._calls = 0
        if self.heavy:
            activity = self.drawn.lognormal(0.0, SIGMA, USERS)
            self.until = np.cumsum(activity / activity.sum())
            self.buckets = self.drawn.integers(0, BUCKETS, USERS)
            both = 1.0 / CORRELATION - 1.0
            rates = self.drawn.beta(self.base * both, (1.0 - self.base) * both, USERS) if self.base else None
            self.rates = np.zeros(USERS) if rates is None else rates
            self.slowness = self.drawn.normal(0.0, self.users_differ, USERS)

    def requests(self, count: int) -> "Requests":
        """The next ones."""
        if self.heavy:
            users = np.minimum(np.searchsorted(self.until, self.drawn.random(count)), USERS - 1)
            buckets, rates, slowness = self.buckets[users], self.rates[users], self.slowness[users]
        else:
            buckets, rates, slowness = self.drawn.integers(0, BUCKETS, count), np.full(count, self.base), 0.0
        # A roll below the base rate is a fault of either version: each user keeps a rate of his own, and the
        # versions differ by what is added to it.
        rolls = self.drawn.random(count) + self.base - rates
        seconds = self.seconds * np.exp(self.drawn.normal(0.0, self.scatter, count) + slowness)
        calls = np.full(count, -1)
        for first in np.flatnonzero(self.drawn.random(count) < self.crashes):
            self._calls += 1
            calls[first : first + self.drawn.integers(2, MOST_OF_A_CALL + 1)] = self._calls
        return Requests(buckets, rolls, seconds, calls)


@dataclass
class Requests:
    """Arrays, one element for each request."""

    buckets: Any
    rolls: Any
    seconds: Any
    calls: Any
    """−1 for those that fail by themselves, if at all."""

    def dealt(self, drawn: Any, gateways: int) -> list["Requests"]:
        """To so many gateways at random; those of one call stay together."""
        whom = drawn.integers(0, gateways, len(self.buckets))
        if gateways > 1:
            together = self.calls >= 0
            whom[together] = self.calls[together] % gateways
        return [self.only(whom == index) for index in range(gateways)]

    def only(self, chosen: Any) -> "Requests":
        """Some of them."""
        return Requests(self.buckets[chosen], self.rolls[chosen], self.seconds[chosen], self.calls[chosen])


@dataclass
class Versions:
    """How the two versions answer."""

    base: float = 0.01
    rise: float = 0.0
    """Of the canary's fault rate."""
    slower: float = 1.0
    """The canary's durations are so many times production's."""

    def answers(self, requests: Requests, canary_buckets: int) -> Iterator[tuple[Any, ...]]:
        """Bucket, canary, fault, seconds, call of each; the canary owns the lowest buckets."""
        canary = requests.buckets < canary_buckets
        faults = (requests.rolls < np.where(canary, self.base + self.rise, self.base)) | (requests.calls >= 0)
        seconds = np.where(canary, self.slower * requests.seconds, requests.seconds)
        columns: Sequence[Any] = (requests.buckets, canary, faults, seconds, requests.calls)
        return zip(*(column.tolist() for column in columns), strict=True)
