"""How many threads for linear algebra one version's predicts get, and how versions share the processors.

A worker measures and chooses (`ThreadChoice`); the gateway, which knows every version, bounds the choice
(`fair_bounds`).
"""

from collections.abc import Sequence
from math import log2
from statistics import median

HEAVY_SECONDS = 0.005
"""Processor time from which on a predict is worth more than one thread."""
LIGHT_SECONDS = HEAVY_SECONDS / 2
"""Below it a version that computed does so no more; in between nothing changes."""
WINDOW = 32
"""Predicts after which it is decided anew whether a version computes: by the greater half."""
ARM = 16
"""Predicts of like size with either number of threads that settle a trial."""
LONGEST_TRIAL = 4 * WINDOW
"""Predicts after which a trial is over whose predicts were of too many sizes."""
GAIN = 0.85
"""What twice as many threads must bring: predicts of this length, or shorter."""
HARM, HARM_SHOWN = 1.25, 4
"""A trial is over as soon as, of so many predicts, those with more threads last so much longer."""
WORTH_TRYING = 1.5
"""How many times as many threads there must be room for: one more than fifteen shows nothing."""
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds until it is looked at again whether the choice is still right; doubles while it is."""


class _Trial:
    """Compares predicts with `low` threads and with `high`, which take turns in an order without a period."""

    def __init__(self, low: int, high: int, *, checks: bool) -> None:
        self.low, self.high = low, high
        self.checks = checks
        """Whether `high` is what was chosen before, and not what may be chosen now."""
        self.is_over = False
        self.helps: bool | None = None
        """Whether more threads made predicts clearly shorter; None while it is not known."""
        self.seconds = (0.0, 0.0)
        """Of a predict with `low` and with `high`, as they decided."""
        self._answered = 0
        self._taken: dict[int, tuple[list[float], list[float]]] = {}
        """Seconds by the size of the predict, a power of two of its rows."""

    @property
    def threads(self) -> int:
        """Of the next predict."""
        # Thue and Morse's sequence: batches that are large and small by turns meet both numbers alike.
        return self.high if self._answered.bit_count() % 2 else self.low

    def add(self, rows: int, seconds: float) -> None:
        """One predict with `threads` is over."""
        arms = self._taken.setdefault(rows.bit_length(), ([], []))
        arms[self._answered.bit_count() % 2].append(seconds)
        self._answered += 1
        low, high = arms
        least = min(len(low), len(high))
        if least >= HARM_SHOWN:
            self.seconds = median(low), median(high)
            harms = self.seconds[1] > HARM * self.seconds[0]
            if harms or least >= ARM:
                limit = GAIN ** log2(self.high / self.low)
                self.helps, self.is_over = self.seconds[1] <= limit * self.seconds[0], True
        self.is_over = self.is_over or self._answered >= LONGEST_TRIAL


class ThreadChoice:
    """Chooses the number of threads from what predicts take, one after the other.

    It begins with one. Once predicts compute for `HEAVY_SECONDS`, twice as many are tried for some predicts,
    and kept where these are clearly shorter; so on, up to `most`. Later the choice is tried against half as
    many, and against twice as many, ever more rarely. `threads` is 1 to `most` at any time; of one predict,
    `threads` and then `add`. Pure: time comes in as an argument.
    """

    def __init__(self, most: int = 1) -> None:
        """`most`: threads that it may choose; at least 1."""
        self.computes = False
        """Whether its predicts take `HEAVY_SECONDS` of a processor or more."""
        self.trials = 0
        """How many there were."""
        self.why = "its predicts are yet to be measured"
        """A sentence for the operator, without its end."""
        self._most = most
        self._chosen = 1
        self._trial: _Trial | None = None
        self._refused = False
        """True once more threads did not help, until the next look."""
        self._look_at = float("-inf")
        self._pause = FIRST_PAUSE
        self._counted = self._heavy = self._light = 0

    @property
    def chosen(self) -> int:
        """Threads of a predict, but for those of a trial."""
        return min(self._chosen, self._most) if self.computes else 1

    @property
    def threads(self) -> int:
        """Threads of the next predict."""
        return self._trial.threads if self._trial is not None else self.chosen

    @property
    def most(self) -> int:
        """Threads that it may choose."""
        return self._most

    def limit(self, most: int) -> None:
        """From now on it may choose `most` threads; what it knows stays."""
        self._most = most
        if self._trial is not None and self._trial.high > most:
            self._trial = None

    def add(self, now: float, rows: int, seconds: float, processor_seconds: float) -> None:
        """A predict of `rows` with `threads` threads took `seconds`, and so much of all processors."""
        self._count(processor_seconds)
        if not self.computes:
            return
        trial = self._trial
        if trial is None:
            self._trial = self._next_trial(now)
            return
        trial.add(rows, seconds)
        if trial.is_over:
            self._trial = None
            self._conclude(trial, now)

    def _count(self, processor_seconds: float) -> None:
        self._counted += 1
        self._heavy += processor_seconds >= HEAVY_SECONDS
        self._light += processor_seconds < LIGHT_SECONDS
        if self._counted < WINDOW:
            return
        if self._heavy * 2 > WINDOW and not self.computes:
            self.computes = True
            self.why = f"its predicts take {HEAVY_SECONDS * 1e3:g} ms of a processor and more"
        elif self._light * 2 > WINDOW or not self.computes:
            self.computes, self._trial = False, None
            self.why = f"its predicts take less than {HEAVY_SECONDS * 1e3:g} ms of a processor"
        self._counted = self._heavy = self._light = 0

    def _next_trial(self, now: float) -> _Trial | None:
        threads = self.chosen
        if now >= self._look_at:
            first = self._look_at == float("-inf")
            self._look_at, self._refused = now + self._pause, False
            self._pause = FIRST_PAUSE if first else min(2 * self._pause, LONGEST_PAUSE)
            if threads > 1:
                return self._try(threads // 2, threads, checks=True)
        more = min(2 * threads, self._most)
        if self._refused or more < WORTH_TRYING * threads:
            return None
        return self._try(threads, more, checks=False)

    def _try(self, low: int, high: int, *, checks: bool) -> _Trial:
        self.trials += 1
        return _Trial(low, high, checks=checks)

    def _conclude(self, trial: _Trial, now: float) -> None:
        if trial.helps is None:  # the version's predicts are too different to say
            self._refused = not trial.checks
            return
        low, high = (f"{1e3 * seconds:.3g} ms" for seconds in trial.seconds)
        self.why = f"its predicts took {high} with {_threads(trial.high)}, {low} with {_threads(trial.low)}"
        self._refused = not trial.helps
        if trial.helps != trial.checks:
            self._chosen = trial.high if trial.helps else trial.low
            self._pause, self._look_at = FIRST_PAUSE, now + FIRST_PAUSE


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def fair_bounds(processors: int, busy: Sequence[float], bounds: Sequence[int]) -> list[int]:
    """Threads that each of several workers may use at most, 1 to `processors`.

    `busy`: of each, the share of its time in which a predict runs, 0.0 to 1.0. A worker has the processors
    for itself but for what the others use at that moment: two that always compute have half of them each, and
    one beside another that computes once a minute has nearly all. `bounds`: as they were before; one stays
    until it is too high by a quarter of a thread, so that it does not change back and forth.
    """
    whole = sum(busy)
    fair = (processors / (1.0 + max(whole - own, 0.0)) for own in busy)
    return [_bound(share, before, processors) for share, before in zip(fair, bounds, strict=True)]


def _bound(share: float, before: int, processors: int) -> int:
    if before - 0.25 <= share < before + 1.0:
        return min(max(before, 1), processors)
    return min(max(int(share + 1e-9), 1), processors)
