"""When a worker said nothing though it had requests: what then fails in it fails together."""

SILENCE_SECONDS = 0.5
"""A worker that answers none of its requests for as long is silent."""


class StallTracker:
    """Remembers the last silence of one worker. Frames have numbers; times are of one monotonic clock."""

    def __init__(self, number: int) -> None:
        """`number` stands for what was before the first frame; no frame has it."""
        self._heard, self._heard_at = number, 0.0
        self._last = (number, 0.0, 0.0)

    def begin(self, now: float) -> None:
        """The worker was idle, and gets a frame."""
        self._heard_at = now

    def end(self, number: int, now: float) -> None:
        """An answer came, of the frame `number`."""
        if now - self._heard_at > SILENCE_SECONDS:
            self._last = (self._heard, self._heard_at, now)
        self._heard, self._heard_at = number, now

    def since(self, started_at: float, now: float) -> int | None:
        """The silence that fills most of the time since `started_at`, as one number; None: there was none.

        Of requests that run side by side, one can keep the whole process from answering.
        """
        lasts = now - self._heard_at > SILENCE_SECONDS
        number, began, ended = (self._heard, self._heard_at, now) if lasts else self._last
        return number if ended - max(began, started_at) > (now - started_at) / 2 else None
