"""The two `dataframe_` formats, taken apart into names and rows before anyone looks at the cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.worker.decode.table import Rows

_KEYS = frozenset(("columns", "data", "index"))


@dataclass(slots=True)
class Sheet:
    """Rows below named columns; every row is as long as the names are many, no name stands twice."""

    names: tuple[str, ...]
    lines: Rows
    index: list[int] | None = None
    counted: bool = True


def split_sheet(value: Any) -> Sheet | None:
    """What `dataframe_split` holds. None unless names, rows and row labels are as a table's own export."""
    if type(value) is not dict or not _KEYS.issuperset(value):
        return None
    names, lines, index = value.get("columns"), value.get("data"), value.get("index")
    if type(names) is not list or type(lines) is not list or not names or not lines:
        return None
    width = len(names)
    if set(map(type, lines)) != {list} or set(map(len, lines)) != {width}:
        return None
    if set(map(type, names)) != {str} or (width > 1 and len(set(names)) != width):
        return None
    if index is None:
        return Sheet(tuple(names), lines)
    if type(index) is not list or len(index) != len(lines) or set(map(type, index)) != {int}:
        return None
    if max(index) >= 2**63:
        return None
    return Sheet(tuple(names), lines, index, index == list(range(len(index))))


def records(value: Any) -> Sequence[dict[str, Any]] | None:
    """A list of objects, at least one; else None."""
    if type(value) is not list or not value or set(map(type, value)) != {dict}:
        return None
    return value
