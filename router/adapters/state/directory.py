"""The directory itself: whose it is, and who writes to it. All of this blocks as long as the disk does."""

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

LOCK = "lock"
CAPS_LOCK = "caps.lock"
CAPS_LOCK_SECONDS = 1.0
"""For another gateway to finish writing its caps: it takes milliseconds."""
MOST_SET_ASIDE = 5
"""Files that were set aside and are kept; beyond it the oldest go."""
_ASIDE = ".set-aside-"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LONGEST_HOLDER = 300
_AGAIN_SECONDS = 0.01


def own_directory(named: Path) -> Path:
    """The directory that is this user's alone, made with mode 0700 where it is not there.

    It is the one that was `named`; or, where that is somebody else's, or others may write to it, such as a
    volume that its group may write to, one in it named by the user id. Raises OSError, also where others may
    write to what gateways of this user used before: what it holds may be theirs, and must not be forgotten.
    """
    named.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    named.mkdir(mode=0o700, exist_ok=True)
    if _is_private(named):
        return named
    if os.lstat(named).st_uid == os.geteuid() and os.path.lexists(named / LOCK):
        raise PermissionError(errno.EPERM, "others may write to it")
    own = named / str(os.geteuid())
    own.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(own):
        raise PermissionError(errno.EPERM, "others may write to it")
    return own


def directories_in_use(named: Path) -> list[Path]:
    """Where gateways that were given `named` keep their state, of this user or of another one."""
    candidates = [named]
    with suppress(OSError):
        candidates += sorted(path for path in named.iterdir() if path.name.isdecimal())
    return [path for path in candidates if os.path.lexists(path / LOCK)]


def _is_private(directory: Path) -> bool:
    status = os.lstat(directory)
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return ours and not status.st_mode & _OTHERS_MAY_WRITE


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a plain file, of that mode where it is made; follows no link and waits for no pipe."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file")
    return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`. Raises OSError, maybe with a part of it written."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def replace_file(path: Path, content: bytes, new: Path) -> None:
    """Have `content` at `path`, where a reader finds it or what was there before, and no part of either.

    It is written as `new` first, in the same directory: a name that nobody else uses at the same time, so
    that what a process left there that was killed is written over. Raises OSError.
    """
    descriptor = open_file(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(descriptor)
    os.rename(new, path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have names that were made, renamed or removed in `directory` outlive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> str:
    """Rename `path`, which holds what can not be read here, and return its new name. Raises OSError."""
    aside = path.with_name(f"{path.name}{_ASIDE}{time.time_ns()}")
    path.rename(aside)
    sync_directory(path.parent)
    former = sorted(path.parent.glob(f"*{_ASIDE}*"), key=lambda one: one.name.rpartition("-")[2])
    for oldest in former[:-MOST_SET_ASIDE]:
        with suppress(OSError):
            oldest.unlink()
    return aside.name


class WriterLock:
    """Whoever holds it writes the journal. It ends with the process, however that ends."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name` is what others read of who holds it, such as `gw-1:4711`."""
        self._path = directory / LOCK
        self._name = name
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours, as far as we know."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Whether it is ours from now on. Raises OSError."""
        if self._descriptor is None and (descriptor := _locked(self._path)) is not None:
            _write_name(descriptor, self._name)
            self._descriptor = descriptor
        return self.held

    def holder(self) -> str:
        """Who holds it, as that one says, or held it last; empty when nobody knows. Raises OSError."""
        descriptor = open_file(self._path, os.O_RDONLY)
        try:
            text = os.read(descriptor, _LONGEST_HOLDER).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
        return "".join(filter(str.isprintable, text.partition("\n")[0]))

    def check(self) -> None:
        """Raises OSError where the file that we hold is no longer the one that others would take."""
        if self._descriptor is not None and not _is_still(self._path, self._descriptor):
            raise OSError(errno.ESTALE, "the lock was removed")

    def release(self) -> None:
        """Give it up; without effect where it is not ours."""
        if self._descriptor is not None:
            # The name stays: whoever finds it locked a moment before this must not find nobody.
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class CapsLock:
    """Held while a gateway reads, merges and writes the caps, whichever of them writes the journal."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / CAPS_LOCK
        self._descriptor = -1

    def __enter__(self) -> None:
        """Take it. Raises OSError, also when another gateway does not give it up in time."""
        ends_at = time.monotonic() + CAPS_LOCK_SECONDS
        while (descriptor := _locked(self._path)) is None:
            if time.monotonic() > ends_at:
                raise OSError(errno.EBUSY, "another gateway is writing them")
            time.sleep(_AGAIN_SECONDS)
        self._descriptor = descriptor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it up."""
        os.close(self._descriptor)


def _write_name(descriptor: int, name: str) -> None:
    """Say whose the lock is, in the place of whose it was: whoever reads meanwhile finds one or the other."""
    text = name.encode()
    try:
        os.pwrite(descriptor, text + b"\n", 0)  # what follows is of a longer name
        os.ftruncate(descriptor, len(text))
    except OSError:  # on a full disk it is ours without a name
        with suppress(OSError):
            os.ftruncate(descriptor, 0)


def _locked(path: Path) -> int | None:
    """A descriptor that locks the file at `path`, made where it is not there.

    None when another gateway holds that lock, or somebody emptied the directory meanwhile. Raises OSError.
    """
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
