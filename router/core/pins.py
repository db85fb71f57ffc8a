"""Pins: keys that a person gave to one alias, wherever their buckets lie. Pure.

Only digests are kept where requests are routed: a key itself stands in the configuration and nowhere else.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

from router.core.ids import Alias
from router.core.split import hashed

MOST_PINS = 10_000
"""Of one registered model, those of all its aliases together."""
HASHED = "sha256:"
"""Before the 64 hexadecimal digits of a key that is written as the SHA-256 of `salt:key`."""
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pins:
    """The pinned keys of one registered model, as requests are routed by them.

    Two are equal when they pin the same keys to the same aliases, also where one is only known by `digest`.
    """

    count: int = 0
    """Different keys."""
    digest: str = ""
    """SHA-256 of the whole set, in hexadecimal; empty without pins."""
    counts: Mapping[Alias, int] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """Keys by alias."""
    aliases: Mapping[bytes, Alias] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )
    """By the SHA-256 of `salt:key`. Empty as well where the keys are not known, as in a journal."""


NO_PINS = Pins()


class PinPlace(NamedTuple):
    """Where a key is written."""

    alias: Alias
    position: int
    """In the list of that alias, counted from 0."""


class PinnedTwice(ValueError):
    """Keys are pinned to two aliases. Says where, and never which."""

    def __init__(self, places: list[tuple[PinPlace, PinPlace]]) -> None:
        """Each key's first place and another one."""
        super().__init__(f"{len(places)} keys are pinned to two aliases")
        self.places = places


@dataclass(frozen=True, slots=True)
class PinLists:
    """Pinned keys as the configuration lists them; never shown but by their number.

    Raises ValueError for more than 10 000 keys, for an empty one, and for `sha256:` without 64 hexadecimal
    digits behind it.
    """

    by_alias: Mapping[Alias, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    _compiled: dict[str, Pins] = field(default_factory=dict, init=False, compare=False)
    """By salt, of the one that was asked for last: a set of 10 000 takes 15 ms, and is asked for often."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_alias", MappingProxyType(dict(self.by_alias)))
        if len(self) > MOST_PINS:
            raise ValueError(f"must pin {MOST_PINS} keys in all at most, not {len(self)}")
        for keys in self.by_alias.values():
            for key in keys:
                check_pin(key)

    def __len__(self) -> int:
        return sum(map(len, self.by_alias.values()))

    def __repr__(self) -> str:
        return f"PinLists({', '.join(f'{alias}: {len(keys)} keys' for alias, keys in self.by_alias.items())})"

    def compiled(self, salt: str) -> Pins:
        """What requests are routed by under `salt`. Raises PinnedTwice, where that salt shows it."""
        if (known := self._compiled.get(salt)) is None:
            self._compiled.clear()
            known = self._compiled[salt] = self._compile(salt)
        return known

    def _compile(self, salt: str) -> Pins:
        first: dict[bytes, PinPlace] = {}
        twice = []
        for digest, place in self._places(salt):
            if (before := first.setdefault(digest, place)).alias != place.alias:
                twice.append((before, place))
        if twice:
            raise PinnedTwice(twice)
        if not first:
            return NO_PINS
        aliases = {digest: place.alias for digest, place in first.items()}
        counts: dict[Alias, int] = {}
        whole = sha256()
        for digest, alias in sorted(aliases.items()):
            counts[alias] = counts.get(alias, 0) + 1
            whole.update(digest + alias.encode() + b"\0")
        return Pins(len(aliases), whole.hexdigest(), MappingProxyType(counts), MappingProxyType(aliases))

    def _places(self, salt: str) -> Iterator[tuple[bytes, PinPlace]]:
        for alias, keys in self.by_alias.items():
            for index, key in enumerate(keys):
                written = key.removeprefix(HASHED)
                digest = hashed(salt, key)[1] if written is key else bytes.fromhex(written)
                yield digest, PinPlace(alias, index)


NOTHING_PINNED = PinLists()


def check_pin(key: str) -> str:
    """`key` where it may be pinned; else ValueError, which does not show it."""
    if not key:
        raise ValueError("must not be empty: an empty key counts as missing")
    if key.startswith(HASHED) and not _DIGEST.fullmatch(key.removeprefix(HASHED)):
        raise ValueError(f"must have 64 hexadecimal digits after {HASHED}")
    return key
