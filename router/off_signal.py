"""SIGUSR2, which asks for every canary to be off. It is caught from the program's first line on.

Without a handler the signal ends a process, and a process with the number 1 loses it. So it is caught before
anything else is imported, which takes a good part of a second, and this module imports next to nothing.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType

_came = False
_follower: Callable[[], object] | None = None


def catch() -> None:
    """Note the signal from now on, in place of ending this process; `follow` says what it then does.

    Only in the main thread. What this process starts has the default: an exec resets a handler.
    """
    if sys.platform == "win32":  # no such signal, and no gateway
        return
    signal.signal(signal.SIGUSR2, _note)
    signal.siginterrupt(signal.SIGUSR2, False)  # noqa: FBT003 # and no call of a library fails with EINTR
    # Whoever started us may have blocked it, so that none is lost before this line.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])


def follow(on_signal: Callable[[], object]) -> Callable[[], None]:
    """Call `on_signal` at each signal from now on, and once now if one came before; returns what ends that.

    It is called in the middle of whatever the main thread does, so it should only have something done later,
    as `loop.call_soon_threadsafe` does. It may be called once too often.
    """
    global _follower
    _follower = on_signal
    if _came:
        on_signal()
    return _follow_no_more


def _follow_no_more() -> None:
    global _follower
    _follower = None


def _note(_number: int, _frame: FrameType | None) -> None:
    global _came
    _came = True
    if _follower is not None:
        _follower()
