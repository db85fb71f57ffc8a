"""Requests of the last hour, and which buckets their keys fell into: what a change of the share would move.

No key is kept: a bit per bucket says that it was seen.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from router.core.events import Answered, AnsweredTogether, Event, ModelRemoved, RoutesChanged
from router.core.ids import PRODUCTION, Alias
from router.core.routing import Reason
from router.core.split import BUCKETS

SLICES = 12
SLICE_SECONDS = 300.0
"""What is counted came in the last 55 to 60 minutes."""

Clock = Callable[[], float]
"""Gives seconds of a monotonic clock, such as `time.monotonic`."""

_NO_KEY, _PINNED = Reason.NO_KEY, Reason.PINNED
"""Under names of their own: an enumeration looks its members up, and these are asked for by many requests."""


@dataclass(frozen=True, slots=True)
class BucketSet:
    """Which of the 100 000 buckets were seen."""

    bits: int = 0
    """Bit b is that of bucket b."""

    def count(self, begin: int = 0, end: int = BUCKETS) -> int:
        """How many of the buckets [begin, end)."""
        return (self.bits >> begin & (1 << max(0, end - begin)) - 1).bit_count()


@dataclass(frozen=True, slots=True)
class HourOfTraffic:
    """One registered model's requests."""

    seconds: float = 0.0
    """Since the first of them, an hour at most; 0.0 without any."""
    seen: BucketSet = field(default_factory=BucketSet)
    """Buckets of keys that callers sent, pinned ones left out."""
    keyed: int = 0
    """Requests with such a key."""
    hashed_bodies: int = 0
    """Requests without a key that the split gave to an alias by their bodies."""
    fixed: Mapping[Alias, int] = field(default_factory=dict)
    """Requests by alias that no share moves: pinned, direct, and of production those without a key."""
    keyless: int = 0
    """All that carried no key, of those that did not ask for an alias directly."""
    production_requests: int = 0
    """With a key that the split gave to production; so are the faults."""
    production_faults: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return self.keyed + self.hashed_bodies + sum(self.fixed.values())


class _Slice:
    """Five minutes of one model."""

    __slots__ = ("begun", "bits", "faults", "fixed", "hashed_bodies", "keyed", "keyless", "production")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.bits = bytearray(BUCKETS // 8)
        self.keyed = self.hashed_bodies = self.keyless = self.production = self.faults = 0
        self.fixed: dict[Alias, int] = {}

    def add(self, answers: Sequence[Answered], *, by_production: bool) -> None:
        """Requests of one alias, which is production or not."""
        bits, keyed = self.bits, 0
        for one in answers:
            if not one.by_split or (bucket := one.bucket) is None:
                self._add_other(one)
                continue
            bits[bucket >> 3] |= 1 << (bucket & 7)
            keyed += 1
            if by_production and one.fault:
                self.faults += 1
        self.keyed += keyed
        if by_production:
            self.production += keyed

    def _add_other(self, event: Answered) -> None:
        """A request that the split did not give to an alias by a key of its caller."""
        if event.bucket is not None and event.reason is not _PINNED:
            self.hashed_bodies += 1
            self.keyless += 1
            return
        self.fixed[event.alias] = self.fixed.get(event.alias, 0) + 1
        self.keyless += event.reason is _NO_KEY


class HourlyTraffic:
    """Implements `Recorder`: remembers an hour of each model, in slices of five minutes of 12.5 kB each.

    What was seen under another salt is forgotten: those were other buckets.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slice_ends = -inf
        self._now: dict[str, _Slice] = {}
        """Slices under way; a model that was asked nothing in this one has none."""
        self._slices: dict[str, deque[_Slice]] = {}
        """Oldest first, the one under way among them."""
        self._salts: dict[str, str] = {}

    def record(self, event: Event) -> None:
        """Count requests, a tenth of a microsecond each."""
        if isinstance(event, AnsweredTogether):
            if (now := self._clock()) >= self._slice_ends:
                self._slice_ends = now + SLICE_SECONDS
                self._now.clear()
            counts = self._now.get(event.model) or self._begin(event.model, now)
            counts.add(event.each, by_production=event.alias == PRODUCTION)
        elif isinstance(event, Answered):
            self.record(AnsweredTogether.of(event))
        elif isinstance(event, RoutesChanged):
            self._follow(event.routes.model, event.routes.salt)
        elif isinstance(event, ModelRemoved):
            self._forget(event.model)

    def of(self, model: str) -> HourOfTraffic:
        """The last hour of `model`; empty for one that was asked nothing."""
        now = self._clock()
        slices = [one for one in self._slices.get(model, ()) if one.begun > now - SLICES * SLICE_SECONDS]
        if not slices:
            return HourOfTraffic()
        bits = 0
        fixed: dict[Alias, int] = {}
        for one in slices:
            bits |= int.from_bytes(one.bits, "little")
            for alias, count in one.fixed.items():
                fixed[alias] = fixed.get(alias, 0) + count
        return HourOfTraffic(
            seconds=now - slices[0].begun,
            seen=BucketSet(bits),
            keyed=sum(one.keyed for one in slices),
            hashed_bodies=sum(one.hashed_bodies for one in slices),
            fixed=fixed,
            keyless=sum(one.keyless for one in slices),
            production_requests=sum(one.production for one in slices),
            production_faults=sum(one.faults for one in slices),
        )

    def _begin(self, model: str, now: float) -> _Slice:
        counts = self._now[model] = _Slice(now)
        self._slices.setdefault(model, deque(maxlen=SLICES)).append(counts)
        return counts

    def _follow(self, model: str, salt: str) -> None:
        if self._salts.get(model, salt) != salt:
            self._forget(model)
        self._salts[model] = salt

    def _forget(self, model: str) -> None:
        for known in (self._now, self._slices, self._salts):
            known.pop(model, None)
