"""When a canary version has done enough wrong that its traffic stops. Pure: time comes in as an argument."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_REQUESTS = 50
MOST_FAULTS = 25
"""As many faults among the last 50 requests open it; at a fault rate of 10 % that is one look in 1e12."""
MOST_CRASHES = 3
CRASH_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BreakerView:
    """What a breaker knows at one instant."""

    open: bool
    why: str
    """One sentence for the operator; empty while it is closed."""
    requests: int
    """Requests judged since it was made."""
    faults: int
    """Faults among the last 50 of them."""
    crashes: int
    """Crashes since it was made."""


class Breaker:
    """Judges one version under one alias, from its first request on; it opens once and stays open.

    Nothing closes it: whoever resets it takes a new one, so that what was under way belongs to the old.
    """

    def __init__(self, on_open: Callable[[], None] = lambda: None) -> None:
        """`on_open` is called once, when the breaker has just opened."""
        self._on_open = on_open
        self._last: deque[bool] = deque(maxlen=WINDOW_REQUESTS)
        self._faults = 0
        self._requests = 0
        self._crashes = 0
        self._crashed_at: deque[float] = deque(maxlen=MOST_CRASHES)
        self._why = ""

    @property
    def is_open(self) -> bool:
        """True from the opening on."""
        return bool(self._why)

    def view(self) -> BreakerView:
        """For the state document and for facts."""
        return BreakerView(self.is_open, self._why, self._requests, self._faults, self._crashes)

    def judge(self, *, fault: bool) -> None:
        """One request ended. `fault`: the version failed it and production answered the same bytes.

        What is asked once it is open is not counted: those requests were under way when it opened.
        """
        if self.is_open:
            return
        if len(self._last) == WINDOW_REQUESTS:
            self._faults -= self._last[0]
        self._last.append(fault)
        self._faults += fault
        self._requests += 1
        if len(self._last) == WINDOW_REQUESTS and self._faults >= MOST_FAULTS:
            self._open(f"{self._faults} of its last {WINDOW_REQUESTS} requests were faults")

    def crash(self, now: float) -> None:
        """A worker of the version ended by itself at `now`, in seconds of a monotonic clock."""
        if self.is_open:
            return
        self._crashes += 1
        self._crashed_at.append(now)
        if len(self._crashed_at) == MOST_CRASHES and now - self._crashed_at[0] <= CRASH_WINDOW_SECONDS:
            self._open(f"it crashed {MOST_CRASHES} times in {CRASH_WINDOW_SECONDS:g} s")

    def _open(self, why: str) -> None:
        self._why = why
        self._on_open()
