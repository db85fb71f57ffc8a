"""Private directories per worker: one it stands in, and one for its temporary files.

The gateway owns them: a worker that is killed removes nothing. So it does for the fork server, the agent and
downloads, which have one for temporary files together.
"""

import fcntl
import itertools
import os
import secrets
import stat
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.processes.disk import Removals, remove_tree

FOLDER = ".w"
"""No registered model has a directory of this name. Short, as all names here: versions bind sockets in these
directories, and the path of a socket has 107 bytes at most, of which multiprocessing's names take 33."""
_WORKING, _TEMPORARY = "w", "t"
LONGEST_PATH = 50
"""Characters of a directory for temporary files, where there is a place for one so short."""
_MOST_TRIES = 100


@dataclass(frozen=True, slots=True)
class WorkerDirectory:
    """What one worker has for itself; all of it is removed at its end."""

    root: Path

    @property
    def working(self) -> Path:
        """It stands here."""
        return self.root / _WORKING

    @property
    def temporary(self) -> Path:
        """Its temporary files."""
        return self.root / _TEMPORARY


def below_system_temporary() -> Path | None:
    """A directory of this user below the system's for temporary files; None where there is none."""
    try:
        return Path(tempfile.gettempdir(), f"canary-router-{os.geteuid()}")
    except OSError:
        return None


class WorkingDirectories:
    """Directories of one gateway's workers, below one that it holds a lock on while it lives.

    Several gateways may share a root: whose lock is free is dead, and what it left is removed.
    """

    def __init__(self, parent: Path, shorter: Path | None = None) -> None:
        """`parent` is made when it is first needed, for this user alone.

        `shorter` is used instead where the paths below `parent` would be longer than `LONGEST_PATH` and those
        below `shorter` are not.
        """
        root = parent / FOLDER
        self._roots = [root] if shorter is None or _fits(root) or not _fits(shorter) else [shorter, root]
        self._mine: tuple[Path, int] | None = None
        self._making = threading.Lock()
        self._numbers = itertools.count(1)
        self._removals = Removals()

    def start(self) -> None:
        """Begin to remove what gateways left that were killed."""
        self._removals.run(self._remove_leftovers)

    def shared_temporary(self) -> Path:
        """For temporary files of every child that holds no version. Raises OSError; blocks as `make` does."""
        directory = self._own() / _TEMPORARY
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def make(self) -> WorkerDirectory:
        """New, empty directories, mode 0700. Raises OSError. Blocks as long as the disk does."""
        directory = WorkerDirectory(self._own() / f"{next(self._numbers):x}")
        for path in (directory.root, directory.working, directory.temporary):
            path.mkdir(mode=0o700)
        return directory

    def remove(self, directory: WorkerDirectory) -> None:
        """Remove what `make` made, soon."""
        self._removals.remove(directory.root)

    async def close(self) -> None:
        """Remove them all, as far as the disk does so in time. Their workers have ended."""
        await self._removals.finish()
        if self._mine is not None:
            (directory, descriptor), self._mine = self._mine, None
            self._removals.remove(directory)
            await self._removals.finish()
            os.close(descriptor)  # what is left goes at the next start of a gateway

    def _own(self) -> Path:
        with self._making:
            if self._mine is None:
                self._mine = self._begin()
            return self._mine[0]

    def _begin(self) -> tuple[Path, int]:
        *preferred, last = self._roots
        for root in preferred:
            with suppress(OSError):
                return _locked_below(root)
        return _locked_below(last)

    def _remove_leftovers(self) -> None:
        for root in self._roots:
            with suppress(OSError):
                for directory in root.iterdir() if _is_private(root) else ():
                    if (descriptor := _locked(directory)) is not None:
                        remove_tree(directory)
                        os.close(descriptor)


def _fits(root: Path) -> bool:
    return len(str(root / "ffff" / "ffff" / _TEMPORARY)) <= LONGEST_PATH


def _locked_below(root: Path) -> tuple[Path, int]:
    """A new directory, and a descriptor that locks it. Raises OSError."""
    for directory in (root.parent, root):  # of several, mkdir gives only the last its mode
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(root):
        raise PermissionError(f"{root} is no directory that this user alone can write to")
    for _ in range(_MOST_TRIES):
        directory = root / secrets.token_hex(2)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            if (descriptor := _locked(directory)) is not None:
                return directory, descriptor
    raise FileExistsError(f"no name is left in {root}")


def _is_private(root: Path) -> bool:
    status = os.lstat(root)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


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
