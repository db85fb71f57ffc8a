"""Watches how much of the processors is idle, while somebody asks for that."""

from collections.abc import Callable, Hashable

from router.core.idle_share import IdleShare, ProcessorReading


class IdleProcessors:
    """The share of the processors that was idle over the last 10 s. Nothing is read while nobody watches."""

    def __init__(self) -> None:
        self._idle = IdleShare()
        self._watchers: set[Hashable] = set()

    @property
    def share(self) -> float | None:
        """0 to 1; None while it is not known, which takes two seconds."""
        return self._idle.share

    def watch(self, who: Hashable) -> None:
        """`who` asks from now on; idempotent."""
        self._watchers.add(who)

    def unwatch(self, who: Hashable) -> None:
        """`who` asks no more; idempotent."""
        self._watchers.discard(who)

    def look(self, now: float, read: Callable[[], ProcessorReading]) -> None:
        """Take one reading, at `now` in seconds of a monotonic clock, where somebody asks; once a second."""
        if self._watchers:
            self._idle.add(now, read())
        else:
            self._idle.forget()
