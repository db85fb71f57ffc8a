"""One request to a version that takes a table, as rows of cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from router.worker.decode.table import Layout, Rows


@lru_cache(maxsize=128)
def _counted(rows: int) -> pd.RangeIndex:
    return pd.RangeIndex(rows)


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
