"""Requests to versions that take a table: by a signature of columns, or inferred where there is none."""

from collections.abc import Callable, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any

import numpy as np
from mlflow.types import DataType, Schema

from router.worker.decode.table import (
    SCALARS,
    BoundedCache,
    Kind,
    Reader,
    Rows,
    SplitTable,
    TableLayout,
    TableRequest,
    records,
    split_table,
    texts_are_objects,
)

_KINDS = {
    DataType.string: Kind.TEXT,
    DataType.boolean: Kind.BOOLEAN,
    DataType.integer: Kind.INTEGER,
    DataType.long: Kind.LONG,
    DataType.float: Kind.FLOAT,
    DataType.double: Kind.DOUBLE,
}
_NULLABLE_TEXT, _NULLABLE_NUMBERS = frozenset((str, type(None))), frozenset((float, int, type(None)))
_LONG = 2**63


def column_readers(schema: Schema) -> dict[str, Reader] | str:
    """Readers by format for a signature of columns, or why there are none."""
    types = schema.input_types()
    if not all(_is_plain(spec.type) for spec in schema.inputs if spec.required):
        return "its signature has columns other than text, numbers and booleans"
    if not schema.has_input_names():
        if len(types) > 1 or not _is_plain(types[0]):
            return "its signature has columns without names, not one of a plain type"
        unnamed = _unnamed(_KINDS[types[0]])
        return {"inputs": unnamed, "instances": unnamed}
    if len(set(schema.input_names())) != len(types):
        return "its signature names a column twice"
    columns = _Columns(schema)
    return {
        "dataframe_split": columns.split,
        "dataframe_records": columns.records,
        "inputs": columns.inputs,
        "instances": columns.tensors,
    }


def inferred_table_readers() -> dict[str, Reader]:
    """Readers of the `dataframe_` formats without a signature: columns are what pandas takes them for."""
    tables = _Inferred()
    return {"dataframe_split": tables.split, "dataframe_records": tables.records}


class _Columns:
    def __init__(self, schema: Schema) -> None:
        self._names: list[str] = schema.input_names()
        self._known = frozenset(self._names)
        self._required = frozenset(schema.required_input_names())
        self._kinds = {spec.name: _KINDS[spec.type] for spec in schema.inputs if _is_plain(spec.type)}
        self._unsupported = self._known - self._kinds.keys()
        """Optional columns, such as dates, that only MLflow decodes."""
        self._layouts = BoundedCache()
        self._orders = BoundedCache()

    def split(self, value: Any) -> TableRequest | None:
        """`dataframe_split`."""
        if (table := split_table(value)) is None:
            return None
        if (order := self._orders.get(table.names)) is None:
            if (order := self._order(table)) is None:
                return None
            self._orders.put(table.names, table.names, order)
        layout, pick, ignored = order
        for i in ignored:
            if not SCALARS.issuperset(type(row[i]) for row in table.cells):
                return None
        return _checked(layout, pick(table.cells), table.index, table.counted)

    def records(self, value: Any) -> TableRequest | None:
        """`dataframe_records`."""
        if (found := records(value)) is None:
            return None
        present = self._known.intersection(found[0])
        if not self._supports(present):
            return None
        optional = self._known - present
        ignored: set[type] = set()
        for record in found:
            if optional and not optional.isdisjoint(record):
                return None
            if len(record) != len(present):
                ignored.update(map(type, record.values()))
        if not ignored <= SCALARS:
            return None
        pick = _pick(self._in_order(present))
        return _checked(self._layout(present), [pick(record) for record in found])

    def inputs(self, value: Any) -> TableRequest | None:
        """`inputs`: as `instances`; of a list of objects, texts that pandas holds as objects are numpy's."""
        request = self.tensors(value)
        if (
            request is None
            or type(value) is not list
            or type(value[0]) is not dict
            or not texts_are_objects()
        ):
            return request
        texts = [kind is Kind.TEXT for kind in request.layout.kinds]
        cells = [
            [np.str_(cell) if text else cell for cell, text in zip(row, texts, strict=True)]
            for row in request.cells
        ]
        return TableRequest(request.layout, cells)

    def tensors(self, value: Any) -> TableRequest | None:
        """`inputs` and `instances`: a mapping of columns, a list of objects, or the one column by itself."""
        cells: Rows
        if type(value) is list and value and type(value[0]) is dict:
            if (found := records(value)) is None:
                return None
            present = frozenset(found[0])
            if any(record.keys() != present for record in found):
                return None
            pick = _pick(self._in_order(present))
            cells = [pick(record) for record in found]
        else:
            if type(value) is list and len(self._names) == 1:
                value = {self._names[0]: value}
            if type(value) is not dict:
                return None
            present = frozenset(value)
            columns = [value[name] for name in self._in_order(present)]
            if not columns or set(map(type, columns)) != {list}:
                return None
            cells = list(zip(*columns, strict=True))
        if not self._supports(present) or not present <= self._known or not cells:
            return None
        return _checked_array(self._layout(present), cells)

    def _order(self, table: SplitTable) -> tuple[TableLayout, Callable[[Rows], Rows], list[int]] | None:
        """The layout of a table with these names, how to pick its cells, and where others stand."""
        names = table.names
        present = self._known.intersection(names)
        if not self._supports(present):
            return None
        wanted, layout = self._in_order(present), self._layout(present)
        if wanted == list(names):
            return layout, _as_they_are, []
        ignored = list(compress(range(len(names)), (name not in present for name in names)))
        pick = _pick([names.index(name) for name in wanted])
        return layout, lambda rows: [pick(row) for row in rows], ignored

    def _supports(self, present: frozenset[str]) -> bool:
        return bool(present) and self._required <= present and self._unsupported.isdisjoint(present)

    def _in_order(self, present: frozenset[str]) -> list[str]:
        return [name for name in self._names if name in present]

    def _layout(self, present: frozenset[str]) -> TableLayout:
        layout: TableLayout | None = self._layouts.get(present)
        if layout is None:
            names = self._in_order(present)
            layout = TableLayout(names, [self._kinds[name] for name in names])
            self._layouts.put(names, present, layout)
        return layout


class _Inferred:
    def __init__(self) -> None:
        self._layouts = BoundedCache()

    def split(self, value: Any) -> TableRequest | None:
        """`dataframe_split`."""
        if (table := split_table(value)) is None:
            return None
        if (layout := self._layout(table.names, table.cells)) is None:
            return None
        return TableRequest(layout, table.cells, table.index, table.counted)

    def records(self, value: Any) -> TableRequest | None:
        """`dataframe_records`."""
        if (found := records(value)) is None or not found[0]:
            return None
        names = tuple(found[0])
        if any(record.keys() != found[0].keys() for record in found):
            return None
        cells = [*map(_pick(names), found)]
        return None if (layout := self._layout(names, cells)) is None else TableRequest(layout, cells)

    def _layout(self, names: tuple[str, ...], cells: Rows) -> TableLayout | None:
        kinds: list[Kind] = []
        for values in zip(*cells, strict=True):
            if (kind := _inferred_kind(values)) is None:
                return None
            kinds.append(kind)
        key = (names, *kinds)
        layout: TableLayout | None = self._layouts.get(key)
        if layout is None:
            layout = TableLayout(names, kinds)
            self._layouts.put(names, key, layout)
        return layout


def _inferred_kind(values: Sequence[Any]) -> Kind | None:
    """What pandas makes of these values; None where that is not plain."""
    types = set(map(type, values))
    if types <= _NULLABLE_TEXT:
        return Kind.TEXT if str in types else None
    if types == {bool}:
        return Kind.BOOLEAN
    if not types <= _NULLABLE_NUMBERS:
        return None
    # Past 64 bits orjson reads an integer as a float, which pandas would not have.
    numbers = [value for value in values if value is not None] if type(None) in types else values
    if not numbers or not -_LONG < min(numbers) <= max(numbers) < _LONG:
        return None
    return Kind.LONG if types == {int} else Kind.DOUBLE


def _is_plain(kind: Any) -> bool:
    # Arrays and objects have no hash.
    return type(kind) is DataType and kind in _KINDS


def _unnamed(kind: Kind) -> Reader:
    layout = TableLayout([0], [kind])

    def read(value: Any) -> TableRequest | None:
        """The one column by itself; tables sent to such a version are left to MLflow."""
        if type(value) is not list or not value:
            return None
        return _checked_array(layout, [(cell,) for cell in value])

    return read


def _pick(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
    """A function that takes these cells of a row, as a tuple also where there is one."""
    if len(keys) == 1:
        (key,) = keys
        return lambda row: (row[key],)
    return itemgetter(*keys)


def _as_they_are(rows: Rows) -> Rows:
    return rows


def _checked(
    layout: TableLayout, cells: Rows, index: list[int] | None = None, counted: bool = True
) -> TableRequest | None:
    return TableRequest(layout, cells, index, counted) if layout.fits(cells) else None


def _checked_array(layout: TableLayout, cells: Rows) -> TableRequest | None:
    """As `_checked`, for the formats whose columns MLflow first makes numpy arrays of."""
    if (request := _checked(layout, cells)) is None:
        return None
    # In an array of texts None becomes "None", and a last NUL is lost.
    for i, kind in enumerate(layout.kinds):
        if kind is Kind.TEXT and any(row[i] is None or row[i].endswith("\0") for row in cells):
            return None
    return request
