"""Replacing a file in one step: written beside, synced, renamed, with the owner and mode it had."""

import errno
import os
import stat
import tempfile
from pathlib import Path

from router.adapters.config.file import ConfigFile
from router.errors import ConfigRefused

_REASONS = {
    errno.EROFS: "is on a read-only file system; change it where it comes from",
    errno.EBUSY: "is mounted by itself and can not be replaced; change it where it comes from",
    errno.EACCES: "may not be replaced by this user",
    errno.EPERM: "may not be replaced by this user",
    errno.ENOSPC: "can not be written: the disk is full",
}


def replace_file(file: ConfigFile, old: bytes, new: bytes) -> None:
    """Put `new` in place of `old`. Raises ConfigRefused, and leaves the file as it was, when that fails.

    Whoever reads the file meanwhile reads all of the one or all of the other.
    """
    target = Path(os.path.realpath(file.path))
    # Kubernetes keeps a mounted ConfigMap under names such as ..2026_11_20_09_00_00.12 and replaces it whole.
    if any(part.startswith("..") for part in target.parts):
        raise _refused(file, "is mounted from a ConfigMap; change the ConfigMap")
    try:
        status = target.stat()
        # The rename would not mind, but whoever took the right to write away meant it, from root too.
        if not status.st_mode & 0o222:
            raise _refused(file, "is read-only; give it the right to be written first")
        if file.read() != old:
            raise _refused(file, "was changed by somebody else meanwhile; try again")
        _replace(target, status, new)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"can not be replaced: {error.strerror}")
        raise _refused(file, reason) from error


def _replace(target: Path, status: os.stat_result, new: bytes) -> None:
    descriptor, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(new)
            file.flush()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            os.fsync(descriptor)
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # else a power cut may bring the old name back
    finally:
        os.close(directory)


def _refused(file: ConfigFile, sentence: str) -> ConfigRefused:
    return ConfigRefused([f"{file.path.name}: {sentence}"])
