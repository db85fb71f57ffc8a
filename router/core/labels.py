"""Classes of label answers: which are told apart, and counts that add up."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

OTHER = "__other__"
"""The class of every label that is not on the list."""
MOST_CLASSES = 20
CLASS_CHARACTERS = 128
_TRUTHS = {"true": True, "false": False}


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
    def marks(self) -> int:
        """How many marks there are: one per class, and one for every other label."""
        return len(self.classes) + 1


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
    """Counts of `labels`, and the marks of those at the places `firsts`; NaN has none.

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
