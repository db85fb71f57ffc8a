"""CSV requests that came together, read at once: pandas takes as long for one line as for a hundred.

Only where each line is read the same alone as below those of others, which the text of its cells shows.
pandas converts a column at a time: one cell that is not a plain number of its kind sends the whole column
through another conversion. Beside `1.0`, an integer beyond 2**53 loses digits; beside `0`, `True` is not a
boolean. And one open quote makes one cell of the lines that follow. So the text of each cell has to be of the
plainest form of its column's kind. Nothing is converted here: MLflow and pandas do that.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO

from mlflow.pyfunc.scoring_server import parse_csv_input
from mlflow.types import DataType, Schema

from router.protocol.messages import Query, ScoringProtocol
from router.worker.decode.request_decoder import DecodedRequest, RequestDecoder

MOST_BYTES = 1 << 19
"""Bytes of a body that is read for several requests. pandas reads so few cells in one piece; of a larger body
each piece could get types of its own."""
LARGEST_BODY = 1 << 14
"""Bytes of a body that is read with others: to look at the cells of a larger one costs what it saves."""
CACHED_HEADERS = 256
"""How many headers are cached, with what they ask of the cells below; bounded: callers invent them."""
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
    # comma in it, so there is only one way to match, and a failure is found at once.
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
class PlainBody:
    """One plain CSV body, taken apart."""

    header: bytes
    lines: bytes
    """All after the header, each ended by a line feed."""
    rows: int
    """Lines, at least one."""


@dataclass(frozen=True, slots=True)
class _CellForms:
    width: int
    required: tuple[tuple[re.Pattern[bytes], tuple[int, ...]], ...]
    """Which cells, by their places in the line, have to be of which form."""

    def rows(self, found: list[tuple[bytes, bytes]]) -> int:
        """Rows of these cells, each beside what ends it; 0 where they are not plain."""
        width = self.width
        cells, ends = zip(*found, strict=True)
        rows, beyond = divmod(len(found), width)
        if beyond or b"," in ends[width - 1 :: width] or ends.count(b",") != rows * (width - 1):
            return 0
        for form, places in self.required:
            required = cells if len(places) == width else [cell for i in places for cell in cells[i::width]]
            if form.fullmatch(b",".join(required)) is None:
                return 0
        return rows


class PlainCsv:
    """Recognises the plain CSV bodies to one version."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._types = {spec.name: spec.type for spec in schema.inputs}
        self._required = frozenset(schema.required_input_names())
        self._forms = lru_cache(CACHED_HEADERS)(self._forms_below)

    @staticmethod
    def of(schema: Schema | None) -> "PlainCsv | None":
        """None where the signature does not give every column a name and a type.

        Then pandas infers types from the cells, and those of one request could change another's.
        """
        if schema is None or not schema.inputs or schema.is_tensor_spec() or not schema.has_input_names():
            return None
        if not all(isinstance(kind, DataType) for kind in schema.input_types()):
            return None
        names = schema.input_names()
        return PlainCsv(schema) if len(set(names)) == len(names) else None

    def parse(self, body: bytes) -> PlainBody | None:
        """The body taken apart; None where it has to be read alone. Never raises."""
        header, feed, lines = body.partition(b"\n")
        if not lines or len(body) > LARGEST_BODY or lines.endswith(b"\r"):
            return None
        if (forms := self._forms(header)) is None or not _is_text(lines):
            return None
        if not lines.endswith(b"\n"):
            lines += feed
        if _BLANK.search(body, len(header)) or not _LINES.fullmatch(lines):
            return None
        rows = forms.rows(_CELLS.findall(lines))
        return PlainBody(header, lines, rows) if rows else None

    def _forms_below(self, header: bytes) -> _CellForms | None:
        try:
            text = header.decode()
            table = parse_csv_input(StringIO(f"{text}\n"), self._schema)
        except Exception:  # noqa: BLE001 - read alone, each gets MLflow's own error
            return None
        cells = text.removesuffix("\r").split(",")
        names = [name or f"Unnamed: {place}" for place, name in enumerate(cells)]
        # A name that pandas reads otherwise is quoted, stands twice, or has something around it.
        if table.columns.tolist() != names or not self._required.issubset(names):
            return None
        required: dict[re.Pattern[bytes], list[int]] = {}
        for place, name in enumerate(names):
            if (kind := self._types.get(name)) is None:
                continue  # MLflow leaves it out, whatever pandas inferred
            if kind not in _PLAIN or table.dtypes.iloc[place] != kind.to_pandas():
                return None  # a date, which pandas refuses; or a type that did not come from the signature
            if (form := _PLAIN[kind]) is not None:
                required.setdefault(form, []).append(place)
        return _CellForms(len(names), tuple((form, tuple(places)) for form, places in required.items()))


def concatenated(parts: Iterable[PlainBody]) -> bytes:
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


_Group = list[tuple[int, PlainBody]]
"""Requests that are read at once, each by its place."""


class CsvBatchDecoder:
    """Reads CSV requests to one version at once, where that changes none of them."""

    def __init__(self, decoder: RequestDecoder) -> None:
        self._decoder = decoder
        self._plain = None if decoder.has_type_hints else PlainCsv.of(decoder.schema)

    def decode(self, queries: Sequence[Query]) -> dict[int, DecodedRequest]:
        """Those requests, by place, that were read with others; others are to be read alone. Never raises."""
        decoded: dict[int, DecodedRequest] = {}
        if self._plain is not None and len(queries) > 1:
            for content_type, group in self._groups(queries, self._plain):
                decoded.update(self._read(content_type, group))
        return decoded

    def _groups(self, queries: Sequence[Query], plain: PlainCsv) -> Iterator[tuple[str, _Group]]:
        alike: dict[tuple[str, bytes], list[int]] = {}
        for place, query in enumerate(queries):
            if (content_type := _csv_type(query)) is not None and len(query.body) <= LARGEST_BODY:
                header = query.body.partition(b"\n")[0]
                alike.setdefault((content_type, header), []).append(place)
        for (content_type, _), places in alike.items():
            group: _Group = []
            size = 0
            for place in places if len(places) > 1 else ():
                query = queries[place]
                if (lines := plain.parse(query.body)) is None or lines.rows > (query.max_rows or lines.rows):
                    continue
                if size + len(query.body) > MOST_BYTES:
                    yield content_type, group
                    group, size = [], 0
                group.append((place, lines))
                size += len(query.body)
            yield content_type, group

    def _read(self, content_type: str, group: _Group) -> dict[int, DecodedRequest]:
        if len(group) < 2:
            return {}
        body = concatenated(lines for _, lines in group)
        try:
            whole = self._decoder.decode(Query(body, content_type))
        except Exception:  # noqa: BLE001 - read alone, each gets the error of its own
            return {}
        if not isinstance(whole, DecodedRequest) or whole.key is None:
            return {}
        if whole.rows != sum(lines.rows for _, lines in group):
            return {}
        data, params = whole.data, whole.params
        return {
            place: DecodedRequest(lines.rows, whole.key, None, data, params, shares_data=True)
            for place, lines in group
        }


def _csv_type(query: Query) -> str | None:
    content_type = query.content_type
    if query.protocol is not ScoringProtocol.MLFLOW or content_type is None:
        return None
    return content_type if content_type.startswith("text/csv") else None
