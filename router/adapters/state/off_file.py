"""The file `canary-off` of a state directory: while it is there, every canary is off.

The gateway notes beside it that they are off: so they still are after a restart, where somebody removed the
file and nobody resumed.
"""

import os
from contextlib import suppress
from pathlib import Path

from router.core.caps import LONGEST_REASON

NAME = "canary-off"
_NOTE = "canary-off.held"
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class OffFile:
    """That file; what it holds is a line for people, and may be empty. All methods block for a moment."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self._note = directory / _NOTE

    def read(self) -> str | None:
        """Its first line, of 500 printable characters at most; None when it is not there.

        Whatever has that name counts, also what can not be read. Raises OSError where nobody knows.
        """
        if not _exists(self.path):
            return None
        with suppress(OSError):  # a directory, say, or another user's: it is there
            # Opening a named pipe would otherwise wait until somebody writes into it.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                lines = file.read(4 * LONGEST_REASON).decode("utf-8", "replace").splitlines()
                return "".join(filter(str.isprintable, lines[0]))[:LONGEST_REASON] if lines else ""
        return ""

    def make(self, line: str) -> None:
        """Make it, with its directory, to outlive a crash; one that is there stays. Raises OSError."""
        _make(self.path, line)

    def is_held(self) -> bool:
        """Whether the gateway that was here last had every canary off when it ended. Raises OSError."""
        return _exists(self._note)

    def hold(self) -> None:
        """Note that every canary is off. Raises OSError."""
        _make(self._note, "")

    def release(self) -> None:
        """Note that somebody resumed. Raises OSError."""
        if _exists(self._note):
            self._note.unlink(missing_ok=True)
            _sync(self._note.parent)


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _make(path: Path, line: str) -> None:
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, _FILE_MODE)
    except FileExistsError:
        return
    with open(descriptor, "wb", buffering=0) as file:
        with suppress(OSError):  # a full disk often has room for a name, and that is all it takes
            file.write(f"{line}\n".encode())
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
