"""What an interval is here: 95 %, two-sided, of the candidate minus production, with what it rests on."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

CONFIDENCE = 0.95
FEW_DIFFER = 10
"""Below so many rows, or groups, on which the versions differ, no normal distribution describes their sum."""
_UPPER_TAIL = (1 + CONFIDENCE) / 2
_UNSEEN = -math.log(1 - _UPPER_TAIL)
ENOUGH_ALIKE = math.ceil(_UNSEEN / 0.005)
"""738 rows, or groups: versions that agree on so many differ on less than 1 in 200 of all."""


class Method(StrEnum):
    """How an interval was found."""

    PAIRED_MEAN = "paired mean"
    DELONG = "DeLong"
    BOOTSTRAP = "bootstrap"


@dataclass(frozen=True, slots=True)
class Interval:
    """Of candidate minus production, in the metric's own direction."""

    point: float
    low: float
    """−inf where nothing can be said."""
    high: float
    """inf where nothing can be said."""
    notes: tuple[str, ...] = ()
    """What a reader has to know of how it was found, a phrase each."""

    def at_least(self, half: float, note: str) -> "Interval":
        """The same, reaching `half` to each side of the point where it was narrower; then `note` is added."""
        low, high = min(self.low, self.point - half), max(self.high, self.point + half)
        if (low, high) == (self.low, self.high):
            return self
        return replace(self, low=low, high=high, notes=(*self.notes, note))


@dataclass(frozen=True, slots=True)
class Difference:
    """Both versions by one metric, and the interval of their difference turned so that more is better."""

    metric: str
    greater_is_better: bool
    candidate: float
    """The metric's value, in its own direction."""
    production: float
    point: float
    """Candidate minus production, turned: above 0 the candidate is better."""
    low: float
    """Of the 95 % interval, turned; −inf where nothing can be said."""
    high: float
    """inf where nothing can be said."""
    rows: int
    groups: int | None
    """How many; None: rows are taken as independent."""
    method: Method
    notes: tuple[str, ...] = ()
    """What a reader has to know of how it was found, a phrase each: fewer resamples, few differing rows."""


def t_interval(point: float, variance: float, degrees: float) -> Interval:
    """point ± t·√variance by Student's t with `degrees` of freedom, at least more than 0: else unbounded.

    Degrees may be a fraction.
    """
    if not degrees > 0:
        return Interval(point, -math.inf, math.inf)
    half = float(stdtrit(degrees, _UPPER_TAIL)) * math.sqrt(max(0.0, variance))
    return Interval(point, point - half, point + half)


def widened_for_few(
    interval: Interval, differing: int, units: int, largest: float, unit: str, *, is_known: bool = True
) -> Interval:
    """At least ±largest·ln 40/units where the versions differ in fewer than FEW_DIFFER of the units.

    `units`: how many rows or groups, `largest`: how much the metric's value of one can differ. Where that
    `is_known` by what was seen alone, fewer than ENOUGH_ALIKE units have no end: a few rows that both
    versions predict well do not show how badly one can be predicted. Versions that
    agree on all of 40 rows have a variance of 0, and may disagree on one row in eleven: of n rows drawn, none
    is one of a kind that makes up a share of ln 40/n or more in 39 of 40 draws (the rule of three, Hanley &
    Lippman-Hand 1983, at 97.5 % instead of 95).
    """
    if differing >= FEW_DIFFER or not units:
        return interval
    seen = f"the versions differ in {differing} of {units} {unit}"
    if not is_known and units < ENOUGH_ALIKE:
        why = f"how much one can differ is not known of this metric, so fewer than {ENOUGH_ALIKE} say nothing"
        return interval.at_least(math.inf, f"{seen}, and {why}")
    note = f"{seen}, so the interval allows for unseen ones"
    return interval.at_least(largest * _UNSEEN / units, note)


def group_sums(values: Floats, groups: Codes) -> Floats:
    """Sum of the values of each group, shape (G,)."""
    sums: Floats = np.bincount(groups, weights=values).astype(np.float64, copy=False)
    return sums


def effective_groups(sizes: npt.NDArray[np.int64]) -> float:
    """(Σn_g)²/Σn_g², Kish (1965): as many groups of one size as would say as much. 1 … G."""
    floats = sizes.astype(np.float64)
    return float(floats.sum() ** 2 / (floats @ floats))
