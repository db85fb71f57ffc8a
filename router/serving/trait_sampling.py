"""Which requests of a canary are looked at for their traits, and what comes of each.

A tenth is drawn before anybody knows how it ends, and looked at whatever comes of it. Of the others only
those are that fail. So every fault is there, and of good answers a tenth, drawn alike: whoever compares the
two knows how. What was not drawn never counts as good. Where more of either come at once than a worker reads,
the traits of the others are not known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random

from router.core.events import Recorder
from router.core.ids import Alias, VersionId
from router.core.routing import Assignment
from router.core.split import BUCKETS
from router.core.traits import LAST_ORDINAL, SAMPLED_SHARE, TraitsSeen, TraitsWanted


@dataclass(frozen=True, slots=True)
class Draw:
    """What is wanted of one request."""

    wanted: TraitsWanted
    bucket: int
    ordinal: int
    """As `TraitsSeen.ordinal`."""


class TraitSampler:
    """Draws requests, and records the traits of those that count."""

    def __init__(self, recorder: Recorder, number: Callable[[], float] = random) -> None:
        """`number` gives one in [0, 1), another at each call."""
        self._recorder = recorder
        self._number = number
        self._asked: dict[tuple[str, Alias], tuple[VersionId, bytearray]] = {}
        """By canary: its version, and how many requests each bucket has sent it, 255 at most."""

    def draw(self, assigned: Assignment, bucket: int) -> Draw:
        """Whether the traits of a request that the split gave to a canary are wanted whatever comes of it."""
        place = assigned.version.model, assigned.alias
        version, asked = self._asked.get(place, (None, bytearray()))
        if version != assigned.version:
            asked = bytearray(BUCKETS)
            self._asked[place] = assigned.version, asked
        ordinal = asked[bucket] = min(asked[bucket] + 1, LAST_ORDINAL)
        drawn = self._number() < SAMPLED_SHARE
        return Draw(TraitsWanted.ALWAYS if drawn else TraitsWanted.OF_FAULTS, bucket, ordinal)

    def note(
        self, assigned: Assignment, draw: Draw, traits: tuple[int, ...] | None, size: int, *, fault: bool
    ) -> None:
        """The version of `assigned` was at fault, or answered well, on a body of `size` bytes.

        `traits`: None where its worker did not say.
        """
        if fault or (draw.wanted is TraitsWanted.ALWAYS and traits is not None):
            self._recorder.record(
                TraitsSeen(assigned.alias, assigned.version, draw.bucket, draw.ordinal, traits, size, fault)
            )
