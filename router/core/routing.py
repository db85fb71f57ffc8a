"""The routing table, replaced whole and never edited, and the one decision made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.pins import NO_PINS, Pins
from router.core.split import BUCKETS, Hashed, Key, Split, bucket_of, hashed


class Reason(StrEnum):
    """Why a request went where it went; values of X-Route-Reason.

    `canary_…` is said of any alias but production that owns the key.
    """

    HASH = "hash"
    PINNED = "pinned"
    NO_KEY = "no_key"
    CANARY_ABSENT = "canary_absent"
    CANARY_NOT_READY = "canary_not_ready"
    BREAKER_OPEN = "breaker_open"
    CAPPED = "capped"
    GATED = "gated"
    SAME_VERSION = "same_version"
    FALLBACK = "fallback"
    DIRECT = "direct"


_HASH, _NO_KEY = Reason.HASH, Reason.NO_KEY
"""Under names of their own: an enumeration looks its members up, and these are asked for by every request."""


class MissingKey(StrEnum):
    """What a request without a key gets; values of `key.missing`."""

    BODY = "body"
    PRODUCTION = "production"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """How one registered model is served at one instant."""

    model: str
    salt: str
    configured_split: Split
    bound: Mapping[Alias, VersionId] = field(default_factory=dict)
    """Versions in service by alias; never lacks production once it had it."""
    aspired: frozenset[Alias] = frozenset()
    """Aliases the registry named in the last good poll."""
    broken: frozenset[Alias] = frozenset()
    """Aliases whose bound version the breaker took out of the split."""
    capped: Mapping[Alias, int] = field(default_factory=dict)
    """Buckets that are left to an alias by a cap on what it serves; an alias without one is absent."""
    gated: frozenset[Alias] = frozenset()
    """Aliases whose bound version has not passed the gate that it has to: they get nothing."""
    pins: Pins = NO_PINS
    """Keys that are given to an alias whatever their buckets."""

    def __post_init__(self) -> None:
        # Copies nobody can edit: whoever publishes goes on changing its own dicts.
        object.__setattr__(self, "bound", MappingProxyType(dict(self.bound)))
        object.__setattr__(self, "capped", MappingProxyType(dict(self.capped)))

    @property
    def split_in_force(self) -> Split:
        """The shares as they act now: an alias that serves nothing, or is broken or gated, gives its to
        production, and one that is capped what is above its cap. On production's own version it keeps its
        share."""
        shares = self.configured_split.shares()
        left = {alias: self._share_in_force(alias, share) for alias, share in shares.items()}
        further = self.configured_split.further
        return Split(left[CANARY], (further[0], left[further[0]]) if further else None)

    def _share_in_force(self, alias: Alias, share: int) -> int:
        version = self.bound.get(alias)
        if version is None:
            return 0
        if version == self.bound.get(PRODUCTION):
            return share
        held = alias in self.broken or alias in self.gated
        return 0 if held else min(share, self.capped.get(alias, share))

    def is_above_cap(self, alias: Alias, bucket: int) -> bool:
        """Whether a cap takes `bucket` from `alias`, which owns it: it keeps those nearest to its end of the
        split, so that capping and resuming returns the same keys."""
        cap = self.capped.get(alias)
        if cap is None:
            return False
        return bucket >= cap if alias == CANARY else bucket < BUCKETS - cap


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All registered models of this gateway. Readers take one reference; writers publish a new table."""

    models: Mapping[str, ModelRoutes]

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))


@dataclass(slots=True)
class Assignment:
    """To whom a request was given, and why.

    Nobody changes one. It is not frozen because every request makes one, and that takes thrice as long then.
    """

    alias: Alias
    version: VersionId
    reason: Reason
    bucket: int | None
    """None when no key was hashed."""
    by_split: bool = field(default=True, compare=False)
    """Whether the split decides of a key that its caller sent: False of one that was made from the body, of a
    pinned one, and of none."""
    split: Split | None = field(default=None, compare=False)
    """The configured split by which its bucket was looked up; None when no key was hashed."""


def assign(routes: ModelRoutes, key: Key | None, *, keyed: bool = True) -> Assignment | None:
    """Give `key` to an alias; None when production is not bound, because nothing else stands in for it.

    `key` None goes to production as `no_key`. `keyed` False says the key was made from the body: its share
    is exact, and the reason is `no_key` unless its alias can not answer or serves production's version.
    A key that a caller sent and that is pinned goes to that alias, unless that can not answer either.
    """
    production = routes.bound.get(PRODUCTION)
    if production is None:
        return None
    if key is None:
        return Assignment(PRODUCTION, production, Reason.NO_KEY, None, by_split=False)
    if isinstance(key, Hashed):
        bucket, digest = bucket_of(routes.salt, key), b""
    else:
        bucket, digest = hashed(routes.salt, key)
    by_split, split = keyed, routes.configured_split
    if keyed and routes.pins.aliases and (pinned := routes.pins.aliases.get(digest)) is not None:
        alias, plain, by_split = pinned, Reason.PINNED, False
    else:
        alias, plain = split.alias_of(bucket), _HASH if keyed else _NO_KEY
    if alias == PRODUCTION:
        return Assignment(PRODUCTION, production, plain, bucket, by_split, split)
    version = routes.bound.get(alias)
    if version is None:
        absent = Reason.CANARY_NOT_READY if alias in routes.aspired else Reason.CANARY_ABSENT
        return Assignment(PRODUCTION, production, absent, bucket, by_split, split)
    if version == production:
        return Assignment(alias, version, Reason.SAME_VERSION, bucket, by_split, split)
    if alias in routes.gated:
        return Assignment(PRODUCTION, production, Reason.GATED, bucket, by_split, split)
    if routes.capped and routes.is_above_cap(alias, bucket):
        return Assignment(PRODUCTION, production, Reason.CAPPED, bucket, by_split, split)
    if alias in routes.broken:
        return Assignment(PRODUCTION, production, Reason.BREAKER_OPEN, bucket, by_split, split)
    return Assignment(alias, version, plain, bucket, by_split, split)


def assign_fallback(routes: ModelRoutes, first: Assignment) -> Assignment | None:
    """The second decision after `first` failed: production or nobody.

    None when `first` was production's version when it was made, also if production has moved since: what
    production fails is not tried again. None for direct access, which asked for one version.
    """
    if first.alias == PRODUCTION or first.reason in (Reason.SAME_VERSION, Reason.DIRECT):
        return None
    production = routes.bound.get(PRODUCTION)
    if production is None or production == first.version:
        return None
    return Assignment(PRODUCTION, production, Reason.FALLBACK, first.bucket, first.by_split, first.split)


def assign_version(routes: ModelRoutes, number: int) -> Assignment | None:
    """The version of that number, if an alias serves it; of two aliases, production's."""
    serving = [alias for alias, version in routes.bound.items() if version.number == number]
    return assign_direct(routes, min(serving, key=lambda alias: alias != PRODUCTION)) if serving else None


def assign_direct(routes: ModelRoutes, alias: Alias) -> Assignment | None:
    """The version bound to `alias`, whatever the split says; None when nothing is bound to it."""
    version = routes.bound.get(alias)
    return Assignment(alias, version, Reason.DIRECT, None, by_split=False) if version else None
