"""Traits of a request: what its bytes have against a version's schema, such as a column that is null.

A trait is yes or no, and never a value: its column's name is that of the signature. Each has a number, its
place in the table that `trait_table` makes of the version's columns, in the worker and in the gateway alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from router.core.ids import Alias, VersionId

MOST_COLUMNS = 64
"""Columns of one version that are looked at."""
MOST_TRAITS = 256
"""Traits of one version, those of body sizes among them."""
SIZE_PARTS = 10
"""Bodies are divided by their sizes into so many parts, as equal as can be."""
COLUMN_CHARACTERS = 100
SAMPLED_SHARE = 0.1
"""The part of a canary's requests whose traits are looked at whatever comes of them."""
LAST_ORDINAL = 255
Example = Literal["", "range", "categories"]
"""What the input example shows of a column: nothing, its lowest and highest number, or its texts."""


class TraitsWanted(StrEnum):
    """Of which requests a worker reads the traits."""

    NEVER = ""
    OF_FAULTS = "of_faults"
    ALWAYS = "always"


class TraitKind(StrEnum):
    """What a trait is about."""

    MISSING = "missing"
    NULL = "null"
    OTHER_TYPE = "other_type"
    OUT_OF_RANGE = "out_of_range"
    OTHER_CATEGORY = "other_category"
    ROWS = "rows"
    CONTENT_TYPE = "content_type"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Trait:
    """One of them; `what` is the column's name, or what the rows, the content type or the size are."""

    kind: TraitKind
    what: str

    def phrase(self) -> str:
        """In English, without an article."""
        return _PHRASES[self.kind].format(self.what)


@dataclass(frozen=True, slots=True)
class TraitColumn:
    """One column of a signature, by its printable name of at most 100 characters."""

    name: str
    example: Example = ""


_PHRASES = {
    TraitKind.MISSING: "column {} missing",
    TraitKind.NULL: "column {} null",
    TraitKind.OTHER_TYPE: "column {} of another type",
    TraitKind.OUT_OF_RANGE: "column {} outside the input example's range",
    TraitKind.OTHER_CATEGORY: "column {} with a category that the input example lacks",
    TraitKind.ROWS: "{}",
    TraitKind.CONTENT_TYPE: "content type {}",
    TraitKind.SIZE: "{}",
}
ROWS = (
    "rows not counted",
    "no row",
    "1 row",
    "2 to 10 rows",
    "11 to 100 rows",
    "101 to 1000 rows",
    "over 1000 rows",
)
CONTENT_TYPES = ("absent", "JSON", "CSV", "Parquet", "other", "Open Inference Protocol")
"""Never what a caller wrote."""
BODY_TRAITS = (
    *(Trait(TraitKind.ROWS, rows) for rows in ROWS),
    *(Trait(TraitKind.CONTENT_TYPE, name) for name in CONTENT_TYPES),
)
"""Of every version; the first in its table."""
OF_ANY_COLUMN = (TraitKind.MISSING, TraitKind.NULL, TraitKind.OTHER_TYPE)
COLUMN_KINDS = frozenset((*OF_ANY_COLUMN, TraitKind.OUT_OF_RANGE, TraitKind.OTHER_CATEGORY))
"""Those that are about one column."""
OF_EXAMPLE = {"range": TraitKind.OUT_OF_RANGE, "categories": TraitKind.OTHER_CATEGORY}


def trait_table(columns: Sequence[TraitColumn]) -> tuple[Trait, ...]:
    """All traits of a version with these columns, by their numbers; without those of sizes."""
    traits = list(BODY_TRAITS)
    for column in columns:
        traits += (Trait(kind, column.name) for kind in kinds_of(column))
    return tuple(traits)


def kinds_of(column: TraitColumn) -> tuple[TraitKind, ...]:
    """What can be said of a column, in the order of the table."""
    return OF_ANY_COLUMN if not column.example else (*OF_ANY_COLUMN, OF_EXAMPLE[column.example])


def columns_within_bounds(columns: Sequence[TraitColumn]) -> tuple[TraitColumn, ...]:
    """The first of them, as many as have room: at most 64, and 256 traits in all."""
    room, kept = MOST_TRAITS - len(BODY_TRAITS) - SIZE_PARTS, []
    for column in columns[:MOST_COLUMNS]:
        room -= len(kinds_of(column))
        if room < 0:
            break
        kept.append(column)
    return tuple(kept)


def rows_trait(rows: int | None) -> int:
    """Number of the trait of so many rows; None: they were not counted."""
    if rows is None:
        return 0
    return 1 + sum(rows > most for most in (0, 1, 10, 100, 1000))


def content_type_trait(name: str) -> int:
    """Number of the trait of one of `CONTENT_TYPES`."""
    return len(ROWS) + CONTENT_TYPES.index(name)


@dataclass(frozen=True, slots=True)
class TraitsSeen:
    """A canary, which is any alias but production, was given a request by the split: its traits, and whether
    the version was at fault. Good answers only of requests that were drawn beforehand."""

    alias: Alias
    version: VersionId
    bucket: int
    ordinal: int
    """Which of its bucket's requests to this version it is, from 1 on; 255 of all later ones."""
    traits: tuple[int, ...] | None
    """Numbers, ascending; None of a fault whose worker ended or was too late."""
    size: int
    """Bytes of the body."""
    fault: bool
