"""Reads the traits of requests: from their bytes, by the version's signature and its input example.

Good and failed requests are read by this same code and not from what was decoded of them, which the failed
may lack. That is done before the answer goes out, so it falls into the time by which a canary is compared
with production, whose requests are never read. It is bounded, whatever was sent: of a body above 64 KiB only
its size and type are looked at, of others so many of the first rows that they have 2 000 cells, and of one
frame 8 requests. So one read stays below the 2 ms by which an answer has to be later to count as slow.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import CONTENT_TYPE_CSV, CONTENT_TYPE_PARQUET, SUPPORTED_FORMATS
from mlflow.types import DataType, Schema
from msgspec.structs import replace

from router.core.traits import (
    COLUMN_CHARACTERS,
    TraitColumn,
    TraitKind,
    TraitsWanted,
    columns_within_bounds,
    content_type_trait,
    kinds_of,
    rows_trait,
    trait_table,
)
from router.protocol.messages import Answer, PredictStatus, Query, ScoringProtocol
from router.worker.decode.request_decoder import JSON

MOST_BYTES = 64 << 10
MOST_CELLS = 2000
MOST_ROWS = 1000
MOST_REQUESTS = 8
_EXAMPLE_BYTES = 1 << 20
"""Of an input example, which is read while the version is loaded, and of it the first 1 000 rows."""
MOST_CATEGORIES = 64
"""Different texts of a column in the input example beyond which they are no categories."""
_ABSENT = object()
_NOTHING = type(_ABSENT)
_NONE = type(None)
_TEXTS = frozenset((str,))
_WHOLE = frozenset((int,))
_NUMBERS = frozenset((int, float))
_JSON_TYPES = {
    DataType.string: _TEXTS,
    DataType.binary: _TEXTS,
    DataType.datetime: frozenset((str, int)),
    DataType.boolean: frozenset((bool,)),
    DataType.integer: _WHOLE,
    DataType.long: _WHOLE,
    DataType.float: _NUMBERS,
    DataType.double: _NUMBERS,
}
"""JSON values of a column of this type."""
_MEDIA_TYPES = {JSON: "JSON", CONTENT_TYPE_CSV: "CSV", CONTENT_TYPE_PARQUET: "Parquet"}
_NULL_CELLS = frozenset(
    ("", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)
"""Cells of CSV that pandas takes for missing ones, as far as anybody writes them."""
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be read of a body."""

    types: Mapping[str, frozenset[type] | None]
    """Of the JSON values of each column, by its name; None: any."""
    rows: int
    """So many of the first ones."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What a body holds, as far as that can be seen without the version."""

    rows: int
    columns: Mapping[str, Sequence[Any]]
    """Cells of the rows that were asked for by column, of those columns that were; `_ABSENT` where a row has
    none."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What is looked for in one column."""

    name: str
    types: frozenset[type] | None
    """Of its JSON values; None: any."""
    low: float = math.inf
    """Of the input example, as `high`; where it has no numbers, no number is out of range."""
    high: float = -math.inf
    categories: frozenset[str] = frozenset()

    @property
    def about(self) -> TraitColumn:
        name = self.name.encode("utf-8", "replace").decode()  # a frame carries no lone surrogates
        shown = name if len(name) <= COLUMN_CHARACTERS else f"{name[: COLUMN_CHARACTERS - 1]}…"
        if self.low <= self.high:
            return TraitColumn(shown, "range")
        return TraitColumn(shown, "categories" if self.categories else "")

    def kinds(self, cells: Sequence[Any] | None) -> set[TraitKind]:
        """What is true of any of its cells; None: no row has it."""
        if cells is None:
            return {TraitKind.MISSING}
        found, types = set(), set(map(type, cells))
        if _NOTHING in types:
            found.add(TraitKind.MISSING)
        if _NONE in types:
            found.add(TraitKind.NULL)
        if self.types is not None and not types <= self.types | {_NONE, _NOTHING}:
            found.add(TraitKind.OTHER_TYPE)
        if self.low <= self.high and any(
            type(cell) in _NUMBERS and not self.low <= cell <= self.high for cell in cells
        ):
            found.add(TraitKind.OUT_OF_RANGE)
        if self.categories and any(type(cell) is str and cell not in self.categories for cell in cells):
            found.add(TraitKind.OTHER_CATEGORY)
        return found

    def learned(self, cells: Sequence[Any]) -> "_Column":
        """The same, with what the cells of the input example show."""
        if self.types is not None and self.types <= _NUMBERS:
            numbers = [cell for cell in cells if type(cell) in _NUMBERS]
            if numbers:
                return _Column(self.name, self.types, min(numbers), max(numbers))
        texts = frozenset(cell for cell in cells if type(cell) is str)
        if self.types == _TEXTS and 0 < len(texts) <= MOST_CATEGORIES:
            return _Column(self.name, self.types, categories=texts)
        return self


@dataclass(slots=True)
class Allowance:
    """What may still be read of the requests of one frame, whose answers wait for it.

    Whether one is read depends on those before it and never on itself, else small bodies would be read and
    large ones not.
    """

    requests: int = MOST_REQUESTS
    bytes: int = MOST_BYTES
    """While there are any, the next body may be read."""

    def take(self, size: int) -> bool:
        """Whether a body of `size` bytes may be read."""
        if self.requests <= 0 or self.bytes <= 0:
            return False
        self.requests -= 1
        self.bytes -= size if size <= MOST_BYTES else 0
        return True


class TraitReader:
    """Reads the traits of requests to one version; in several threads."""

    def __init__(self, schema: Schema | None, example: bytes | None = None) -> None:
        """`example`: the version's input example as a request, JSON; None where it has none."""
        named = schema is not None and not schema.is_tensor_spec() and schema.has_input_names()
        columns = [
            _Column(str(spec.name), _types_of(spec.type))
            for spec in (schema.inputs if schema and named else ())
        ]
        self._alone = columns[0].name if len(columns) == 1 else None
        wanted = _Wanted({column.name: column.types for column in columns}, MOST_ROWS)
        if (
            example is not None
            and len(example) <= _EXAMPLE_BYTES
            and (shown := self._table(Query(example, None), wanted))
        ):
            columns = [column.learned(shown.columns.get(column.name, ())) for column in columns]
        self.columns = columns_within_bounds([column.about for column in columns])
        """Those that are looked at."""
        self.left_out = len(columns) - len(self.columns)
        """How many more the signature has."""
        self._columns = columns[: len(self.columns)]
        self._wanted = _Wanted(
            {column.name: column.types for column in self._columns},
            min(MOST_ROWS, MOST_CELLS // max(len(self._columns), 1)),
        )
        numbers = iter(range(len(trait_table(())), len(trait_table(self.columns))))
        self._numbers = [{kind: next(numbers) for kind in kinds_of(column.about)} for column in self._columns]

    @classmethod
    def of(cls, model: PyFuncModel, directory: str) -> "TraitReader":
        """That of a loaded version, whose files are in `directory`."""
        schema = model.metadata.get_input_schema()
        try:
            example = model.metadata.get_serving_input(directory)
        except Exception:  # noqa: BLE001 - an example that can not be read shows nothing
            example = None
        return cls(schema, None if example is None else example.encode("utf-8", "replace"))

    def complete(
        self,
        queries: Sequence[Query],
        places: Sequence[int],
        answers: Sequence[Answer],
        allowance: Allowance,
    ) -> Sequence[Answer]:
        """The answers to the queries at these places, with the traits that are wanted of them, as far as
        `allowance` goes, which is that of their frame."""
        if not any(queries[place].traits for place in places):
            return answers
        return [
            self._with_traits(queries[place], answer, allowance)
            for place, answer in zip(places, answers, strict=True)
        ]

    def _with_traits(self, query: Query, answer: Answer, allowance: Allowance) -> Answer:
        wanted = query.traits is TraitsWanted.ALWAYS or (query.traits and _looks_faulty(answer))
        if wanted and allowance.take(len(query.body)):
            return replace(answer, traits=self.read(query))
        return answer

    def read(self, query: Query) -> tuple[int, ...]:
        """Numbers of the traits of one request, ascending. Never raises."""
        table = self._table(query, self._wanted) if len(query.body) <= MOST_BYTES else None
        found = [rows_trait(None if table is None else table.rows), content_type_trait(_content_type(query))]
        if table is not None and table.rows:
            for column, numbers in zip(self._columns, self._numbers, strict=True):
                kinds = column.kinds(table.columns.get(column.name))
                found += sorted(numbers[kind] for kind in kinds)
        return tuple(found)

    def _table(self, query: Query, wanted: _Wanted) -> _Table | None:
        """None where the body has no table, or none that is read here."""
        try:
            kind = _content_type(query)
            if kind == "CSV":
                return _csv_table(query.body, wanted)
            if kind in ("JSON", "absent"):
                return self._json_table(_document(query.body), wanted)
            return (
                _tensors(orjson.loads(query.body), wanted) if query.protocol is ScoringProtocol.V2 else None
            )
        except Exception:  # noqa: BLE001 - anyone may send anything, and it was answered already
            return None

    def _json_table(self, document: Any, wanted: _Wanted) -> _Table | None:
        formats = [key for key in SUPPORTED_FORMATS if key in document]
        if len(formats) != 1:
            return None
        value = document[formats[0]]
        if formats[0] == "dataframe_split":
            return _split_table(value, wanted)
        if isinstance(value, dict):
            return None if formats[0] == "dataframe_records" else _mapping(value, wanted)
        if not isinstance(value, list):
            return None
        if formats[0] == "dataframe_records" or (value and isinstance(value[0], dict)):
            return _records(value, wanted)
        if self._alone is None:
            return None
        return _Table(len(value), {self._alone: value[: wanted.rows]})


def _types_of(kind: Any) -> frozenset[type] | None:
    return _JSON_TYPES.get(kind) if type(kind) is DataType else None  # arrays and objects have no hash


def _looks_faulty(answer: Answer) -> bool:
    """Whether the gateway may find the version at fault: also by a refusal, where production answers."""
    return answer.predict_status is not PredictStatus.OK or answer.odd_length or answer.all_nan


def _content_type(query: Query) -> str:
    if query.protocol is ScoringProtocol.V2:
        return "Open Inference Protocol"
    if not query.content_type:
        return "absent"
    return _MEDIA_TYPES.get(query.content_type.partition(";")[0].strip(), "other")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError:  # NaN, a byte order mark, integers beyond 64 bits: Python's parser takes them
        document = json.loads(body, parse_constant=lambda name: None if name == "NaN" else math.inf)
    if not isinstance(document, dict):
        raise TypeError("no object")
    return document


def _first_places(names: Sequence[Any], wanted: _Wanted) -> dict[str, int]:
    """Where each column that is asked for stands first: a body may name one as often as it has room."""
    places: dict[str, int] = {}
    left = set(wanted.types)
    for place, name in enumerate(names):
        try:
            if name in left:
                places[name] = place
                left.remove(name)
        except TypeError:  # JSON may name a column by a list
            continue
    return places


def _split_table(value: Mapping[str, Any], wanted: _Wanted) -> _Table:
    places = _first_places(value["columns"], wanted)
    rows: list[list[Any]] = value["data"]
    first = rows[: wanted.rows]
    return _Table(
        len(rows),
        {
            name: [row[place] if place < len(row) else _ABSENT for row in first]
            for name, place in places.items()
        },
    )


def _records(rows: Sequence[Mapping[str, Any]], wanted: _Wanted) -> _Table:
    first = rows[: wanted.rows]
    present = wanted.types.keys() & set().union(*first)
    return _Table(len(rows), {name: [row.get(name, _ABSENT) for row in first] for name in present})


def _mapping(value: Mapping[str, Any], wanted: _Wanted) -> _Table:
    """Columns by name, each a list of cells or, in a request of one row, a cell."""
    columns = {
        name: cells[: wanted.rows] if isinstance(cells, list) else [cells]
        for name, cells in value.items()
        if name in wanted.types
    }
    return _Table(
        max((len(cells) if isinstance(cells, list) else 1 for cells in value.values()), default=0), columns
    )


def _tensors(document: Mapping[str, Any], wanted: _Wanted) -> _Table:
    """Those of the Open Inference Protocol, whose cells may be nested to one level for each dimension."""
    columns: dict[str, Sequence[Any]] = {}
    rows = 0
    for tensor in document["inputs"]:
        shape = tensor["shape"]
        rows = max(rows, shape[0] if shape else 1)
        if tensor["name"] in wanted.types:
            columns[tensor["name"]] = [
                cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
                for cell in islice(tensor["data"], wanted.rows)
            ]
    return _Table(rows, columns)


def _csv_table(body: bytes, wanted: _Wanted) -> _Table:
    source = io.StringIO(body.decode("utf-8-sig"), newline="")
    lines = csv.reader(source)
    places = _first_places(next(lines), wanted)
    first = list(islice(filter(None, lines), wanted.rows))
    columns = {
        name: _cells([row[place] if place < len(row) else None for row in first], wanted.types[name])
        for name, place in places.items()
    }
    return _Table(len(first) + csv_rows(source.read()), columns)


def csv_rows(text: str) -> int:
    """How many rows `text` has; empty lines are none. 64 KiB of short rows would take a reader 3 ms."""
    if '"' in text:
        return sum(map(bool, csv.reader(io.StringIO(text, newline=""))))
    text = text.replace("\r", "\n")
    while "\n\n" in text:
        text = text.replace("\n\n", "\n")
    return text.count("\n") + (text != "" and not text.endswith("\n")) - text.startswith("\n")


def _cells(texts: Sequence[str | None], types: frozenset[type] | None) -> Sequence[Any]:
    """A column's cells as JSON would have them, in a column of these types; None: a row has none."""
    if types is not None and float in types:
        try:
            numbers = [float(text) for text in texts if text is not None]
        except ValueError:
            pass
        else:  # in one go, which takes a quarter of the time; of a NaN it depends on how it is written
            if len(numbers) == len(texts) and not any(map(math.isnan, numbers)):
                return numbers
    return [None if text is None else _cell(text, types) for text in texts]


def _cell(text: str, types: frozenset[type] | None) -> Any:
    if text in _NULL_CELLS:
        return None
    if types is None or str in types:
        return text
    if bool in types:
        return _BOOLEANS.get(text.lower(), text)
    for number in (float,) if float in types else (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
