"""Requests that reach the version as numpy arrays."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Arrays:
    """One request: an array, or arrays by name; all of as many rows, which are the first dimension."""

    data: Array | dict[str, Array]
    rows: int
    key: Hashable

    @classmethod
    def of(cls, data: Array | dict[str, Array]) -> "Arrays | None":
        """None when the arrays are not of as many rows, or of none."""
        if isinstance(data, dict):
            lengths = {len(array) for array in data.values()}
            key: Hashable = tuple((name, array.dtype, array.shape[1:]) for name, array in data.items())
        else:
            lengths, key = {len(data)}, (data.dtype, data.shape[1:])
        return cls(data, lengths.pop(), key) if len(lengths) == 1 and 0 not in lengths else None

    def merged(self, parts: Sequence["Arrays"]) -> Any:
        """The data of these parts, along the first dimension; the caller's own, which may change it."""
        if isinstance(self.data, dict):
            # Every part has these names: they are in the key.
            return {name: np.concatenate([part.data[name] for part in parts]) for name in self.data}
        return np.concatenate([part.data for part in parts])
