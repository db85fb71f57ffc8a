"""Facts about the cache of versions, as code reports them."""

from collections.abc import Mapping
from dataclasses import dataclass

from router.core.ids import Alias, VersionId


@dataclass(frozen=True, slots=True)
class ServingFromCache:
    """The registry was never reached: what is recorded as last good is loaded instead, until it answers."""

    model: str
    versions: Mapping[Alias, VersionId]


@dataclass(frozen=True, slots=True)
class LastGoodRefused:
    """The record of a model's last good versions can not be used, so there is none."""

    model: str
    error: str


@dataclass(frozen=True, slots=True)
class LastGoodNotWritten:
    """A model's last good versions could not be recorded; the former record, if any, still stands."""

    model: str
    error: str


@dataclass(frozen=True, slots=True)
class CacheEvicted:
    """Copies that nobody uses were removed; `cache_bytes` are left."""

    versions: tuple[str, ...]
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class CacheOverBound:
    """The cache is larger than it may be, and everything left in it is in use."""

    cache_bytes: int
    bound_bytes: int


CacheEvent = ServingFromCache | LastGoodRefused | LastGoodNotWritten | CacheEvicted | CacheOverBound
