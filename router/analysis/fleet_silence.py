"""For how long nothing new came of a member, and for how long that is borne. Pure."""

from collections.abc import Collection, Iterable

from router.analysis.statistics.records import Join

SILENT_SECONDS = 60.0
"""After which a member of which nothing new came is voted out."""
_PATIENCE = ((360.0, 0.0), (240.0, SILENT_SECONDS / 6), (0.0, SILENT_SECONDS))
"""After so many seconds in which nothing was sealed, silence of so many: where one member after the other is
killed, batches would wait for ever."""
_LONGEST_PAUSE_SECONDS = 10.0
"""Between two calls of `tick`; what is longer was a halt of this process, and nobody else's silence."""


class Silence:
    """Times are seconds of a monotonic clock."""

    def __init__(self, now: float) -> None:
        self._heard: dict[str, float] = {}
        """When something new came, by member."""
        self._seen_at = now
        self._progress_at = now

    def tick(self, now: float) -> None:
        """Time passes; each second, unless this process was halted."""
        halt = now - self._seen_at
        if halt > _LONGEST_PAUSE_SECONDS:
            self._heard = {member: at + halt for member, at in self._heard.items()}
            self._progress_at += halt
        self._seen_at = now

    def heard(self, member: str, now: float) -> None:
        """Something new came of it."""
        self._heard[member] = now

    def begin(self, joins: Iterable[Join], now: float) -> None:
        """Of those that were not known yet nothing can have come before."""
        for join in joins:
            self._heard.setdefault(join.member, now)

    def of(self, member: str, now: float) -> float:
        """Seconds since something new came of it."""
        return now - self._heard.setdefault(member, now)

    def sealed(self, now: float) -> None:
        """A cell was sealed, or there is another state."""
        self._progress_at = now

    def stuck(self, now: float) -> float:
        """Seconds since then."""
        return max(0.0, now - self._progress_at)

    def patience(self, now: float) -> float:
        """Seconds of silence after which a member is voted out."""
        return next(patience for after, patience in _PATIENCE if self.stuck(now) >= after)

    def keep(self, members: Collection[str]) -> None:
        """Forget others."""
        self._heard = {member: at for member, at in self._heard.items() if member in members}
