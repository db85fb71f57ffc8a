"""Whether this gateway's clock is right, by those of its peers. Pure."""

from typing import NamedTuple

from router.analysis.fleet_messages import MOST_PROCESSES, News
from router.analysis.statistics.records import CELL_SECONDS, cell_of

_COUNTS_SECONDS = 60.0
"""So long a measurement counts."""


class Moment(NamedTuple):
    """Now."""

    monotonic: float
    """Seconds of a clock that never jumps; by it silence is measured."""
    clock: float
    """Seconds since 1970 as cells are counted, see `CellClock.now`."""

    @property
    def cell(self) -> int:
        """The present one."""
        return cell_of(self.clock)


class _Measured(NamedTuple):
    at: float
    off: float
    """Seconds by which the peer's clock is ahead."""
    started_at: float
    """When the peer started, by the monotonic clock here."""


class PeerClocks:
    """Measures the clocks of peers by their answers."""

    def __init__(self, process: str, started_at: float) -> None:
        """`started_at` by the monotonic clock."""
        self._process = process
        self._started_at = started_at
        self._measured: dict[str, _Measured] = {}

    def off(self, process: str) -> float:
        """Seconds by which a peer's clock is ahead, as it was measured last; 0 where it never was."""
        measured = self._measured.get(process)
        return 0.0 if measured is None else measured.off

    def measure(self, news: News, asked: Moment, now: Moment, *, is_member: bool) -> float:
        """Note what `news` says of its sender's clock. Returns by how many seconds this gateway's own has to
        be moved: 0 unless it is more than one cell off.

        Right is the clock in the middle; of two that of a member, and of two members that of the older one.
        """
        earliest, latest = news.clock - now.clock, news.clock - asked.clock
        off = earliest if earliest > 0 else min(latest, 0.0)  # the least that the time on the way leaves
        self._measured.pop(news.process, None)
        self._measured[news.process] = _Measured(now.monotonic, off, now.monotonic - news.age)
        while len(self._measured) > MOST_PROCESSES:
            del self._measured[next(iter(self._measured))]
        peers = {
            process: one
            for process, one in self._measured.items()
            if now.monotonic - one.at <= _COUNTS_SECONDS
        }
        if len(peers) == 1:
            mine = self._started_at if is_member else now.monotonic, self._process
            right = off if (peers[news.process].started_at, news.process) < mine else 0.0
        else:
            clocks = sorted([0.0, *(one.off for one in peers.values())])
            right = clocks[(len(clocks) - 1) // 2]
        if abs(right) <= CELL_SECONDS:
            return 0.0
        self._measured = {process: one._replace(off=one.off - right) for process, one in peers.items()}
        return right
