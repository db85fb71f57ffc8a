"""What predicts take of a processor, by their rows, and the line through it: a fixed part, and one per row.

Few of them say little of most: a collection of garbage, a first use. So predicts are kept by about their rows
and about their seconds, and whatever lies far from the line does not count for it. Sums, so that the memory
is bounded and every predict counts. Rows and seconds are the worker's word, and a version's code runs where
it is written: whatever it says, there are no more than `MOST_GROUPS`. No clock.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import frexp
from typing import NamedTuple

FAR = 4.0
"""Times as much as the line says, or as little: such predicts are left out of it."""
MOST_GROUPS = 256
"""Predicts of further sizes or times count for the group that is nearest."""
_EXACT_ROWS = 16
"""Below it each number of rows is apart; above it an eighth of a doubling is."""
_LARGEST_BITS = 31
_SECONDS_SHIFT, _LEAST_EXPONENT, _LARGEST_EXPONENT = 6, -30, 20
_SECONDS_MASK = (1 << _SECONDS_SHIFT) - 1
_LEAST_SECONDS = 1e-9
"""What a clock can tell apart; a version that says less is not to make a cost of nothing."""
_ROUNDS = 8
"""In which the line is found, at most: from the third on hardly one changes anything."""
_SAME_SIZE = 1e-9
"""Variance of the rows, relative to the square of their mean, up to which all predicts are of one size."""


class CostLine(NamedTuple):
    """What a predict takes of a processor: a part that is fixed, and one for each row; neither below zero."""

    fixed_seconds: float
    row_seconds: float

    def seconds(self, rows: float) -> float:
        """Of a predict of so many rows."""
        return self.fixed_seconds + rows * self.row_seconds


@dataclass(slots=True)
class PredictGroup:
    """Predicts of about the same rows and about the same processor time."""

    predicts: int = 0
    rows: int = 0
    """Of all of them, as `seconds`."""
    seconds: float = 0.0


class PredictCosts:
    """Predicts of one version, by `PredictGroup`; a hundred groups or so, `MOST_GROUPS` at most."""

    def __init__(self) -> None:
        self.groups: dict[int, PredictGroup] = {}
        self._ordered: list[int] = []
        """The places of all groups, ascending, once there are `MOST_GROUPS`."""
        self.predicts = 0
        self.rows = 0

    def take(self, rows: int, seconds: float) -> None:
        """A predict of so many rows, at least 1, took `seconds` of a processor, above 0."""
        self.predicts += 1
        self.rows += rows
        seconds = max(seconds, _LEAST_SECONDS)
        size = rows
        if rows >= _EXACT_ROWS:
            bits = min(rows.bit_length(), _LARGEST_BITS)
            size = bits << 3 | (rows >> (bits - 4)) & 7
        exponent = min(max(frexp(seconds)[1], _LEAST_EXPONENT), _LARGEST_EXPONENT) - _LEAST_EXPONENT
        group = self._group(size << _SECONDS_SHIFT | exponent)
        group.predicts += 1
        group.rows += rows
        group.seconds += seconds

    def add(self, other: "PredictCosts") -> None:
        """Add what another one took."""
        self.predicts += other.predicts
        self.rows += other.rows
        for place, added in other.groups.items():
            group = self._group(place)
            group.predicts += added.predicts
            group.rows += added.rows
            group.seconds += added.seconds

    def line(self) -> CostLine:
        """The line through them, without those that are far from it. Without any predict it is 0."""
        groups = self.groups
        line = _first_line(groups)
        near: set[int] = set()
        for _ in range(_ROUNDS):
            before, near = near, {place for place, group in groups.items() if is_near(group, line)}
            if near == before or not near:
                break
            line = MomentSums.of((groups[place] for place in near), line).line()
        return line

    def _group(self, place: int) -> PredictGroup:
        """That of a place, or the nearest where there are enough of them."""
        if (group := self.groups.get(place)) is None:
            if len(self.groups) >= MOST_GROUPS:
                return self.groups[self._nearest(place)]
            group = self.groups[place] = PredictGroup()
        return group

    def _nearest(self, place: int) -> int:
        """The nearest size, and of that one the nearest time."""
        if not self._ordered:
            self._ordered = sorted(self.groups)
        size, time = place >> _SECONDS_SHIFT, place & _SECONDS_MASK
        found = min(_around(self._ordered, place), key=lambda one: abs((one >> _SECONDS_SHIFT) - size))
        wanted = found & ~_SECONDS_MASK | time
        of_size = [
            one for one in _around(self._ordered, wanted) if one >> _SECONDS_SHIFT == found >> _SECONDS_SHIFT
        ]
        return min(of_size, key=lambda one: abs(one - wanted))


def _around(ordered: Sequence[int], place: int) -> Sequence[int]:
    """The last one below it, and the first that is not."""
    at = bisect_left(ordered, place)
    return ordered[max(at - 1, 0) : at + 1]


def is_near(group: PredictGroup, line: CostLine) -> bool:
    """Whether these predicts count for the line."""
    due = line.seconds(group.rows / group.predicts) * group.predicts
    return due <= FAR * group.seconds and group.seconds <= FAR * due


class MomentSums(NamedTuple):
    """Sums over predicts, each weighed so that relative errors count."""

    weight: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0
    """Of the rows."""
    products: float = 0.0
    """Rows times seconds."""

    @classmethod
    def of(cls, groups: Iterable[PredictGroup], line: CostLine) -> "MomentSums":
        """Relative to what `line` says that predicts of their rows take."""
        weight = rows = seconds = squares = products = 0.0
        for group in groups:
            mean_rows, mean_seconds = group.rows / group.predicts, group.seconds / group.predicts
            share = group.predicts / max(line.seconds(mean_rows), 1e-12) ** 2
            weight += share
            rows += share * mean_rows
            seconds += share * mean_seconds
            squares += share * mean_rows * mean_rows
            products += share * mean_rows * mean_seconds
        return cls(weight, rows, seconds, squares, products)

    def without(self, part: "MomentSums") -> "MomentSums":
        """What is left when `part`, which is of it, is taken out."""
        return MomentSums(*(max(0.0, one - other) for one, other in zip(self, part, strict=True)))

    @property
    def mean_rows(self) -> float:
        """0.0 without any predict."""
        return self.rows / self.weight if self.weight else 0.0

    @property
    def mean_seconds(self) -> float:
        """What a predict of `mean_rows` takes; 0.0 without any."""
        return self.seconds / self.weight if self.weight else 0.0

    def slope(self) -> float | None:
        """Seconds of one more row, by least squares, also below zero; None where all are of one size."""
        spread = self.weight * self.squares - self.rows * self.rows
        if spread <= _SAME_SIZE * self.rows * self.rows:
            return None
        return (self.weight * self.products - self.rows * self.seconds) / spread

    def line(self) -> CostLine:
        """Least squares, neither part below zero. Of predicts of one size all is taken for the rows."""
        slope = self.slope()
        if not self.weight:
            return CostLine(0.0, 0.0)
        if slope is None:
            return CostLine(0.0, self.seconds / self.rows)
        if slope < 0.0:
            return CostLine(self.mean_seconds, 0.0)
        fixed = self.mean_seconds - slope * self.mean_rows
        return CostLine(0.0, self.products / self.squares) if fixed < 0.0 else CostLine(fixed, slope)


def _first_line(groups: Mapping[int, PredictGroup]) -> CostLine:
    """Through the median of each size."""
    sizes: dict[int, list[tuple[float, PredictGroup]]] = {}
    for place, group in groups.items():
        sizes.setdefault(place >> _SECONDS_SHIFT, []).append((group.seconds / group.predicts, group))
    medians = [_median(sorted(each, key=lambda pair: pair[0])) for each in sizes.values()]
    weights = [MomentSums.of([median], CostLine(median.seconds / median.predicts, 0.0)) for median in medians]
    return MomentSums(*map(sum, zip(*weights, strict=True))).line() if weights else CostLine(0.0, 0.0)


def _median(ordered: list[tuple[float, PredictGroup]]) -> PredictGroup:
    """As many predicts as all of one size, each as its median group's."""
    predicts = sum(group.predicts for _, group in ordered)
    seen = 0
    for seconds, group in ordered:
        seen += group.predicts
        if 2 * seen >= predicts:
            rows = round(group.rows / group.predicts * predicts)
            return PredictGroup(predicts, rows, seconds * predicts)
    raise ValueError("no predict of that size")
