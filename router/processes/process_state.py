"""Process-wide state that children set for themselves, and do not leave to what a version starts.

A stop of the whole process group is for the gateway, so children ignore it; and what they write is for this
user alone. Both would reach every process that a version starts: one that ignores SIGTERM never ends when it
is asked to. There, signals and umask are as the operator left them, but for the umask of what `os.system` and
`os.posix_spawn` start.
"""

import functools
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_PRIVATE = 0o077
_replaced: list[ModuleType] = []  # kept, because freeing it would clear the globals of functions that run


def ignore_stop_signals() -> None:
    """Have stop signals do nothing here; programs that are started from here get the defaults."""
    for number in IGNORED:
        # Not SIG_IGN, which outlives an exec. A handler does not.
        signal.signal(number, _do_nothing)
        signal.siginterrupt(number, False)  # noqa: FBT003 # and no call of a library fails with EINTR
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # blocked by whoever started us, until now


def write_for_this_user_alone() -> int:
    """Set the umask, and return the operator's."""
    return os.umask(_PRIVATE)


def restore_in_what_is_started(umask: int) -> None:
    """From now on give forked processes the default signals, and all that is started this `umask`.

    What a version sets by itself, a handler or another umask, stays as it is.
    """
    before = threading.local()

    def block() -> None:  # a signal that comes between the fork and its default must not get lost
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def restore() -> None:
        for number in IGNORED:
            if signal.getsignal(number) is _do_nothing:
                default = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)
        if (current := os.umask(umask)) != _PRIVATE:
            os.umask(current)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=restore)
    subprocess.Popen.__init__ = _popen_with(umask, subprocess.Popen.__init__)  # type: ignore[method-assign]
    # Of multiprocessing's spawn and fork server, which do not use Popen.
    starts = multiprocessing.util.spawnv_passfds
    multiprocessing.util.spawnv_passfds = _started_with(umask, starts)


def replace_main_module() -> None:
    """Give this process a `__main__` without a name or a file.

    multiprocessing's spawn imports the parent's `__main__` again, by its name: ours, or what a version has
    there that ships a package `router` too.
    """
    _replaced.append(sys.modules["__main__"])
    sys.modules["__main__"] = ModuleType("__main__")


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """A signal that is ignored."""


def _popen_with(umask: int, init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def init_with_umask(self: Any, *arguments: Any, **options: Any) -> None:
        if options.get("umask", -1) < 0 and _umask() == _PRIVATE:
            options["umask"] = umask
        init(self, *arguments, **options)

    return init_with_umask


def _started_with(umask: int, start: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(start)
    def start_with_umask(*arguments: Any, **options: Any) -> int:
        if _umask() != _PRIVATE:
            return start(*arguments, **options)
        os.umask(umask)  # for a millisecond of this process too, as there is no other way to pass it on
        try:
            return start(*arguments, **options)
        finally:
            os.umask(_PRIVATE)

    return start_with_umask


def _umask() -> int:
    """This process's, without setting it, which other threads would notice; -1 where that is not possible."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith(b"Umask:"))
    except (OSError, StopIteration):
        return -1
