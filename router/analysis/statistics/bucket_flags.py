"""Which of the 100 000 buckets had which event already: one byte per bucket, one bit per event.

Buckets are what the split randomised, so a bucket counts the first time it has an event and never again. No
key is kept. The two upper bits say whose the bucket is, so that one read tells all there is to know of a
request's bucket. Maps of replicas with the same split merge by OR.
"""

from router.core.split import BUCKETS

FAULT, FAULT_EPOCH, SLOW, SLOW_EPOCH, SCORED, SEEN = 1, 2, 4, 8, 16, 32
"""Events, as bits of a bucket's byte."""
OWNER = 6
"""`byte >> OWNER` is 0 for a bucket of production, 1 for the canary's, 2 for anybody else's."""
EVENTS = 0b00111111

_HAD = {bit: bytes(byte & bit > 0 for byte in range(256)) for bit in (1, 2, 4, 8, 16, 32)}
_WITHOUT = {bit: bytes(byte & ~bit & 255 for byte in range(256)) for bit in (1, 2, 4, 8, 16, 32)}
_OWNED_BY = tuple(bytes(byte & EVENTS | owner << OWNER for byte in range(256)) for owner in range(3))


class Buckets:
    """The bytes of all buckets, `flags`, and whose they are. 100 KB, whatever the traffic."""

    __slots__ = ("canary", "flags", "production")

    def __init__(self, canary: range, production: range) -> None:
        self.flags = bytearray(BUCKETS)
        self.assign(canary, production)

    def assign(self, canary: range, production: range) -> None:
        """Give the buckets to new owners. An event that a bucket had stays with it: it is used up.

        Raises ValueError for ranges that overlap or leave [0, 100 000).
        """
        for owned in (canary, production):
            if not 0 <= owned.start <= owned.stop <= BUCKETS or owned.step != 1:
                raise ValueError(f"{owned} is not a range of the {BUCKETS} buckets")
        if canary and production and canary.start < production.stop and production.start < canary.stop:
            raise ValueError("a bucket is the canary's or production's, not both")
        self.canary, self.production = canary, production
        flags = self.flags.translate(_OWNED_BY[2])
        for owner, owned in enumerate((production, canary)):
            flags[owned.start : owned.stop] = flags[owned.start : owned.stop].translate(_OWNED_BY[owner])
        self.flags[:] = flags

    def clean(self, event: int) -> tuple[int, int]:
        """Buckets that have not had `event`: the canary's, and both arms'."""
        canary, production = (
            len(owned) - self.flags[owned.start : owned.stop].translate(_HAD[event]).count(1)
            for owned in (self.canary, self.production)
        )
        return canary, canary + production

    def clear(self, event: int) -> None:
        """Forget `event` of all buckets; 0.1 ms."""
        self.flags[:] = self.flags.translate(_WITHOUT[event])
