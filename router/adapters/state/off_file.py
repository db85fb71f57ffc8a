"""The file `canary-off` of a state directory: while it is there, every canary is off.

The gateway notes beside it that they are off: so they still are after a restart, where somebody removed the
file and nobody resumed.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from router.adapters.state.directory import open_file, own_directory, sync_directory
from router.control.break_glass import OffRequest
from router.core.caps import LONGEST_REASON

NAME = "canary-off"
_NOTE = "canary-off.held"
_FILE_MODE = 0o644
"""Below a directory that is private: whoever made it, the gateway may read why."""


class OffFile:
    """That file; what it holds is a line for people, and may be empty. All methods block for a moment."""

    def __init__(self, named: Path | None, why_none: str) -> None:
        """`named` is the state directory of the configuration; None where there is none, and `why_none`."""
        self._named = named
        self._why_none = why_none
        # As `own_directory` has it: where `named` is not ours alone the state is below it, and who makes the
        # file by hand need not know that.
        self._places = () if named is None else (named, named / str(os.geteuid()))

    @property
    def path(self) -> Path:
        """Where it is looked for first."""
        return Path(NAME) if self._named is None else self._named / NAME

    def read(self) -> OffRequest | None:
        """Where it is, and its first line, of 500 printable characters at most; None when it is nowhere.

        Whatever has that name counts, also what can not be read. Raises OSError where nobody knows.
        """
        for place in self._places:
            if _exists(path := place / NAME):
                return OffRequest(path, _first_line(path))
        return None

    def make(self, line: str) -> None:
        """Make it, with its directory, to outlive a crash; one that is there stays. Raises OSError."""
        make_off_file(self._own(), line)

    def is_held(self) -> bool:
        """Whether the gateway that was here last had every canary off when it ended. Raises OSError."""
        return any(_exists(place / _NOTE) for place in self._places)

    def hold(self) -> None:
        """Note that every canary is off. Raises OSError."""
        _make(self._own() / _NOTE, "")

    def release(self) -> None:
        """Note that somebody resumed. Raises OSError."""
        for place in self._places:
            if _exists(note := place / _NOTE):
                note.unlink(missing_ok=True)
                sync_directory(place)

    def _own(self) -> Path:
        if self._named is None:
            raise OSError(errno.ENOENT, self._why_none)
        return own_directory(self._named)


def make_off_file(directory: Path, line: str) -> Path:
    """Make it in `directory`, which is there, to outlive a crash; one that is there stays. Raises OSError."""
    _make(directory / NAME, line)
    return directory / NAME


def _first_line(path: Path) -> str:
    try:
        # Others may make it where `named` is not ours alone, and the line is shown: a link to a file that
        # only we can read, such as a token, must not be followed.
        with open(open_file(path, os.O_RDONLY), "rb") as file:
            lines = file.read(4 * LONGEST_REASON).decode("utf-8", "replace").splitlines()
    except OSError:  # a directory, say, a link, or another user's: it is there
        return ""
    return "".join(filter(str.isprintable, lines[0]))[:LONGEST_REASON] if lines else ""


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _make(path: Path, line: str) -> None:
    try:
        descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:
        return
    with open(descriptor, "wb", buffering=0) as file:
        with suppress(OSError):  # a full disk often has room for a name, and that is all it takes
            file.write(f"{line}\n".encode())
        os.fsync(file.fileno())
    sync_directory(path.parent)
