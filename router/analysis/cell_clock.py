"""The clock by which cells are counted: the time of day, read once, and from then on whatever passes."""

from collections.abc import Callable

from router.analysis.fleet_clocks import Moment
from router.analysis.statistics.records import CELL_SECONDS, cell_of

Clock = Callable[[], float]


class CellClock:
    """Seconds since 1970 that never jump, though the time of day may be set while the gateway runs."""

    def __init__(self, wall: Clock, monotonic: Clock) -> None:
        """`wall` gives seconds since 1970 and is asked once; `monotonic` those of a clock that never goes
        back."""
        self.monotonic = monotonic
        self._ahead = wall() - monotonic()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._ahead + self.monotonic()

    def moment(self) -> Moment:
        """The same by both clocks."""
        return Moment(self.monotonic(), self.now())

    def cell(self) -> int:
        """The present one."""
        return cell_of(self.now())

    def shift(self, seconds: float) -> None:
        """Take over the time of others, which is so much later; earlier where it is negative."""
        self._ahead += seconds

    def go_past(self, cell: int) -> None:
        """Begin after `cell`, which is over whatever the time of day was at the start."""
        self._ahead += max(0.0, (cell + 1) * CELL_SECONDS + 0.001 - self.now())
