"""Processes held by their pidfd, never by their number: ended and waited for, also those that others left."""

import asyncio
import ctypes
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.errors import SubreaperRefused
from router.processes.memory import MEMORY

_PR_SET_CHILD_SUBREAPER = 36
_FIRST_RETRY_SECONDS = 0.001
_LONGEST_RETRY_SECONDS = 0.1
_RETRIES = 100  # nearly ten seconds in all: on a busy machine the process between us ends late


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; neither is known when somebody else read its exit status."""

    code: int | None = None
    signal: int | None = None
    reason: str = ""
    """Why this process ended it, where it did so for what the other one sent."""
    cause: str = ""
    """The exception that ended it, as it reported itself: type, module and line."""
    out_of_memory: bool = False
    """True when the kernel ended it for want of memory, as far as that can be known."""
    lost: str = ""
    """Why a version that runs elsewhere counts as ended; empty for processes."""

    def __str__(self) -> str:
        if self.lost:
            return f"its readiness was lost: {self.lost}"
        how = self._how()
        if self.reason:
            return f"{how}; it sent {self.reason}"
        if self.out_of_memory:
            return f"{how}; the kernel was out of memory"
        return f"{how}; {self.cause}" if self.cause else how

    def _how(self) -> str:
        if self.signal is not None:
            name = signal.Signals(self.signal).name if self.signal in set(signal.Signals) else "unnamed"
            return f"signal {self.signal} ({name})"
        return f"exit code {self.code}" if self.code is not None else "unknown exit"


def become_subreaper() -> None:
    """Make this process the parent of its orphaned descendants. Raises SubreaperRefused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise SubreaperRefused(
            f"prctl(PR_SET_CHILD_SUBREAPER) failed: {reason}. Workers could not be waited for;"
            " allow prctl in the seccomp profile of this container."
        )
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Some supervisors start their programs so; then the kernel throws exit statuses away.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def forbid_core_dumps() -> None:
    """From now on neither this process nor those that it starts leave their memory behind when they crash.

    The limit is one byte and not none: that is no file either, and by it alone the kernel also starts no
    program such as systemd-coredump, to which limits do not apply otherwise.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    least = 1 if hard == resource.RLIM_INFINITY or hard >= 1 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def kill_group(leader: int) -> None:
    """End what a child of ours started, as far as it did not leave the group (setsid, setpgid).

    Only while `leader` is a child of ours that nobody has waited for: so long, no other group has its number.
    """
    with suppress(ProcessLookupError, PermissionError):  # it led none yet; all of it runs as somebody else
        os.killpg(leader, signal.SIGKILL)


class Process:
    """A descendant that is, or is about to be, a child of this process."""

    def __init__(self, pid: int, pidfd: int, *, leads_group: bool = False) -> None:
        """Takes `pidfd` over and closes it. When it ends, the process group it leads is ended too."""
        self.pid = pid
        self._leads_group = leads_group
        self._pidfd: int | None = pidfd
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        """Shield it where it is awaited: cancelling it would take it from everybody."""
        self._loop.add_reader(pidfd, self._ended, pidfd)

    def kill(self) -> None:
        """SIGKILL; nothing happens when it has ended."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):  # ended, and not waited for yet
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        self._reap(pidfd, 0)

    def _reap(self, pidfd: int, tries: int) -> None:
        # The pidfd speaks at once; the status becomes ours when the process between us has ended (ECHILD
        # before), and may arrive after the event (None).
        try:
            if self._leads_group and os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                kill_group(self.pid)
            status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            status = None
        if status is None and tries < _RETRIES:
            delay = min(_FIRST_RETRY_SECONDS * 2**tries, _LONGEST_RETRY_SECONDS)
            self._loop.call_later(delay, self._reap, pidfd, tries + 1)
            return
        self._pidfd = None
        os.close(pidfd)
        if self.exited.done():
            return
        if status is None:
            self.exited.set_result(Exit())
        elif status.si_code == os.CLD_EXITED:
            self.exited.set_result(Exit(code=status.si_status))
        else:
            killed = status.si_status == signal.SIGKILL
            self.exited.set_result(Exit(signal=status.si_status, out_of_memory=killed and MEMORY.ended_one()))


LOOKS = 5
"""Looks that a dead process must be seen in before its status is read. A child of ours is waited for
through its pidfd within three seconds; what is dead longer is not ours."""


class Reaper:
    """Reads the exit statuses of processes that others left to this one, as subreaper or as PID 1."""

    def __init__(self) -> None:
        self._dead: dict[int, int] = {}

    async def tick(self) -> None:
        """One look, a second after the former one."""
        if not _somebody_is_dead():
            self._dead.clear()
            return
        self._dead = {pid: self._dead.get(pid, 0) + 1 for pid in _dead_children()}
        for pid in [pid for pid, looks in self._dead.items() if looks >= LOOKS]:
            del self._dead[pid]
            with suppress(ChildProcessError):  # somebody waited for it after all
                _read_status(pid)


def _somebody_is_dead() -> bool:
    # WNOWAIT leaves the status where it is: it may be a child whose owner is about to read it.
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # there is no child at all
        return False


def _read_status(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _dead_children() -> list[int]:
    pids = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in _children(task)]
    return [pid for pid in pids if _is_dead(pid)]


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:  # the thread has ended
        return []


def _is_dead(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # The name in parentheses may hold anything, so the state is looked for behind the last one.
    return stat.rpartition(b")")[2].split()[:1] == [b"Z"]
