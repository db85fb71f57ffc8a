"""Facts about the cache of versions, and the record in it of what served last."""

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
class Downloaded:
    """Files of a version came from its artifact store, in a download that may yet have failed."""

    version: VersionId
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class CopyMended:
    """Files of a copy in the cache had changed since they were published; only they were fetched anew."""

    version: VersionId
    files: tuple[str, ...]
    """The first few."""


@dataclass(frozen=True, slots=True)
class OwnCopyNeeded:
    """A version did not load because it may not write its files: its workers have copies of their own."""

    version: VersionId
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


OfCache = (
    ServingFromCache
    | LastGoodRefused
    | LastGoodNotWritten
    | Downloaded
    | CopyMended
    | OwnCopyNeeded
    | CacheEvicted
    | CacheOverBound
)
