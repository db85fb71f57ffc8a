"""Versions without a signature: columns are what their values look like to pandas and numpy."""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from router.worker.decode.arrays import Arrays
from router.worker.decode.kinds import Kind
from router.worker.decode.lines import Lines
from router.worker.decode.parts import Reader
from router.worker.decode.remembered import Remembered
from router.worker.decode.sheets import records, split_sheet
from router.worker.decode.table import Layout, Rows

_TEXT, _NUMBERS = frozenset((str, type(None))), frozenset((float, int, type(None)))
_LONG = 2**63


def inferred_readers() -> dict[str, Reader]:
    """Readers by format."""
    tables = _Inferred()
    return {
        "dataframe_split": tables.split,
        "dataframe_records": tables.records,
        "inputs": _inputs,
        "instances": _instances,
    }


class _Inferred:
    def __init__(self) -> None:
        self._layouts = Remembered()

    def split(self, value: Any) -> Lines | None:
        """`dataframe_split`."""
        if (sheet := split_sheet(value)) is None:
            return None
        if (layout := self._layout(sheet.names, sheet.lines)) is None:
            return None
        return Lines(layout, sheet.lines, sheet.index, sheet.counted)

    def records(self, value: Any) -> Lines | None:
        """`dataframe_records`."""
        if (found := records(value)) is None or not found[0]:
            return None
        names = tuple(found[0])
        for record in found:
            if record.keys() != found[0].keys():
                return None
        if len(names) == 1:
            (name,) = names
            lines: Rows = [(record[name],) for record in found]
        else:
            lines = [*map(itemgetter(*names), found)]
        return None if (layout := self._layout(names, lines)) is None else Lines(layout, lines)

    def _layout(self, names: tuple[str, ...], lines: Rows) -> Layout | None:
        kinds: list[Kind] = []
        for values in zip(*lines, strict=True):
            if (kind := _kind(values)) is None:
                return None
            kinds.append(kind)
        known = (names, *kinds)
        layout: Layout | None = self._layouts.get(known)
        if layout is None:
            layout = Layout(names, kinds)
            self._layouts.keep(names, known, layout)
        return layout


def _kind(values: Sequence[Any]) -> Kind | None:
    """What pandas makes of these values; None where that is not plain."""
    types = set(map(type, values))
    if types <= _TEXT:
        return Kind.TEXT if str in types else None
    if types == {bool}:
        return Kind.BOOLEAN
    if not types <= _NUMBERS:
        return None
    # Past 64 bits orjson reads an integer as a float, which pandas would not have.
    numbers = [value for value in values if value is not None] if type(None) in types else values
    if not numbers or not -_LONG < min(numbers) <= max(numbers) < _LONG:
        return None
    return Kind.LONG if types == {int} else Kind.DOUBLE


def _inputs(value: Any) -> Arrays | None:
    if type(value) is dict:
        return _named(value)
    return _plain(value) if type(value) is list and value and type(value[0]) is not dict else None


def _instances(value: Any) -> Arrays | None:
    if type(value) is not list or not value or type(value[0]) is not dict:
        return _inputs(value)
    if (found := records(value)) is None or any(record.keys() != found[0].keys() for record in found):
        return None
    return _named({name: [record[name] for record in found] for name in found[0]})


def _named(columns: dict[str, Any]) -> Arrays | None:
    arrays = {}
    for name, values in columns.items():
        if type(values) is not list or (array := _array(values)) is None:
            return None
        arrays[name] = array
    return Arrays.of(arrays) if arrays else None


def _plain(values: list[Any]) -> Arrays | None:
    return None if (array := _array(values)) is None else Arrays.of(array)


def _array(values: list[Any]) -> Any:
    """What numpy makes of a list; None where that is not plain: deeper than two levels, or a mixture."""
    if not values:
        return None
    cells: Any = values
    if type(values[0]) is list:
        if set(map(type, values)) != {list} or len(set(map(len, values))) != 1 or not values[0]:
            return None
        cells = [*chain.from_iterable(values)]
    types = set(map(type, cells))
    if types == {str} or types == {bool}:
        return np.array(values)
    if not types <= {float, int} or not -_LONG < min(cells) <= max(cells) < _LONG:
        return None
    return np.array(values)
