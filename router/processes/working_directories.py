"""A private working directory per worker. The gateway owns it: a worker that is killed removes nothing."""

import asyncio
import fcntl
import itertools
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_FOLDER = ".w"
"""No registered model has a directory of this name. Short: a version may bind a socket in its own directory,
and the path of a socket has 107 bytes at most."""
_MOST_TRIES = 100


class WorkingDirectories:
    """Directories of one gateway's workers, below one that it holds a lock on while it lives.

    Several gateways may share a root: whose lock is free is dead, and what it left is removed.
    """

    def __init__(self, parent: Path) -> None:
        """`parent` is made when it is first needed, for this user alone."""
        self._root = parent / _FOLDER
        self._mine: tuple[Path, int] | None = None
        self._making = threading.Lock()
        self._numbers = itertools.count(1)
        self._removals: set[asyncio.Future[None]] = set()

    def start(self) -> None:
        """Begin to remove what gateways left that were killed."""
        self._in_thread(self._remove_leftovers)

    def make(self) -> Path:
        """A new, empty directory, mode 0700. Raises OSError. Blocks as long as the disk does."""
        with self._making:
            if self._mine is None:
                self._mine = self._begin()
        directory = self._mine[0] / str(next(self._numbers))
        directory.mkdir(mode=0o700)
        return directory

    def remove(self, directory: Path) -> None:
        """Remove what `make` made, soon."""
        self._in_thread(_remove, directory)

    async def close(self) -> None:
        """Remove them all. Their workers have ended."""
        if self._removals:
            await asyncio.wait(self._removals)
        if self._mine is not None:
            (directory, descriptor), self._mine = self._mine, None
            await asyncio.to_thread(_remove, directory)
            os.close(descriptor)

    def _in_thread(self, work: Callable[..., None], *arguments: Path) -> None:
        removal = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def _begin(self) -> tuple[Path, int]:
        for directory in (self._root.parent, self._root):  # of several, mkdir gives only the last its mode
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(self._root)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(f"{self._root} is no directory that this user alone can write to")
        for _ in range(_MOST_TRIES):
            directory = self._root / secrets.token_hex(2)
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                if (descriptor := _locked(directory)) is not None:
                    return directory, descriptor
        raise FileExistsError(f"no name is left in {self._root}")

    def _remove_leftovers(self) -> None:
        with suppress(OSError):
            for directory in self._root.iterdir():
                if (descriptor := _locked(directory)) is not None:
                    _remove(directory)
                    os.close(descriptor)


def _locked(directory: Path) -> int | None:
    """A descriptor that locks `directory`; None when another gateway holds that lock, or has removed it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Made a moment ago, it had no lock yet: whoever took it for a leftover has removed it.
        if os.path.samestat(os.fstat(descriptor), os.stat(directory)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():  # a version took its own rights away
        for folder, names, _ in os.walk(_opened(str(directory))):
            for name in names:
                _opened(os.path.join(folder, name))  # before os.walk reads what is in it
        shutil.rmtree(directory, ignore_errors=True)


def _opened(folder: str) -> str:
    if not os.path.islink(folder):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    return folder
