"""Requests as tables: which JSON values fit a column, how a table lies in memory, one request's rows."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

try:
    from pandas.api.internals import (  # type: ignore[import-not-found]  # the stubs lack it
        create_dataframe_from_blocks,
    )
except ImportError:  # before pandas 3

    def create_dataframe_from_blocks(
        blocks: list[tuple[Any, npt.NDArray[np.intp]]], index: pd.Index, columns: pd.Index
    ) -> pd.DataFrame:
        """The table whose columns at these places are the rows of these blocks, or the one text block."""
        if len(blocks) == 1 and blocks[0][0].ndim == 2:
            return pd.DataFrame(blocks[0][0].T, index, columns, copy=False)
        cells: dict[int, Any] = {}
        for values, places in blocks:
            cells.update(zip(places.tolist(), np.atleast_2d(values), strict=True))
        # A mapping is copied into blocks of one dtype each, as MLflow's tables are.
        frame = pd.DataFrame({place: cells[place] for place in range(len(columns))}, index)
        frame.columns = columns
        return frame


Rows = Sequence[Sequence[Any]]
"""Rows of cells, in the order of the columns."""
SCALARS = frozenset((str, int, float, bool, type(None)))
"""Types of JSON values that are neither lists nor objects."""
_SPLIT_KEYS = frozenset(("columns", "data", "index"))
_EXACT = 2**53
"""Beyond it, integers and floats of 64 bits are not the same numbers, and a float32 may be rounded twice."""
_TEXT = pa.large_string()
_CACHED = 256
_NAMES_CHARACTERS = 10_000


class DecodedPart(Protocol):
    """One request, decoded but not yet the data that a version takes."""

    @property
    def rows(self) -> int:
        """Rows of the request, at least 1."""

    @property
    def key(self) -> Hashable:
        """Parts of one decoder with equal keys may share a table: their columns and dtypes are equal."""

    def merged(self, parts: Sequence[Any]) -> Any:
        """The data of `parts`, of which this is the first; all have its key. New data at each call."""


Reader = Callable[[Any], DecodedPart | None]
"""Decodes the value under one format key. None, or any error of numpy or pandas: MLflow is to decode it."""


class Kind(Enum):
    """What a column holds."""

    TEXT = "str"
    BOOLEAN = "bool"
    INTEGER = "int32"
    LONG = "int64"
    FLOAT = "float32"
    DOUBLE = "float64"


_NONE = type(None)
_TYPES: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset((str, _NONE)),
    Kind.BOOLEAN: frozenset((bool,)),
    Kind.INTEGER: frozenset((int,)),
    Kind.LONG: frozenset((int,)),
    Kind.FLOAT: frozenset((float, int, _NONE)),
    Kind.DOUBLE: frozenset((float, int, _NONE)),
}
"""The JSON values of a column that every one of MLflow's formats turns into the same cells."""


def _fits(kind: Kind, values: Sequence[Any], types: set[type]) -> bool:
    """Whether a column's values, at least one and of these types, become the same cells as in MLflow."""
    if not types <= _TYPES[kind]:
        return False
    if kind is Kind.TEXT:
        return str in types  # a column without any text is not a column of texts
    if kind is Kind.LONG:
        return bool(max(values) < 2**63)
    if kind is Kind.INTEGER:
        return bool(min(values) >= -(2**31) and max(values) < 2**31)
    if kind is Kind.FLOAT:
        return all(value is None or -_EXACT <= value <= _EXACT for value in values)
    return True


class TableLayout:
    """Names and kinds of a table's columns, compiled to blocks of one dtype, as pandas consolidates them."""

    def __init__(self, names: Sequence[str | int], kinds: Sequence[Kind]) -> None:
        # Made as MLflow makes it, from a mapping of columns.
        self._columns = pd.DataFrame(dict.fromkeys(names, 0.0), index=[0]).columns
        self.kinds = tuple(kinds)
        self._texts = [(i, np.array([i])) for i, kind in enumerate(kinds) if kind is Kind.TEXT]
        places: dict[Kind, list[int]] = {}
        for i, kind in enumerate(kinds):
            if kind is not Kind.TEXT:
                places.setdefault(kind, []).append(i)
        self._blocks = [(np.dtype(kind.value), list_, np.array(list_)) for kind, list_ in places.items()]
        self._whole = self._blocks[0] if len(self._blocks) == 1 and not self._texts else None
        only = kinds[0] if len(set(kinds)) == 1 else None
        # Where only the type of a cell matters, all cells are checked at once.
        self._any_of = _TYPES[only] if only in (Kind.BOOLEAN, Kind.DOUBLE) else None

    def fits(self, rows: Rows) -> bool:
        """Whether each cell of `rows`, which have one per column, has a value of its column's kind."""
        if self._any_of is not None:
            return self._any_of.issuperset(map(type, chain.from_iterable(rows)))
        for kind, values in zip(self.kinds, zip(*rows, strict=True), strict=True):
            if not _fits(kind, values, set(map(type, values))):
                return False
        return True

    def frame(self, rows: Rows, index: pd.Index) -> pd.DataFrame:
        """The table of these rows, which fit."""
        blocks: list[tuple[Any, npt.NDArray[np.intp]]]
        if self._whole is not None:
            dtype, _, places = self._whole
            blocks = [(np.ascontiguousarray(np.array(rows, dtype).T), places)]
        else:
            columns = list(zip(*rows, strict=True))
            blocks = [(_texts(columns[i]), place) for i, place in self._texts]
            blocks += [
                (np.array([columns[i] for i in numbers], dtype), places)
                for dtype, numbers, places in self._blocks
            ]
        # A view each: a version may name its index or columns, and the name must not reach the next request.
        frame: pd.DataFrame = create_dataframe_from_blocks(blocks, index, self._columns.view())
        return frame


def _texts(values: Sequence[str | None]) -> Any:
    """A column of texts, as pandas infers it: of dtype `str`, and before pandas 3 of objects."""
    if texts_are_objects():
        return np.array(values, object)
    column: Any = pd.arrays.ArrowStringArray  # whose stubs lack `dtype`
    return column(pa.array(values, _TEXT), dtype=_text_dtype())


def texts_are_objects() -> bool:
    """Whether this pandas has no dtype of its own for texts, as before pandas 3."""
    return not isinstance(_text_dtype(), pd.StringDtype)


@lru_cache(maxsize=1)
def _text_dtype() -> Any:
    return pd.Series(["a"]).dtype


def tables_are_known() -> bool:
    """Whether this pandas makes tables in one of the two ways that are compiled here.

    Texts are `str` columns held by Arrow, or objects before pandas 3 unless they were switched to the former.
    """
    known = pd.Series(["a", None])
    if known.dtype == object:
        return known.tolist() == ["a", None] and not _has_text_dtype()
    if not _has_text_dtype():
        return False
    texts: Any = known.array
    return type(texts) is type(_texts(["a"])) and bool(texts.equals(_texts(["a", None])))


def _has_text_dtype() -> bool:
    return int(pd.__version__.split(".")[0]) >= 3


@lru_cache(maxsize=128)
def _range_index(rows: int) -> pd.RangeIndex:
    return pd.RangeIndex(rows)


@dataclass(slots=True)
class TableRequest:
    """One request to a version that takes a table: its rows, their cells in the order of the layout."""

    layout: TableLayout
    cells: Rows
    index: list[int] | None = None
    """Row labels of the request; None where it has none."""
    counted: bool = True
    """The labels, if any, count from zero."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.cells)

    @property
    def key(self) -> tuple[TableLayout, object]:
        """The layout; a request with other row labels stands alone."""
        return self.layout, self.index is not None if self.counted else self

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def merged(self, parts: Sequence["TableRequest"]) -> pd.DataFrame:
        """The table of these parts' rows."""
        cells = self.cells if len(parts) == 1 else [row for part in parts for row in part.cells]
        if self.index is None:
            index: pd.Index = _range_index(len(cells)).view()
        else:
            index = pd.Index(np.arange(len(cells)) if self.counted else np.array(self.index, np.int64))
        return self.layout.frame(cells, index)


@dataclass(slots=True)
class SplitTable:
    """Rows below named columns; every row has one cell per name, and no name stands twice."""

    names: tuple[str, ...]
    cells: Rows
    index: list[int] | None = None
    counted: bool = True


def split_table(value: Any) -> SplitTable | None:
    """The value of `dataframe_split`. None unless names, rows and row labels are as a table's own export."""
    if type(value) is not dict or not _SPLIT_KEYS.issuperset(value):
        return None
    names, cells, index = value.get("columns"), value.get("data"), value.get("index")
    if type(names) is not list or type(cells) is not list or not names or not cells:
        return None
    width = len(names)
    if set(map(type, cells)) != {list} or set(map(len, cells)) != {width}:
        return None
    if set(map(type, names)) != {str} or (width > 1 and len(set(names)) != width):
        return None
    if index is None:
        return SplitTable(tuple(names), cells)
    if type(index) is not list or len(index) != len(cells) or set(map(type, index)) != {int}:
        return None
    if max(index) >= 2**63:
        return None
    return SplitTable(tuple(names), cells, index, index == list(range(len(index))))


def records(value: Any) -> Sequence[dict[str, Any]] | None:
    """A list of objects, at least one; else None."""
    if type(value) is not list or not value or set(map(type, value)) != {dict}:
        return None
    return value


class BoundedCache(dict[Any, Any]):
    """What was compiled per set of column names; bounded, because callers invent names."""

    def put(self, names: Iterable[str], key: Any, value: Any) -> None:
        """Keep `value` under `key`, unless the names are very long; empties itself when it is full."""
        if sum(map(len, names)) <= _NAMES_CHARACTERS:
            if len(self) >= _CACHED:
                self.clear()
            self[key] = value
