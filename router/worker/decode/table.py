"""How the columns of a table lie in memory: blocks of one dtype, as pandas would consolidate them."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from router.worker.decode.kinds import TYPES, Kind, fits

try:
    from pandas.api.internals import (  # type: ignore[import-not-found]  # the stubs lack it
        create_dataframe_from_blocks,
    )
except ImportError:  # before pandas 3, where texts were objects too
    create_dataframe_from_blocks = None

Rows = Sequence[Sequence[Any]]
"""Rows of cells, in the order of the columns."""
Block = tuple[Any, npt.NDArray[np.intp]]
_TEXT = pa.large_string()


class Layout:
    """Names and kinds of the columns of a table, compiled to blocks."""

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


def tables_are_known() -> bool:
    """Whether this pandas makes tables in the one way that is compiled here: `str` columns held by Arrow."""
    if create_dataframe_from_blocks is None:
        return False
    known: Any = pd.Series(["a", None]).array
    return type(known) is type(texts(["a"])) and bool(known.equals(texts(["a", None])))
