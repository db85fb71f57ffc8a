"""CSV bodies whose lines are read the same alone as below those of others, told by their text.

pandas converts a column at a time: one cell that is no plain number of its kind sends the whole column
through another conversion. Beside `1.0`, an integer beyond 2**53 loses digits; beside `0`, `True` is no
boolean. And one open quote makes one cell of the lines that follow. So the text of each cell has to be of the
plainest form of its column's kind. Nothing is converted here: that remains MLflow's and pandas' own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO

from mlflow.pyfunc.scoring_server import parse_csv_input
from mlflow.types import DataType, Schema

LARGEST_BODY = 1 << 14
"""Bytes. To look at the cells of more costs about what is saved by reading it with others."""
HEADERS = 256
"""How many are remembered, with what they ask of the cells below; bounded, because callers invent them."""
# Possessive: a body that is not plain is given up at once, however it was made.
_CELL = rb'("(?:[^"\r\n\0]|"")*+"|[^,"\r\n\0]*+)(,|\r?\n)'
_CELLS = re.compile(_CELL)
"""A cell, whole in quotes or without any, and what ends it."""
_LINES = re.compile(rb"(?:%b)*+" % _CELL)
_BLANK = re.compile(rb"\n[ \t]|\n\r?\n")
"""What pandas may skip, or strip, at the start of a line."""
# No larger ones: pandas would overflow, and refuse the column or convert it anew by Python's code.
_FLOAT = rb"(?:-?[0-9]{1,25}(?:\.[0-9]{0,25})?(?:[eE][+-]?[0-9]{1,2})?|-?inf|nan|NaN)?"
_INTEGER = rb"-?(?:[0-9]{1,9}|1[0-9]{9}|20[0-9]{8})"
_LONG = rb"-?[0-9]{1,18}"
_BOOLEAN = rb"(?:True|TRUE|true|False|FALSE|false)"
_TEXT: re.Pattern[bytes] | None = None  # any cell is a text, or missing


def _all(cell: bytes) -> re.Pattern[bytes]:
    # Not possessive: before Python 3.11.5 that fails where a cell matches at its second try. No cell has a
    # comma in it, so there is one way only to match, and it is soon known that there is none.
    return re.compile(rb"(?:%b,)*%b" % (cell, cell))


_PLAIN = {
    DataType.string: _TEXT,
    DataType.binary: _TEXT,
    DataType.boolean: _all(_BOOLEAN),
    DataType.integer: _all(_INTEGER),
    DataType.long: _all(_LONG),
    DataType.float: _all(_FLOAT),
    DataType.double: _all(_FLOAT),
}
"""Cells with commas between them that a column of this type takes by its first conversion."""


@dataclass(frozen=True, slots=True)
class CsvLines:
    """One plain CSV body, taken apart."""

    header: bytes
    lines: bytes
    """All after the header, each ended by a line feed."""
    rows: int
    """Lines, at least one."""


@dataclass(frozen=True, slots=True)
class _Columns:
    width: int
    asked: tuple[tuple[re.Pattern[bytes], tuple[int, ...]], ...]
    """Which cells, by their places in the line, have to be of which form."""

    def rows(self, found: list[tuple[bytes, bytes]]) -> int:
        """Rows of these cells, each beside what ends it; 0 where they are not plain."""
        width = self.width
        cells, ends = zip(*found, strict=True)
        rows, beyond = divmod(len(found), width)
        if beyond or b"," in ends[width - 1 :: width] or ends.count(b",") != rows * (width - 1):
            return 0
        for form, places in self.asked:
            asked = cells if len(places) == width else [cell for i in places for cell in cells[i::width]]
            if form.fullmatch(b",".join(asked)) is None:
                return 0
        return rows


class PlainCsv:
    """Tells which CSV bodies to one version are plain."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._types = {spec.name: spec.type for spec in schema.inputs}
        self._required = frozenset(schema.required_input_names())
        self._columns = lru_cache(HEADERS)(self._columns_below)

    @staticmethod
    def of(schema: Schema | None) -> "PlainCsv | None":
        """None where the signature does not give every column a name and a type of its own.

        pandas would infer types from the cells, and other cells may have others infer.
        """
        if schema is None or not schema.inputs or schema.is_tensor_spec() or not schema.has_input_names():
            return None
        if not all(isinstance(kind, DataType) for kind in schema.input_types()):
            return None
        names = schema.input_names()
        return PlainCsv(schema) if len(set(names)) == len(names) else None

    def lines(self, body: bytes) -> CsvLines | None:
        """The body taken apart; None where it has to be read alone. Never raises."""
        header, feed, lines = body.partition(b"\n")
        if not lines or len(body) > LARGEST_BODY or lines.endswith(b"\r"):
            return None
        if (columns := self._columns(header)) is None or not _is_text(lines):
            return None
        if not lines.endswith(b"\n"):
            lines += feed
        if _BLANK.search(body, len(header)) or not _LINES.fullmatch(lines):
            return None
        rows = columns.rows(_CELLS.findall(lines))
        return CsvLines(header, lines, rows) if rows else None

    def _columns_below(self, header: bytes) -> _Columns | None:
        try:
            text = header.decode()
            table = parse_csv_input(StringIO(f"{text}\n"), self._schema)
        except Exception:  # noqa: BLE001 - MLflow's own code tells each caller what is wrong with it
            return None
        told = text.removesuffix("\r").split(",")
        names = [name or f"Unnamed: {place}" for place, name in enumerate(told)]
        # What pandas calls otherwise is quoted, stands twice, or has something around it.
        if table.columns.tolist() != names or not self._required.issubset(names):
            return None
        asked: dict[re.Pattern[bytes], list[int]] = {}
        for place, name in enumerate(names):
            if (kind := self._types.get(name)) is None:
                continue  # MLflow leaves it out, whatever pandas inferred
            if kind not in _PLAIN or table.dtypes.iloc[place] != kind.to_pandas():
                return None  # a date, which pandas refuses; or a type that did not come from the signature
            if (form := _PLAIN[kind]) is not None:
                asked.setdefault(form, []).append(place)
        return _Columns(len(names), tuple((form, tuple(places)) for form, places in asked.items()))


def stacked(parts: Iterable[CsvLines]) -> bytes:
    """One body with the lines of bodies of one header."""
    first, *others = parts
    return b"".join((first.header, b"\n", first.lines, *(part.lines for part in others)))


def _is_text(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
