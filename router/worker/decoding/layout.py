"""How the columns of a table lie in memory: blocks of one dtype, as pandas would consolidate them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

try:
    from pandas.api.internals import (  # type: ignore[import-not-found]  # the stubs lack it
        create_dataframe_from_blocks,
    )
except ImportError:  # before pandas 3, where texts were objects too
    create_dataframe_from_blocks = None

Rows = Sequence[Sequence[Any]]
Block = tuple[Any, npt.NDArray[np.intp]]
_NONE = type(None)
_TEXT = pa.large_string()
_REMEMBERED = 256
_NAMES_CHARACTERS = 10_000
EXACT = 2**53
"""Beyond it, integers and floats of 64 bits are not the same numbers, and a float32 may be rounded twice."""


class Kind(Enum):
    """What a column holds."""

    TEXT = "str"
    BOOLEAN = "bool"
    INTEGER = "int32"
    LONG = "int64"
    FLOAT = "float32"
    DOUBLE = "float64"


TYPES: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset((str, _NONE)),
    Kind.BOOLEAN: frozenset((bool,)),
    Kind.INTEGER: frozenset((int,)),
    Kind.LONG: frozenset((int,)),
    Kind.FLOAT: frozenset((float, int, _NONE)),
    Kind.DOUBLE: frozenset((float, int, _NONE)),
}
"""The JSON values of a column for which every way of MLflow ends in the same cells."""


def fits(kind: Kind, values: Sequence[Any], types: set[type]) -> bool:
    """Whether a column's values, at least one and of these types, become cells without a doubt."""
    if not types <= TYPES[kind]:
        return False
    if kind is Kind.TEXT:
        return str in types  # a column without any text is no column of texts
    if kind is Kind.LONG:
        return bool(max(values) < 2**63)
    if kind is Kind.INTEGER:
        return bool(min(values) >= -(2**31) and max(values) < 2**31)
    if kind is Kind.FLOAT:
        return all(value is None or -EXACT <= value <= EXACT for value in values)
    return True


class Remembered(dict[Any, Any]):
    """What was compiled for column names, by names; bounded, because callers invent them."""

    def keep(self, names: Iterable[str], key: Any, value: Any) -> None:
        """Remember `value` by `key`, unless the names are very long; forgets all when there is too much."""
        if sum(map(len, names)) <= _NAMES_CHARACTERS:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = value


class Layout:
    """Names and kinds of the columns of a table, compiled to blocks."""

    def __init__(self, names: Sequence[str | int], kinds: Sequence[Kind]) -> None:
        # Made as MLflow makes it, from a mapping of columns.
        self._columns = pd.DataFrame({name: pd.Series([0.0]) for name in names}).columns
        self.kinds = tuple(kinds)
        self._texts = [(i, np.array([i])) for i, kind in enumerate(kinds) if kind is Kind.TEXT]
        places: dict[Kind, list[int]] = {}
        for i, kind in enumerate(kinds):
            if kind is not Kind.TEXT:
                places.setdefault(kind, []).append(i)
        self._blocks = [(np.dtype(kind.value), list_, np.array(list_)) for kind, list_ in places.items()]
        self._whole = self._blocks[0] if len(self._blocks) == 1 and not self._texts else None
        only = kinds[0] if len(set(kinds)) == 1 else None
        # Where types are all that is asked of a cell, they are asked of all cells at once.
        self._freely = TYPES[only] if only in (Kind.BOOLEAN, Kind.DOUBLE) else None

    def holds(self, rows: Rows) -> bool:
        """Whether every cell of `rows` (as long as the columns are many) has a value of its column's kind."""
        if self._freely is not None:
            return self._freely.issuperset(map(type, chain.from_iterable(rows)))
        for kind, values in zip(self.kinds, zip(*rows, strict=True), strict=True):
            if not fits(kind, values, set(map(type, values))):
                return False
        return True

    def frame(self, rows: Rows, index: pd.Index) -> pd.DataFrame:
        """The table of these rows, which it holds."""
        blocks: list[Block]
        if self._whole is not None:
            dtype, _, places = self._whole
            blocks = [(np.ascontiguousarray(np.array(rows, dtype).T), places)]
        else:
            columns = list(zip(*rows, strict=True))
            blocks = [(texts(columns[i]), place) for i, place in self._texts]
            blocks += [
                (np.array([columns[i] for i in numbers], dtype), places)
                for dtype, numbers, places in self._blocks
            ]
        # A view each: a version may name its index or columns, and the name must not reach the next request.
        frame: pd.DataFrame = create_dataframe_from_blocks(blocks, index, self._columns.view())
        return frame


def texts(values: Sequence[str | None]) -> Any:
    """A column of dtype `str`, as pandas infers it."""
    column: Any = pd.arrays.ArrowStringArray  # whose stubs lack `dtype`
    return column(pa.array(values, _TEXT), dtype=_text_dtype())


@lru_cache(maxsize=1)
def _text_dtype() -> Any:
    return pd.Series(["a"]).dtype


@lru_cache(maxsize=128)
def _counted(rows: int) -> pd.RangeIndex:
    return pd.RangeIndex(rows)


def tables_are_known() -> bool:
    """Whether this pandas makes tables in the one way that is compiled here: `str` columns held by Arrow."""
    if create_dataframe_from_blocks is None:
        return False
    known: Any = pd.Series(["a", None]).array
    return type(known) is type(texts(["a"])) and bool(known.equals(texts(["a", None])))


@dataclass(slots=True)
class Lines:
    """One request to a version that takes a table: its rows, their cells in the order of the layout."""

    layout: Layout
    lines: Rows
    index: list[int] | None = None
    """Row labels that the request gave; None: it gave none."""
    counted: bool = True
    """The labels, if any, count from zero."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.lines)

    @property
    def key(self) -> tuple[Layout, object]:
        """The layout; a request with row labels of its own stands alone."""
        return self.layout, self.index is not None if self.counted else self

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def merged(self, parts: Sequence["Lines"]) -> pd.DataFrame:
        """The table of these parts' rows."""
        lines = self.lines if len(parts) == 1 else [line for part in parts for line in part.lines]
        if self.index is None:
            index: pd.Index = _counted(len(lines)).view()
        else:
            index = pd.Index(np.arange(len(lines)) if self.counted else np.array(self.index, np.int64))
        return self.layout.frame(lines, index)
