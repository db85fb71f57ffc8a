"""How many workers beside those of the settings keep callers from waiting for one endless predict. Pure."""

MOST_EXTRA = 2
STUCK_SECONDS = 1.0
TIMES_TYPICAL = 5.0
"""A predict that ran longer than a second, and than five typical ones, holds others up."""
KEPT_SECONDS = 30.0
"""How long the extra workers stay after the last such predict: it may come again."""


def is_stuck(running_seconds: float, typical_seconds: float) -> bool:
    """Whether a predict that has run so long holds others up; a slow version's usual one does not."""
    return running_seconds > max(STUCK_SECONDS, TIMES_TYPICAL * typical_seconds)


class Relief:
    """Adds a worker when every one is stuck and requests wait; lets them go when none has been for long."""

    def __init__(self) -> None:
        self.extra = 0
        """Workers above the settings' number, 0 to 2."""
        self._stuck_at = 0.0

    def look(self, now: float, *, stuck: int, workers: int, wanted: int, waiting: int) -> None:
        """Decide anew. `wanted` is how many workers there should be; while there are fewer, one is coming."""
        if stuck:
            self._stuck_at = now
        if waiting and stuck == workers == wanted and self.extra < MOST_EXTRA:
            self.extra += 1
        elif not stuck and now - self._stuck_at > KEPT_SECONDS:
            self.extra = 0
