"""The split: a salted hash puts every key in one of 100 000 buckets, and aliases own ranges of buckets.

After the first release this file's arithmetic never changes: teams recompute it in SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256

from router.core.ids import CANARY, PRODUCTION, Alias

BUCKETS = 100_000
BUCKETS_PER_PERCENT = BUCKETS // 100


@dataclass(frozen=True, slots=True)
class Hashed:
    """A long key whose bucket was computed beforehand, off the path on which nothing may take long."""

    key: bytes
    salt: str
    bucket: int


Key = str | bytes | Hashed


def bucket_of(salt: str, key: Key) -> int:
    """Bucket of `key`, in [0, 100 000).

    `int(first 8 hex digits of sha256("{salt}:{key}"), 16) * 100_000 >> 32`. A text key is hashed as UTF-8
    with surrogateescape, so header bytes that are not UTF-8 hash as they came.
    """
    if isinstance(key, Hashed):
        # The salt may have changed since; then what was computed beforehand is worth nothing.
        return key.bucket if key.salt == salt else bucket_of(salt, key.key)
    return hashed(salt, key)[0]


def hashed(salt: str, key: str | bytes) -> tuple[int, bytes]:
    """Bucket of `key`, and the SHA-256 of `{salt}:{key}` that it comes from: 32 bytes."""
    raw = key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")
    sha = sha256(salt.encode("utf-8") + b":")
    sha.update(raw)  # a body of many megabytes is not copied
    digest = sha.digest()
    return int.from_bytes(digest[:4], "big") * BUCKETS >> 32, digest


@dataclass(frozen=True, slots=True)
class Split:
    """Shares in whole buckets. The canary owns [0, canary), the further alias the top, production the rest.

    A prefix that grows never gives a key back; a shuffle or a suffix would move callers at every step.
    """

    canary: int = 0
    further: tuple[Alias, int] | None = None
    """One more alias and its share; it owns [100 000 − share, 100 000)."""

    def __post_init__(self) -> None:
        others = self.further[1] if self.further else 0
        if self.canary < 0 or others < 0 or self.canary + others > BUCKETS:
            raise ValueError("shares must be at least 0 and at most 100 000 buckets in all")
        if self.further and self.further[0] in (PRODUCTION, CANARY):
            raise ValueError("the further alias is one beside production and canary")

    @classmethod
    def from_percentages(cls, percentages: Mapping[str, int | float | Decimal]) -> "Split":
        """Shares from percentages that name `production` and at most two other aliases.

        Raises ValueError unless every share is a multiple of 0.001 in [0, 100] and they sum to exactly 100.
        """
        buckets = {Alias(name): whole_buckets(name, value) for name, value in percentages.items()}
        if PRODUCTION not in buckets:
            raise ValueError("production must be named")
        further = [(alias, share) for alias, share in buckets.items() if alias not in (PRODUCTION, CANARY)]
        if len(further) > 1:
            raise ValueError("at most one alias beside production and canary")
        if (total := sum(buckets.values())) != BUCKETS:
            raise ValueError(
                f"percentages must sum to exactly 100, not {Decimal(total) / BUCKETS_PER_PERCENT}"
            )
        return cls(buckets.get(CANARY, 0), further[0] if further else None)

    def alias_of(self, bucket: int) -> Alias:
        """The alias that owns `bucket`."""
        if bucket < self.canary:
            return CANARY
        if self.further and bucket >= BUCKETS - self.further[1]:
            return self.further[0]
        return PRODUCTION

    def range_of(self, alias: Alias) -> tuple[int, int]:
        """First bucket of `alias` and the one after its last; empty for an alias this split does not name."""
        top = self.further[1] if self.further else 0
        if alias == CANARY:
            return 0, self.canary
        if alias == PRODUCTION:
            return self.canary, BUCKETS - top
        return (BUCKETS - top, BUCKETS) if self.further and alias == self.further[0] else (0, 0)

    def shares(self) -> dict[Alias, int]:
        """Buckets per alias named by this split; they sum to 100 000."""
        shares = {PRODUCTION: BUCKETS - self.canary, CANARY: self.canary}
        if self.further:
            shares[PRODUCTION] -= self.further[1]
            shares[self.further[0]] = self.further[1]
        return shares

    def ratios(self) -> dict[Alias, float]:
        """The same of all buckets, 0 to 1."""
        return {alias: share / BUCKETS for alias, share in self.shares().items()}

    def percentages(self) -> dict[Alias, float]:
        """The same in percent of all buckets, as `from_percentages` takes them."""
        return {alias: share / BUCKETS_PER_PERCENT for alias, share in self.shares().items()}


def whole_buckets(name: str, percent: float | Decimal) -> int:
    """Buckets of `percent` of all; `name` is what an error calls it.

    Raises ValueError unless it is a multiple of 0.001 in [0, 100].
    """
    try:
        # str() first: Decimal(0.1) is not a tenth, Decimal("0.1") is what the operator wrote.
        exact = Decimal(str(percent))
    except InvalidOperation as error:
        raise ValueError(f"{name} must be a number") from error
    if not exact.is_finite() or not 0 <= exact <= 100:
        raise ValueError(f"{name} must be between 0 and 100 percent, not {percent}")
    # Compared, not multiplied: a product is rounded to 28 digits and could hide a remainder.
    steps = exact.quantize(Decimal("0.001"))
    if steps != exact:
        raise ValueError(f"{name} must be a multiple of 0.001 percent")
    return int(steps * BUCKETS_PER_PERCENT)
