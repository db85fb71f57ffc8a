"""Tables in files, in chunks of rows: Parquet, CSV and JSON lines, each also as a directory of such files."""

import gzip
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from router.gate.errors import DataRefused

MOST_COLUMNS = 10_000
MOST_FILES = 10_000
CHUNK_ROWS = 10_000
_CHUNK_CELLS = 2_000_000
_FEWEST_ROWS = 100
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_TOO_MANY_VALUES = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")

Stamp = tuple[tuple[int, int, int], ...]
"""Of each file its size in bytes, when it was changed in nanoseconds, and its number."""


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table, all of one format and with the same columns."""

    path: Path
    """A file, or a directory of files."""
    files: tuple[Path, ...]
    """In the order of their names."""
    format: str
    columns: tuple[str, ...]
    stamp: Stamp
    """As the files were when they were opened."""

    def chunks(
        self, columns: Sequence[str] | None = None, text: Collection[str] = ()
    ) -> Iterator[pd.DataFrame]:
        """Its rows in order, `columns` of them or all, at most CHUNK_ROWS at once.

        `text`: columns that are texts in a CSV even where they look like numbers. Raises DataRefused.
        """
        wanted = self.columns if columns is None else tuple(columns)
        rows = max(_FEWEST_ROWS, min(CHUNK_ROWS, _CHUNK_CELLS // len(self.columns)))
        read = _READERS[self.format]
        for file in self.files:
            if file is not self.files[0] and _columns(file, self.format) != self.columns:
                raise DataRefused(f"{file.name} has other columns than {self.files[0].name} has")
            with _Translated(file):
                for chunk in read(file, self.columns, wanted, frozenset(text), rows):
                    if len(chunk):
                        yield chunk

    def digest(self) -> str:
        """SHA-256 in hex: of one file as `sha256sum` prints it, of several of their digests and names.

        Raises DataRefused where one of them changed after it was opened.
        """
        digests = []
        for file in self.files:
            with _Translated(file), open(file, "rb") as stream:
                digests.append((file_digest(stream, "sha256").hexdigest(), file.name))
        if stamp_of(self.files) != self.stamp:
            raise DataRefused(f"{self.path} changed while it was read")
        if self.path.is_file():
            return digests[0][0]
        return sha256("".join(f"{digest}  {name}\n" for digest, name in digests).encode()).hexdigest()


def open_table(path: Path) -> TableFiles:
    """Find the files of a table and its columns. Raises DataRefused."""
    files = _files(path)
    formats = {_format(file) for file in files}
    if len(formats) > 1:
        raise DataRefused(f"{path} has files of several formats: {', '.join(sorted(formats))}")
    (kind,) = formats
    stamp = stamp_of(files)
    columns = _columns(files[0], kind)
    if not columns:
        raise DataRefused(f"{path} is empty")
    if len(columns) > MOST_COLUMNS:
        raise DataRefused(f"{path} has {len(columns)} columns, more than the {MOST_COLUMNS} that are read")
    twice = (
        sorted({name for name in columns if columns.count(name) > 1})
        if len(set(columns)) < len(columns)
        else []
    )
    if twice:
        raise DataRefused(f"{path} has two columns of the name {twice[0]}")
    return TableFiles(path, files, kind, columns, stamp)


def stamp_of(files: Sequence[Path]) -> Stamp:
    """What shows that a file was changed."""
    found = []
    for file in files:
        with _Translated(file):
            status = file.stat()
        found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataRefused(f"there is no file {path}")
    # As Spark writes a table: beside its parts stand files such as _SUCCESS and .part-0.crc.
    found = sorted(each for each in path.iterdir() if each.is_file() and each.name[0] not in "._")
    if not found:
        raise DataRefused(f"the directory {path} has no files")
    if len(found) > MOST_FILES:
        raise DataRefused(
            f"the directory {path} has {len(found)} files, more than the {MOST_FILES} that are read"
        )
    return tuple(found)


def _format(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        compressed = True
    else:
        compressed = False
    kind = _FORMATS.get(suffixes[-1]) if suffixes else None
    if kind is None or (compressed and kind == "parquet"):
        raise DataRefused(
            f"{file.name} has none of the endings that are read: .parquet, .csv, .jsonl (the last two .gz)"
        )
    return kind


class _Translated:
    """Whatever a reader of tables raises about `file` becomes DataRefused, with one sentence."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if (
            error is None
            or isinstance(error, (DataRefused, GeneratorExit))
            or not isinstance(error, Exception)
        ):
            return
        raise DataRefused(f"{self._file.name} {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    if isinstance(error, pd.errors.EmptyDataError):
        return "is empty"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    if found := _TOO_MANY_VALUES.search(str(error)):
        return f"has {found[3]} values in line {found[2]}, more than its {found[1]} columns"
    if isinstance(error, pd.errors.ParserWarning):
        return "has more values in its first row than columns in its header"
    if isinstance(error, OSError) and error.strerror:
        return f"can not be read: {error.strerror}"
    return f"can not be read: {' '.join(str(error).split())[:200]}"


def _columns(file: Path, kind: str) -> tuple[str, ...]:
    with _Translated(file):
        return _COLUMNS[kind](file)


# Parquet


def _parquet_columns(file: Path) -> tuple[str, ...]:
    import pyarrow.parquet as pq  # a third of a second that the other formats do not need

    with pq.ParquetFile(file) as opened:
        return tuple(opened.schema_arrow.names)


def _parquet_chunks(
    file: Path, _: Sequence[str], wanted: Sequence[str], __: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False) as opened:
        # A column at any depth: `columns` of pyarrow would take `a` for all of `a.b`, too.
        for batch in opened.iter_batches(rows, columns=list(wanted)):
            table = pa.Table.from_batches([batch])
            yield table.to_pandas(ignore_metadata=True)[list(wanted)]


# CSV


def _csv_columns(file: Path) -> tuple[str, ...]:
    header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False)
    return tuple(name or f"Unnamed: {place}" for place, name in enumerate(header.iloc[0]))


def _csv_chunks(
    file: Path, columns: Sequence[str], wanted: Sequence[str], text: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    # Without `usecols`, with which pandas takes lines of too many values, and texts in other encodings.
    texts = {name: str for name in columns if name in text}
    options: dict[str, Any] = {
        "index_col": False,
        "dtype": texts,
        "low_memory": False,
    }
    with pd.read_csv(file, names=list(columns), header=0, chunksize=rows, **options) as reader:
        while True:
            with warnings.catch_warnings():
                # Of a first row with more values than the header has columns, pandas only warns.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                if (chunk := next(reader, None)) is None:
                    return
            yield chunk[list(wanted)]


# JSON lines


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    opening: Any = gzip.open if file.suffix.lower() == ".gz" else open
    with opening(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise DataRefused(f"{file.name} has no JSON in line {number}: {error.msg}") from error
            if not isinstance(row, dict):
                raise DataRefused(f"{file.name} has no object in line {number}")
            yield row


def _json_columns(file: Path) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for row in islice(_json_lines(file), _FEWEST_ROWS):
        names.update(dict.fromkeys(row))
    return tuple(names)


def _json_chunks(
    file: Path, columns: Sequence[str], wanted: Sequence[str], _: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    lines = _json_lines(file)
    known = frozenset(columns)
    while batch := list(islice(lines, rows)):
        for row in batch:
            if not known.issuperset(row):
                raise DataRefused(
                    f"{file.name} has the key {min(row.keys() - known)[:100]} in some of its lines,"
                    f" which none of the first {_FEWEST_ROWS} has"
                )
        yield pd.DataFrame.from_records(
            [[row.get(name) for name in wanted] for row in batch], columns=list(wanted)
        )


_COLUMNS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "parquet": _parquet_columns,
    "csv": _csv_columns,
    "jsonl": _json_columns,
}
_READERS: dict[str, Callable[..., Iterator[pd.DataFrame]]] = {
    "parquet": _parquet_chunks,
    "csv": _csv_chunks,
    "jsonl": _json_chunks,
}
