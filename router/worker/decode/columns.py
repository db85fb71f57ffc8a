"""Versions whose signature names columns of plain scalars."""

from collections.abc import Callable, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any

from mlflow.types import DataType, Schema

from router.worker.decode.envelope import SCALARS
from router.worker.decode.kinds import Kind
from router.worker.decode.lines import Lines
from router.worker.decode.parts import Reader
from router.worker.decode.remembered import Remembered
from router.worker.decode.sheets import Sheet, records, split_sheet
from router.worker.decode.table import Layout, Rows

_KINDS = {
    DataType.string: Kind.TEXT,
    DataType.boolean: Kind.BOOLEAN,
    DataType.integer: Kind.INTEGER,
    DataType.long: Kind.LONG,
    DataType.float: Kind.FLOAT,
    DataType.double: Kind.DOUBLE,
}


def column_readers(schema: Schema) -> dict[str, Reader] | str:
    """Readers by format, or why there are none."""
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
        "inputs": columns.tensors,
        "instances": columns.tensors,
    }


class _Columns:
    def __init__(self, schema: Schema) -> None:
        self._names: list[str] = schema.input_names()
        self._known = frozenset(self._names)
        self._required = frozenset(schema.required_input_names())
        self._kinds = {spec.name: _KINDS[spec.type] for spec in schema.inputs if _is_plain(spec.type)}
        self._foreign = self._known - self._kinds.keys()
        """Optional columns, such as dates, that only MLflow decodes."""
        self._layouts = Remembered()
        self._orders = Remembered()

    def split(self, value: Any) -> Lines | None:
        """`dataframe_split`."""
        return None if (sheet := split_sheet(value)) is None else self._sheet(sheet)

    def records(self, value: Any) -> Lines | None:
        """`dataframe_records`."""
        if (found := records(value)) is None:
            return None
        present = self._known.intersection(found[0])
        if not self._takes(present):
            return None
        layout = self._layout(present)
        optional = self._known - present
        strangers: set[type] = set()
        for record in found:
            if optional and not optional.isdisjoint(record):
                return None
            if len(record) != len(present):
                strangers.update(map(type, record.values()))
        if not strangers <= SCALARS:
            return None
        pick = self._pick([name for name in self._names if name in present])
        return self._checked(layout, [pick(record) for record in found])

    def tensors(self, value: Any) -> Lines | None:
        """`inputs` and `instances`: a mapping of columns, a list of objects, or the one column by itself."""
        lines: Rows
        if type(value) is list and value and type(value[0]) is dict:
            if (found := records(value)) is None:
                return None
            present = frozenset(found[0])
            if any(record.keys() != present for record in found):
                return None
            pick = self._pick([name for name in self._names if name in present])
            lines = [pick(record) for record in found]
        else:
            if type(value) is list and len(self._names) == 1:
                value = {self._names[0]: value}
            if type(value) is not dict:
                return None
            present = frozenset(value)
            columns = [value[name] for name in self._names if name in present]
            if not columns or set(map(type, columns)) != {list}:
                return None
            lines = list(zip(*columns, strict=True))
        if not self._takes(present) or not present <= self._known or not lines:
            return None
        layout = self._layout(present)
        part = self._checked(layout, lines)
        return part if part is not None and _arrays_keep(layout, lines) else None

    def _sheet(self, sheet: Sheet) -> Lines | None:
        if (order := self._orders.get(sheet.names)) is None:
            if (order := self._order(sheet.names)) is None:
                return None
            self._orders.keep(sheet.names, sheet.names, order)
        layout, pick, strangers = order
        for i in strangers:
            if not SCALARS.issuperset(type(line[i]) for line in sheet.lines):
                return None
        lines = pick(sheet.lines)
        return Lines(layout, lines, sheet.index, sheet.counted) if layout.holds(lines) else None

    def _order(self, names: tuple[str, ...]) -> tuple[Layout, Callable[[Rows], Rows], list[int]] | None:
        present = self._known.intersection(names)
        if not self._takes(present):
            return None
        wanted = [name for name in self._names if name in present]
        layout = self._layout(present)
        if wanted == list(names):
            return layout, _as_they_are, []
        places = [names.index(name) for name in wanted]
        strangers = list(compress(range(len(names)), (name not in present for name in names)))
        pick: Callable[[Any], Sequence[Any]] = self._pick(places)
        return layout, lambda lines: [pick(line) for line in lines], strangers

    def _takes(self, present: frozenset[str]) -> bool:
        return bool(present) and self._required <= present and self._foreign.isdisjoint(present)

    def _layout(self, present: frozenset[str]) -> Layout:
        layout: Layout | None = self._layouts.get(present)
        if layout is None:
            names = [name for name in self._names if name in present]
            layout = Layout(names, [self._kinds[name] for name in names])
            self._layouts.keep(names, present, layout)
        return layout

    @staticmethod
    def _pick(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
        if len(keys) == 1:
            (key,) = keys
            return lambda line: (line[key],)
        return itemgetter(*keys)

    @staticmethod
    def _checked(layout: Layout, lines: Rows) -> Lines | None:
        return Lines(layout, lines) if layout.holds(lines) else None


def _is_plain(kind: Any) -> bool:
    # Arrays and objects have no hash.
    return type(kind) is DataType and kind in _KINDS


def _unnamed(kind: Kind) -> Reader:
    layout = Layout([0], [kind])

    def listed(value: Any) -> Lines | None:
        """The one column by itself; tables sent to such a version are left to MLflow."""
        if type(value) is not list or not value:
            return None
        lines = [(cell,) for cell in value]
        return Lines(layout, lines) if layout.holds(lines) and _arrays_keep(layout, lines) else None

    return listed


def _as_they_are(lines: Rows) -> Rows:
    return lines


def _arrays_keep(layout: Layout, lines: Rows) -> bool:
    # MLflow makes numpy texts of these columns first: None becomes "None" and a last NUL is lost.
    for i, kind in enumerate(layout.kinds):
        if kind is Kind.TEXT and any(line[i] is None or line[i].endswith("\0") for line in lines):
            return False
    return True
