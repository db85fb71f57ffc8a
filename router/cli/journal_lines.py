"""Lines of journals, read from a gateway's own files or from its log, one at a time."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson

from router.adapters.config.file import load_settings
from router.adapters.state.directory import directories_in_use
from router.adapters.state.journal_files import journal_files
from router.cli.journal_text import plain
from router.core.journal import DamagedLine, Entry, decode, digest_of, line_of_log
from router.core.journal_chain import Chains, Follows, Line

LONGEST_LINE = 16 << 20
"""Bytes; what is longer is no line of a gateway."""
_BEGIN = b'{"format":'
"""Of each line of a journal file; a line of a log begins with its time or with what a collector put there."""
_LOOKED_AT = 1 << 16
_OF_LOG = frozenset({"event", "level", "timestamp", "digest", "logger"})
_WRAPPED = ("log", "message", "msg", "line")
"""Where collectors put the line that they found."""
_LAYERS = 3


class NoJournal(Exception):
    """There is nothing to read, or it can not be read; the message says what."""


def files_of(config_path: Path, given: Sequence[Path]) -> list[Path]:
    """The files that are `given`, else those of the journal that the configuration's gateway writes, oldest
    first. Raises NoJournal and ConfigRefused."""
    if given:
        return list(given)
    directory = load_settings(config_path, os.environ, {}).settings.state_directory(os.environ)
    if directory is None:
        raise NoJournal("this user has no home directory, where the state directory is: name files instead")
    try:
        files = [path for used in directories_in_use(directory) for path in journal_files(used)]
    except OSError as error:
        raise NoJournal(f"{directory} can not be read: {error.strerror or error}") from error
    if not files:
        elsewhere = "it is on the gateway's machine, and in its log, which may be named as a file"
        raise NoJournal(f"no gateway of this configuration has written a journal in {directory}: {elsewhere}")
    return files


def lines_of(files: Sequence[Path]) -> Iterator[Line]:
    """The lines of journals in `files`, in that order. Raises NoJournal where one can not be read."""
    names = _short_names(files)
    for path in files:
        try:
            with path.open("rb", buffering=_LOOKED_AT) as file:
                yield from _lines(file, names[path])
        except OSError as error:
            raise NoJournal(f"{path} can not be read: {error.strerror or error}") from error


def by_time(files: Iterable[Path]) -> list[Path]:
    """`files` in the order of their first lines, as far as they are files and have one."""

    def first_at(path: Path) -> float:
        for line in lines_of([path]):
            with suppress(DamagedLine):
                return decode(line.raw)[0].at
        return 0.0

    several = list(dict.fromkeys(files))
    # What is no file, such as a pipe, can be read once only.
    if len(several) == 1 or not all(path.is_file() for path in several):
        return several
    return sorted(several, key=first_at)


@dataclass(slots=True)
class Entries:
    """Entries of journals, with what is wrong with them; to be read once."""

    files: Sequence[Path]
    read: int = 0
    """Entries so far."""
    damage: str = ""
    """The first sentence about damage so far."""
    damaged: int = 0
    """How many places are damaged."""

    def __iter__(self) -> Iterator[tuple[Entry, int]]:
        """Each entry that can be read, with the number of its chain. Raises NoJournal."""
        chains = Chains()
        for line in lines_of(self.files):
            try:
                entry, prev = decode(line.raw)
            except DamagedLine as error:
                if not line.torn:
                    self._damaged(f"{line}: {error}")
                continue
            digest = line.logged_digest or digest_of(line.raw)
            if line.logged_digest is not None and digest in chains.heads:
                continue  # logs are copied with overlaps
            chain, follows = chains.place(prev, digest, entry)
            if follows is Follows.ANOTHER:
                self._damaged(f"{line}: it does not follow the last line of {entry.gateway}")
            self.read += 1
            yield entry, chain

    def warn(self) -> None:
        """Print to standard error what is wrong, and how to learn more."""
        if self.damaged:
            more = f", and {self.damaged - 1} places more" if self.damaged > 1 else ""
            sentence = plain(f"the journal is damaged, so this may be wrong: {self.damage}{more};")
            click.echo(sentence, err=True)
            click.echo("`canary-router journal verify` lists all", err=True)

    def _damaged(self, sentence: str) -> None:
        self.damaged += 1
        self.damage = self.damage or sentence


def read_journal(
    config_path: Path, given: Sequence[Path], take_all: Callable[[Iterable[tuple[Entry, int]]], None]
) -> bool:
    """Have `take_all` take every entry, with the number of its chain; returns False where there is none.

    Reads the files that are `given`, else the configuration's; prints to standard error what is wrong with
    them. Raises ConfigRefused.
    """
    try:
        files = files_of(config_path, given)
        entries = Entries(by_time(files))
        take_all(entries)
    except NoJournal as error:
        click.echo(str(error), err=True)
        return False
    entries.warn()
    if not entries.read:
        click.echo(f"no line of a journal in {', '.join(map(str, files))}", err=True)
    return bool(entries.read)


def require_model(model: str, known: Collection[str]) -> None:
    """Raise a usage error for a `model` that is not among those `known` by a journal."""
    if model not in known:
        sentence = f"no model {model!r} in this journal; there are: {', '.join(sorted(known))}"
        raise click.UsageError(plain(sentence))


def _lines(file: BinaryIO, name: str) -> Iterator[Line]:
    begin = file.peek(_LOOKED_AT)  # type: ignore[attr-defined]  # buffered files have it, their type does not
    of_journal = begin.startswith(_BEGIN) or b"\n" + _BEGIN in begin
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        torn = not raw.endswith(b"\n")
        if torn and len(raw) == LONGEST_LINE:
            torn = not _skip_line(file)
        if of_journal:
            yield Line(name, number, raw.removesuffix(b"\n"), torn)
        elif (logged := _logged(raw)) is not None:
            yield Line(name, number, logged[0], logged_digest=logged[1])


def _skip_line(file: BinaryIO) -> bool:
    """Skip the rest of a line; whether it has an end."""
    while part := file.readline(_LOOKED_AT):
        if part.endswith(b"\n"):
            return True
    return False


def _logged(raw: bytes) -> tuple[bytes, str] | None:
    """The journal line in a line of a log, and its digest by the log; None for all other lines."""
    if b"journal" not in raw:
        return None
    document = _document(raw)
    for _ in range(_LAYERS):
        if document is None or document.get("event") == "journal":
            break
        inner = next((text for name in _WRAPPED if isinstance(text := document.get(name), str)), "")
        document = _document(inner.encode())
    if document is None or document.get("event") != "journal":
        return None
    digest = document.get("digest")
    try:
        return line_of_log(document), str(digest)
    except DamagedLine:  # kept as it is, so that it is found where damage is looked for
        line = orjson.dumps({name: value for name, value in document.items() if name not in _OF_LOG})
        return line, digest if isinstance(digest, str) else digest_of(line)


def _document(raw: bytes) -> Mapping[str, Any] | None:
    # Collectors put times and names in front of a line.
    with suppress(ValueError):
        document = orjson.loads(raw[max(raw.find(b"{"), 0) :])
        if isinstance(document, dict):
            return document
    return None


def _short_names(files: Sequence[Path]) -> Mapping[Path, str]:
    """The last part of each path, where that is enough to distinguish them."""
    ends = {path.name for path in files}
    unique = len(ends) == len(set(files))
    return {path: path.name if unique else str(path) for path in files}
