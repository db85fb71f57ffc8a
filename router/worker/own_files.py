"""The files that a worker loads: the copy that all workers load, which is read-only, or one of its own."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from router.worker.error_chain import chain

_RESERVE_BYTES = 64 << 20
_MOST_FILES = 10_000
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)
_READ_ONLY = re.compile(r"\bread-?only (?:database|file)", re.IGNORECASE)
"""As SQLite words it, and others that name no file."""
WRITES = "`writable: true` of its registered model gives each worker a copy of its own"

FileStates = dict[str, tuple[int, int, int]]
"""Size, time of the last change in nanoseconds, and number of each file by its path."""


def copy_for_this_worker(directory: str, into: str) -> None:
    """Copy the version in `directory` to the new directory `into`, to be written to. Raises OSError.

    A hard link would not do: what is written to one is written to the other.
    """
    size = sum(state[0] for state in file_states(directory).values())
    if size > shutil.disk_usage(directory).free - _RESERVE_BYTES:
        raise OSError(errno.ENOSPC, f"a copy of its own takes {size >> 20} MiB, which are not free")
    shutil.copytree(directory, into, symlinks=True)
    for folder, _, names in os.walk(into):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o600)


def file_states(directory: str) -> FileStates:
    """Of the files below `directory`; of the first ten thousand, where there are more."""
    states: FileStates = {}
    for path in _paths(directory):
        if len(states) >= _MOST_FILES:
            break
        try:
            status = os.lstat(path)
        except OSError:
            continue
        states[path] = status.st_size, status.st_mtime_ns, status.st_ino
    return states


def changed_since(directory: str, before: FileStates) -> list[str]:
    """Names below `directory` of the files of `before` that are not as they were, or are gone."""
    now = file_states(directory)
    return sorted(
        os.path.relpath(path, directory) for path, state in before.items() if now.get(path) != state
    )


def was_refused(error: BaseException | None, directory: str) -> bool:
    """Whether `error`, or what it was raised from, is that a file below `directory` may not be written."""
    return any(_refuses(one, directory) for one in chain(error))


def _refuses(error: BaseException, directory: str) -> bool:
    if isinstance(error, OSError) and error.errno in _REFUSALS and directory in str(error.filename):
        return True
    text = str(error)
    return bool(_READ_ONLY.search(text)) or ("Permission denied" in text and directory in text)


def _paths(directory: str) -> Iterator[str]:
    for folder, _, names in os.walk(directory):
        yield from (os.path.join(folder, name) for name in names)
