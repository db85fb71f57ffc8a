"""The journal's files: numbered, appended to, bounded. Blocks as long as the disk does."""

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.adapters.state.directory import open_file, set_aside, sync_directory, write_all
from router.control.journal import ChainEnd
from router.core.journal import BEGINNING, DamagedLine, decode, digest_of

FOLDER = "journal"
MOST_FILES = 20
"""Of a directory; beyond it the oldest go."""
LONGEST_LINE = 4 << 20
"""Bytes; what is longer is no line of ours."""
_NAME = re.compile(r"(\d{8})\.jsonl")
_NUMBERED = re.compile(r"(\d{8})\.jsonl.*")
_ROOM = 1 << 18
"""Bytes that have to fit on the disk before lines are written again: else every try would end in the middle
of one."""
_PROBE = "room"


@dataclass(frozen=True, slots=True)
class OpenedJournal:
    """Where the chain ends, and what was wrong with the last file."""

    end: ChainEnd
    cut: int = 0
    """Bytes of a torn last line, which were cut off."""
    set_aside: str = ""
    """New name of a last file whose last line could not be read; empty where it could."""
    unreadable: str = ""
    """Why it could not."""


def journal_files(directory: Path) -> list[Path]:
    """The journal's files in a state directory, oldest first, without those that were set aside."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [path for path in (directory / FOLDER).iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name)
    return []


class JournalFiles:
    """Appends lines. Only the gateway that has the directory's lock uses one: `open`, `append`…, `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / FOLDER
        self._path = self._folder
        self._descriptor: int | None = None
        self._size = 0

    def open(self) -> OpenedJournal:
        """Continue where the last gateway ended. Raises OSError, also when the disk has no room."""
        self.close()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._require_room()
        began, cut = self._began(), 0
        while kept := journal_files(self._directory):
            last = kept[-1]
            line, torn = _last_line(last)
            cut += torn
            if line is None:
                last.unlink()  # its first line never was whole
                continue
            head = digest_of(line)
            try:
                if len(line) > LONGEST_LINE:
                    raise DamagedLine("its last line is too long")
                decode(line)
            except DamagedLine as error:
                return OpenedJournal(ChainEnd(head, 0, began), cut, set_aside(last), str(error))
            self._continue(last)
            return OpenedJournal(ChainEnd(head, self._size, began), cut)
        return OpenedJournal(ChainEnd(BEGINNING, 0, None), cut)

    def append(self, line: bytes, *, begins_file: bool, sync: bool) -> None:
        """Write `line`; with `sync` it outlives a crash of the machine. Raises OSError, then `open` again."""
        try:
            if begins_file or self._descriptor is None:
                self._begin()
            assert self._descriptor is not None
            write_all(self._descriptor, line + b"\n")
            self._size += len(line) + 1
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            self._take_back()
            raise

    def check(self) -> None:
        """Raises OSError where the file that is written to is no longer in its place."""
        if self._descriptor is not None and not os.path.samestat(
            os.fstat(self._descriptor), os.lstat(self._path)
        ):
            raise OSError(errno.ESTALE, "the file was replaced")

    def close(self) -> None:
        """Write no more."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)

    def _require_room(self) -> None:
        probe = self._folder / _PROBE
        descriptor = open_file(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(descriptor, bytes(_ROOM))
            os.fsync(descriptor)  # some file systems find only here that there is no room
        finally:
            os.close(descriptor)
            with suppress(OSError):
                probe.unlink()

    def _began(self) -> float | None:
        for oldest in journal_files(self._directory)[:1]:
            with suppress(OSError, DamagedLine), open(open_file(oldest, os.O_RDONLY), "rb") as file:
                return decode(file.readline(LONGEST_LINE).rstrip(b"\n"))[0].at
        return None

    def _continue(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_file(path, os.O_WRONLY | os.O_APPEND)
        self._size = os.fstat(self._descriptor).st_size

    def _begin(self) -> None:
        self.close()
        numbers = [int(found[1]) for name in os.listdir(self._folder) if (found := _NUMBERED.fullmatch(name))]
        self._path = self._folder / f"{max(numbers, default=0) + 1:08d}.jsonl"
        self._size = 0
        self._descriptor = open_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        sync_directory(self._folder)
        for oldest in journal_files(self._directory)[:-MOST_FILES]:
            with suppress(OSError):
                oldest.unlink()

    def _take_back(self) -> None:
        """Leave no part of a line; where that fails, too, the next `open` does it."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
        self.close()


def _last_line(path: Path) -> tuple[bytes | None, int]:
    """The last whole line, without its end, or None; and how many bytes after it were cut off."""
    descriptor = open_file(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        begin = max(0, size - 2 * LONGEST_LINE)
        tail = _read(descriptor, begin, size - begin)
        end = tail.rfind(b"\n") + 1
        if not end and begin:
            return tail, 0  # no line of ours is so long, so nothing here is ours to cut
        if cut := len(tail) - end:
            os.ftruncate(descriptor, size - cut)
            os.fsync(descriptor)
        return (tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1] if end else None), cut
    finally:
        os.close(descriptor)


def _read(descriptor: int, begin: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, begin)):
        parts.append(part)
        begin, size = begin + len(part), size - len(part)
    return b"".join(parts)
