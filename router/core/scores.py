"""What is counted of a version's answers: up to four outputs, each as scores in bins or as labels in classes.

Counts add up. Without numpy, which only the worker has, who fills the bins (`worker.scores`).
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

MAX_BINS = 200
"""Of one output; more would be series and frames that nobody looks at."""
MOST_CLASSES = 20
CLASS_CHARACTERS = 128
OTHER = "__other__"
"""The class of every label that is not on the list."""
MOST_OUTPUTS = 4
NAME_CHARACTERS = 128
"""Characters of an output's name that are shown."""
SCORED_LATER = -1
"""In the place of an index of a bin: the score is read after the answer went out, or never."""
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """Which part of an answer is the score, and the bins it is counted in, of equal width or as `upper` says.

    Raises ValueError unless there is a bin, and `low` < `high` are finite and so far apart that the edges
    between them differ in twelve digits.
    """

    output: int | str = 0
    """Column index of an array or table answer, or a column name; a one-dimensional answer is its own."""
    low: float = 0.0
    high: float = 1.0
    bins: int = 20
    upper: tuple[float, ...] = ()
    """Upper edges of the bins where they are not of equal width; `bins` of them, the last equals `high`."""

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError("bins must be at least 1")
        if self.upper and (len(self.upper) != self.bins or self.upper[-1] != self.high):
            raise ValueError("bins must be as many as their edges, and end with the range")
        edges = (self.low, *self.edges())
        if not all(map(math.isfinite, edges)) or any(upper <= lower for lower, upper in pairwise(edges)):
            raise ValueError("a range is two finite numbers, the lower one first, wide enough for its bins")

    def edges(self) -> tuple[float, ...]:
        """Upper edges of the bins, ascending; `bins` of them, the last equals `high`."""
        return self.upper or _edges(self.low, self.high, self.bins)

    @property
    def bin_count(self) -> int:
        """How many bins there are."""
        return self.bins

    @property
    def below(self) -> int:
        """The `bin_index` of a score below the range; it counts in the first bin."""
        return self.bins

    @property
    def above(self) -> int:
        """The `bin_index` of a score above the range; it counts in the last bin."""
        return self.bins + 1

    @property
    def index_count(self) -> int:
        """Every `bin_index` is below it."""
        return self.bins + 2


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """Counts of scores; adding two gives the counts of both."""

    bins: tuple[int, ...]
    """Finite scores per bin, not cumulative; values outside the range count in the end bins."""
    positive_sum: float = 0.0
    """Sum of the scores above zero."""
    negative_sum: float = 0.0
    """Sum of the magnitudes of the scores below zero (a number ≥ 0)."""
    nan: int = 0
    inf: int = 0
    non_numeric: int = 0
    out_of_range: int = 0
    """Finite scores below `low` or above `high`; they are also in `bins`."""

    @property
    def all_nan(self) -> bool:
        """True when there are scores and every one is NaN."""
        return self.nan > 0 and not (any(self.bins) or self.inf or self.non_numeric)

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(
            tuple(a + b for a, b in zip(self.bins, other.bins, strict=True)),
            self.positive_sum + other.positive_sum,
            self.negative_sum + other.negative_sum,
            self.nan + other.nan,
            self.inf + other.inf,
            self.non_numeric + other.non_numeric,
            self.out_of_range + other.out_of_range,
        )


def with_edges(output: int | str, low: float, upper: Sequence[float]) -> ScoreSpec:
    """Bins that end at the edges `upper`, ascending, of which the first begins at `low`."""
    return ScoreSpec(output, low, upper[-1], len(upper), tuple(upper))


@lru_cache(maxsize=256)
def _edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    # Twelve digits keep bins apart, and labels such as 0.15000000000000002 out of metrics.
    inner = (float(f"{(low * (bins - i) + high * i) / bins:.12g}") for i in range(1, bins))
    return (*inner, float(high))


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """Which part of an answer is a label, and the classes that are counted by name.

    Raises ValueError unless there are one to twenty classes, each a printable text of at most 128 characters
    that no other one equals: `true` and 1 are one label, as they are in numpy.
    """

    output: int | str
    """As `ScoreSpec.output`."""
    classes: tuple[str, ...]
    """As JSON spells the labels: text as it is, whole numbers in decimal, true and false."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"classes are a list of 1 to {MOST_CLASSES} labels")
        for label in self.classes:
            if not label or len(label) > CLASS_CHARACTERS or not label.isprintable() or label == OTHER:
                raise ValueError(
                    f"a class is a printable text of 1 to {CLASS_CHARACTERS} characters other than {OTHER}"
                )
        keys = [key for label in self.classes for key in _keys(label)]
        if len(set(keys)) < len(keys):
            raise ValueError("a label is listed twice; true and 1 are one label, and so are false and 0")

    @property
    def bin_count(self) -> int:
        """How many bins there are: one per class, and one for every other label."""
        return len(self.classes) + 1

    @property
    def index_count(self) -> int:
        """Every `bin_index` is below it."""
        return self.bin_count


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Counts of labels; adding two gives the counts of both."""

    counts: tuple[int, ...]
    """Labels per class in the order of the list, and last all that are not on it."""
    nan: int = 0
    """NaN where a label should be; they are also among the last of `counts`."""

    @property
    def all_nan(self) -> bool:
        """True when there are labels and every one is NaN."""
        return 0 < self.nan == sum(self.counts)

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        pairs = zip(self.counts, other.counts, strict=True)
        return ClassCounts(tuple(a + b for a, b in pairs), self.nan + other.nan)


def count_labels(
    labels: Sequence[Any], spec: ClassSpec, firsts: Sequence[int] = ()
) -> tuple[ClassCounts, list[int | None]]:
    """Counts of `labels`, and the indexes of the bins of those at the places `firsts`; NaN has none.

    Labels are compared as numpy and Python do: 1, 1.0 and true are one label, "1" counts as it too.
    """
    places = _places(spec.classes)
    try:
        found = list(map(places.get, labels))
    except TypeError:  # what can not be hashed is on no list
        found = [places.get(label) if isinstance(label, Hashable) else None for label in labels]
    tally = Counter(found)
    other, nan = len(spec.classes), set[int]()
    if None in tally:
        nan = {place for place, label in enumerate(labels) if found[place] is None and is_nan(label)}
    counts = ClassCounts((*(tally[i] for i in range(other)), tally[None]), len(nan))
    return counts, [
        None if first in nan else other if (place := found[first]) is None else place for first in firsts
    ]


def is_nan(label: Any) -> bool:
    """Whether a label is the number that none is."""
    return isinstance(label, Real) and bool(label != label)


def label_text(value: Any) -> str | None:
    """A label as JSON spells it; None for what is no label: a fraction, None, a list."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else None


def _keys(label: str) -> tuple[Hashable, ...]:
    if label in _TRUTHS:
        return label, _TRUTHS[label]
    if label.removeprefix("-").isdecimal() and str(int(label)) == label:
        return label, int(label)
    return (label,)


@lru_cache(maxsize=64)
def _places(classes: tuple[str, ...]) -> Mapping[Any, int]:
    return {key: place for place, label in enumerate(classes) for key in _keys(label)}


OutputSpec = ScoreSpec | ClassSpec
OutputCounts = ScoreCounts | ClassCounts


def middle_of(output: OutputSpec | None) -> float:
    """Where a score becomes a decision unless somebody says otherwise: the middle of the range in which it is
    counted; 0.5 where nothing is."""
    return output.low / 2 + output.high / 2 if isinstance(output, ScoreSpec) else 0.5


def cell_of(row: Any, output: int | str) -> Any:
    """Of a row, or a mapping of columns, what stands under a name or at a position. Raises LookupError or
    TypeError where that is not there."""
    if isinstance(row, Mapping):
        return row[output] if isinstance(output, str) else list(row.values())[output]
    return row[position_of(output)]


def position_of(output: int | str) -> int:
    """Of an output of rows whose columns have no names. Raises TypeError for a name."""
    if isinstance(output, str):
        raise TypeError("columns without names cannot be picked by one")
    return output


def shown_name(spec: OutputSpec) -> str:
    """The output as metrics and documents name it."""
    return str(spec.output)[:NAME_CHARACTERS]


def check_outputs(specs: Sequence[OutputSpec]) -> None:
    """ValueError unless the outputs can be distinguished: by name, and at most one of them has classes."""
    if len(specs) > MOST_OUTPUTS:
        raise ValueError(f"at most {MOST_OUTPUTS} outputs are counted")
    if len({shown_name(spec) for spec in specs}) < len(specs):
        raise ValueError("an output is named twice")
    if sum(isinstance(spec, ClassSpec) for spec in specs) > 1:
        raise ValueError("only one output can have classes")


def describe(spec: OutputSpec) -> str:
    """What is counted of one output, as one phrase for an operator."""
    name = shown_name(spec) if isinstance(spec.output, int) else f"`{shown_name(spec)}`"
    if isinstance(spec, ClassSpec):
        return f"output {name} by the classes {', '.join(spec.classes)}"
    bins = f"{spec.bins} bins" if spec.bins > 1 else "one bin"
    return f"output {name} in {bins} on [{spec.low:g}, {spec.high:g}]"


def to_json(spec: OutputSpec) -> dict[str, Any]:
    """The same for a JSON document."""
    if isinstance(spec, ClassSpec):
        return {"output": shown_name(spec), "kind": "class", "classes": [*spec.classes, OTHER]}
    edges = list(spec.edges())
    return {"output": shown_name(spec), "kind": "score", "low": float(spec.low), "edges": edges}


def all_nan(counts: Sequence[OutputCounts]) -> bool:
    """True when something was counted and all of it, in every output, is NaN."""
    return bool(counts) and all(one.all_nan for one in counts)
