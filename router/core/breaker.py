"""When a version that is not production has done enough wrong that its traffic stops. Time is an argument."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

OUTAGE_REQUESTS = 50
OUTAGE_FAULTS = 25
"""As many faults among the last 50 requests are an outage. The chance at a fault rate of 2 % is 3e-29 per
request, at 10 % 1e-12 (binomial tail)."""
_LAST = (1 << OUTAGE_REQUESTS) - 1
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


class OutageRule:
    """25 of the last 50 requests failed where production did not. No test: one single heavy key is enough.

    The breaker opens by it, and the analysis of a canary fails by it.
    """

    __slots__ = ("_last", "_seen", "broken")

    def __init__(self) -> None:
        self._last = 0
        self._seen = 0
        self.broken = False
        """True from the first outage on."""

    def add(self, *, fault: bool) -> None:
        """One request ended."""
        self._last = self._last << 1 & _LAST | fault
        if self._seen < OUTAGE_REQUESTS:
            self._seen += 1
        if self._seen == OUTAGE_REQUESTS and self.faults >= OUTAGE_FAULTS:
            self.broken = True

    @property
    def faults(self) -> int:
        """Among the last 50 requests, or fewer."""
        return self._last.bit_count()


class Breaker:
    """Judges one version under one alias, from its first request on; it opens once and stays open.

    Nothing closes it: whoever resets it takes a new one, so that what was under way belongs to the old.
    """

    def __init__(self, on_open: Callable[[], None] = lambda: None, *, open_because: str = "") -> None:
        """`on_open` is called once, when the breaker has just opened; not for one that is made open, as
        `open_because` says."""
        self._on_open = on_open
        self._outage = OutageRule()
        self._requests = 0
        self._hung_up = 0
        self._crashes = 0
        self._crashed_at: deque[float] = deque(maxlen=MOST_CRASHES)
        self._why = open_because

    @property
    def is_open(self) -> bool:
        """True from the opening on."""
        return bool(self._why)

    def view(self) -> BreakerView:
        """For the state document and for facts."""
        return BreakerView(self.is_open, self._why, self._requests, self._outage.faults, self._crashes)

    def judge(self, *, fault: bool, hung_up: bool = False) -> None:
        """One request ended. `fault`: the version failed it and production answered the same bytes, or, where
        its caller `hung_up`, would have answered before that.

        What is asked once it is open is not counted: those requests were under way when it opened.
        """
        if self.is_open:
            return
        self._outage.add(fault=fault)
        self._requests += 1
        self._hung_up += fault and hung_up
        if self._outage.broken:
            left = ", callers who hung up included" if self._hung_up else ""
            self.open(f"{self._outage.faults} of its last {OUTAGE_REQUESTS} requests were faults{left}")

    def crash(self, now: float) -> None:
        """A worker of the version ended by itself at `now`, in seconds of a monotonic clock."""
        if self.is_open:
            return
        self._crashes += 1
        self._crashed_at.append(now)
        if len(self._crashed_at) == MOST_CRASHES and now - self._crashed_at[0] <= CRASH_WINDOW_SECONDS:
            self.open(f"it crashed {MOST_CRASHES} times in {CRASH_WINDOW_SECONDS:g} s")

    def open(self, why: str) -> None:
        """Stop the version for a reason that was found elsewhere; without effect where it is open already."""
        if not self.is_open:
            self._why = why
            self._on_open()
