"""A set of buckets that takes 12.5 KB, whatever is in it."""

from collections.abc import Iterable, Iterator

from router.core.split import BUCKETS

BITMAP_BYTES = BUCKETS // 8


class BucketSet:
    """Buckets of [0, 100 000); others are never in it."""

    __slots__ = ("bits",)

    def __init__(self, bits: bytearray | None = None) -> None:
        """`bits`: those that it begins with, bucket 8·n + i by bit i of byte n; its own from then on.

        Raises ValueError for another size than 12 500 bytes.
        """
        self.bits = bytearray(BITMAP_BYTES) if bits is None else bits
        if len(self.bits) != BITMAP_BYTES:
            raise ValueError(f"a set of buckets takes {BITMAP_BYTES} bytes, not {len(self.bits)}")

    def __contains__(self, bucket: int) -> bool:
        return bool(self.bits[bucket >> 3] >> (bucket & 7) & 1) if 0 <= bucket < BUCKETS else False

    def add(self, buckets: Iterable[int]) -> None:
        """Put them in; those that do not exist are left out."""
        for bucket in buckets:
            if 0 <= bucket < BUCKETS:
                self.bits[bucket >> 3] |= 1 << (bucket & 7)

    def new(self, buckets: Iterable[int]) -> Iterator[int]:
        """Which of them exist and are not in it."""
        return (bucket for bucket in buckets if 0 <= bucket < BUCKETS and bucket not in self)
