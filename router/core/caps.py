"""Caps: what holds an alias's share below the configured one, and how gateways agree on them. Pure.

A cap only lowers: the share in force is the smaller of the two. Each change of one takes the highest counter
seen plus one. Of two records of one target the higher counter stands, at equal counters the lower share; so
records may be merged in any order, and as often as one likes, with one and the same result.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from router.core.ids import PRODUCTION, Alias
from router.core.split import BUCKETS

KEPT_SECONDS = 30 * 86_400.0
"""How long the caps of a model that left the configuration are kept."""
LONGEST_REASON = 500
"""Characters of a reason, 1 at least."""


@dataclass(frozen=True, slots=True)
class CapTarget:
    """What a cap is put on: production has none."""

    model: str
    alias: Alias
    version: int | None = None
    """None: the alias, whatever version it serves. Else that version under that alias: another one starts
    without the cap, and one that comes back finds it."""

    def __post_init__(self) -> None:
        if self.alias == PRODUCTION:
            raise ValueError("production has no cap: all that is taken from others goes to it")


@dataclass(frozen=True, slots=True)
class CapRecord:
    """The newest word on one target."""

    counter: int
    """1 or more; a change takes the highest that was seen of the target plus one."""
    share: int | None
    """Buckets that the alias keeps, 0 to 100 000; None: the cap is lifted."""
    by: str
    """Who says that he or she did it: a statement, not a proof."""
    reason: str
    at: float
    """Seconds since 1970."""

    @property
    def precedence(self) -> tuple[int, int, float, str, str]:
        """Of two records of one target the one stands whose precedence is higher."""
        share = BUCKETS + 1 if self.share is None else self.share
        return self.counter, -share, self.at, self.by, self.reason


@dataclass(frozen=True, slots=True)
class Caps:
    """All records by target, those of lifted caps included; replaced whole and never edited."""

    records: Mapping[CapTarget, CapRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", MappingProxyType(dict(self.records)))

    def share_of(self, model: str, alias: Alias, version: int) -> int | None:
        """Buckets that `version` keeps under `alias`; None without a cap."""
        both = (CapTarget(model, alias, version), CapTarget(model, alias))
        shares = [record.share for target in both if (record := self.records.get(target))]
        return min((share for share in shares if share is not None), default=None)

    def in_force(self, model: str) -> Iterator[tuple[CapTarget, CapRecord]]:
        """Caps of `model` that are not lifted, also those of versions that serve nowhere now."""
        return ((t, r) for t, r in self.records.items() if t.model == model and r.share is not None)

    def capped(self, target: CapTarget, share: int, *, by: str, reason: str, at: float) -> "Caps":
        """With a cap of `share` buckets on `target`. One that is as low already stays: a cap only lowers."""
        former = self.records.get(target)
        if former is not None and former.share is not None and former.share <= share:
            return self
        return self._with(target, CapRecord(_after(former), share, by, reason, at))

    def lifted(self, targets: Iterable[CapTarget], *, by: str, reason: str, at: float) -> "Caps":
        """Without the caps on `targets`; those that have none are left as they are."""
        lifted = self
        for target in targets:
            former = lifted.records.get(target)
            if former is not None and former.share is not None:
                lifted = lifted._with(target, CapRecord(_after(former), None, by, reason, at))
        return lifted

    def merged(self, other: Mapping[CapTarget, CapRecord]) -> "Caps":
        """Together with what another gateway knows; the same object where that is no news."""
        news = {
            target: record
            for target, record in other.items()
            if (own := self.records.get(target)) is None or own.precedence < record.precedence
        }
        return Caps({**self.records, **news}) if news else self

    def without_former_models(self, models: Iterable[str], now: float) -> "Caps":
        """Without records that are over 30 days old and of a model that is not among `models`."""
        known = set(models)
        kept = {t: r for t, r in self.records.items() if t.model in known or now - r.at < KEPT_SECONDS}
        return self if len(kept) == len(self.records) else Caps(kept)

    def _with(self, target: CapTarget, record: CapRecord) -> "Caps":
        return Caps({**self.records, target: record})


def check_reason(text: str) -> str:
    """`text` where it may be a reason, or a name of who acts; else ValueError with a sentence."""
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > LONGEST_REASON:
        raise ValueError(f"has {len(text)} characters, {LONGEST_REASON} at most")
    if not text.isprintable():
        raise ValueError("must hold no control characters, line breaks included")
    return text


def _after(former: CapRecord | None) -> int:
    return former.counter + 1 if former is not None else 1
