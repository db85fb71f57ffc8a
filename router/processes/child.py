"""Children and what starts them: a child is its process, its socket, its lifeline and what it prints."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Protocol

from router.core.environment_variables import child_environment
from router.core.ids import VersionId
from router.errors import ChildLost
from router.processes.memory import Rank, set_rank
from router.processes.output import LineSink, Output, OutputRouter
from router.processes.process import Exit, kill_group
from router.processes.shared_memory import SharedMemory
from router.protocol.connection import ChildConnection

BLOCKED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""What a process starts with blocked, some milliseconds until it ignores them itself: they would end it."""
_LAST_FRAMES_SECONDS = 0.5
_KILL_SECONDS = 5.0
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import router; del sys.path[0];"
    " from router.processes.forkserver_main import main; main(sys.argv[2:], ['worker'])"
)
"""Starts our part where this package is not installed.

The directory is on `sys.path` for one import: a package finds its modules by itself. So no library that is
imported later sees it there, nor does a version, or what a version starts. It comes first for that one
import, because something named `router` may be installed in that environment.
"""


@dataclass(frozen=True, slots=True)
class ChildPython:
    """A Python that children run under."""

    path: str = sys.executable
    """Absolute, and as it is: a virtual environment is recognised by where the link to its Python lies."""
    package_directory: Path | None = None
    """None: this package is installed there, as it is for our own. Else `path` is `…/bin/python` of a virtual
    environment that was made for a version, where workers alone run, and this is a directory with nothing in
    it but a link `router` to this package."""

    def command(self, *arguments: str) -> list[str]:
        """Program and arguments that run `forkserver_main` with these arguments."""
        # -P, because a directory `router` where the operator stands is not this package.
        if self.package_directory is None:
            return [self.path, "-P", "-m", "router.processes.forkserver_main", *arguments]
        return [self.path, "-P", "-c", _START, str(self.package_directory), *arguments]

    def environment(self, temporary: Path | None) -> dict[str, str]:
        """Variables of such a process; its temporary files are in `temporary`, None: where ours are."""
        venv = None if self.package_directory is None else PurePath(self.path).parents[1]
        return child_environment(os.environ, temporary, venv)


OWN_PYTHON = ChildPython()


class ProcessHandle(Protocol):
    """A process that this one started and can end."""

    @property
    def pid(self) -> int:
        """Its number, to show."""

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Done when it has ended."""

    def kill(self) -> None:
        """SIGKILL; nothing happens when it has ended."""


class Child:
    """A process that exchanges frames with this one.

    Whoever launched it stops it. `kill` and `stop` may be called at any time, and more than once.
    """

    def __init__(self, role: str, process: ProcessHandle, pipes: "ChildPipes") -> None:
        self.pid = process.pid
        self.connection = pipes.connection
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """Done when it has ended and all it sent was handed out. Shield it where it is awaited."""
        self._process = process
        self._pipes = pipes
        self._shared_memory: SharedMemory | None = None
        self._ended_by_us = False
        process.exited.add_done_callback(self._process_ended)
        # A version is loading from here on; all other children are helpers.
        self.set_rank(Rank.FIRST if role == "worker" else Rank.HELPER)

    @property
    def running(self) -> bool:
        """False once its exit status was read: after that, another process may have its number."""
        return not self._process.exited.done()

    def kill(self) -> None:
        """SIGKILL through its pidfd: never another process, nothing when it has ended."""
        self._ended_by_us = True
        if self._shared_memory is not None:
            self._shared_memory.look()
        self._process.kill()

    def track(self, shared_memory: SharedMemory) -> None:
        """Have shared memory that it leaves behind removed."""
        self._shared_memory = shared_memory
        shared_memory.watch(self)
        self.exited.add_done_callback(lambda _exited: shared_memory.ended(self))

    def set_rank(self, rank: Rank) -> None:
        """How early the kernel ends it when memory runs out; nothing happens when it has ended."""
        if self.running:
            set_rank(self.pid, rank)

    def requests_started(self) -> None:
        """What it prints from now on may hold what callers sent."""
        if self._pipes.output is not None:
            self._pipes.output.requests_started()

    async def stop(self, grace_seconds: float) -> Exit:
        """Close its socket, which ends an idle child, and kill it when it outlives the grace."""
        self._ended_by_us = True
        if self._shared_memory is not None:
            self._shared_memory.look()
        self.connection.abort()
        try:
            await asyncio.wait({self.exited}, timeout=grace_seconds)
        finally:
            self.kill()
        # A process in an uninterruptible sleep outlives its SIGKILL; nobody waits for that.
        await asyncio.wait({self.exited}, timeout=_KILL_SECONDS)
        return self.exited.result() if self.exited.done() else Exit()

    def _process_ended(self, _exited: asyncio.Future[Exit]) -> None:
        self._pipes.close_lifeline()
        # What it sent before it ended comes first, so that the first unanswered request is the one that ran.
        # A process that it started may keep the socket open: then no end of file comes.
        time_limit = asyncio.get_running_loop().call_later(_LAST_FRAMES_SECONDS, self.connection.abort)
        self.connection.lost.add_done_callback(lambda _lost: self._finish(time_limit))

    def _finish(self, time_limit: asyncio.TimerHandle) -> None:
        time_limit.cancel()
        self._pipes.close_output()  # what it printed last, before anybody learns that it ended
        if not self.exited.done():
            output = self._pipes.output
            cause = "" if output is None else output.cause
            ended = replace(self._process.exited.result(), reason=self.connection.refused, cause=cause)
            if output is not None and not self._ended_by_us and ended.code != 0:
                output.report_death(str(ended))
            self.exited.set_result(ended)


class ChildPipes:
    """What connects us with a child: its socket, its lifeline and its output, with both ends of each.

    A child is killed by the kernel when the write end of its lifeline, which is ours alone, is closed.
    """

    def __init__(self, sink: LineSink | None = None) -> None:
        """Without a `sink` a child prints where we do. Raises OSError when no descriptor is left."""
        self.connection = ChildConnection()
        self.output: Output | None = None
        self._read_end, self._write_end = os.pipe()
        try:
            self._ours, self._theirs = socket.socketpair()
        except OSError:
            os.close(self._read_end)
            os.close(self._write_end)
            raise
        if sink is not None:
            try:
                self.output = Output(sink)
            except OSError:
                self._ours.close()
                self.close_theirs()
                self.close_lifeline()
                raise

    async def connect(self) -> None:
        """Start to read our end of the socket."""
        self._ours.settimeout(0)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.connection, sock=self._ours)

    def theirs(self) -> tuple[int, ...]:
        """The child's descriptors: socket, read end of the lifeline and, where it is read, its output."""
        output = () if self.output is None else (self.output.theirs,)
        return self._theirs.fileno(), self._read_end, *output

    def close_theirs(self) -> None:
        """Close our copies of the child's ends, without which no end of file reaches us."""
        self._theirs.close()
        if self.output is not None:
            self.output.close_theirs()
        if self._read_end >= 0:
            os.close(self._read_end)
            self._read_end = -1

    def close_lifeline(self) -> None:
        """End the child if it still runs."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def close_output(self) -> None:
        """Read what the child printed until now, and no more."""
        if self.output is not None:
            self.output.close()

    def close(self) -> None:
        """Close all of them."""
        self.close_theirs()
        self.close_lifeline()
        self.close_output()
        if self.connection.connected:
            self.connection.abort()  # closes the socket with its transport
        else:
            self._ours.close()


async def start_child(
    role: str, start: Callable[[tuple[int, ...]], Awaitable[ProcessHandle]], sink: LineSink | None = None
) -> Child:
    """A child whose process `start` made of the descriptors it is given. Raises ChildLost.

    Whatever goes wrong on the way, no descriptor stays open.
    """
    try:
        pipes = ChildPipes(sink)
    except OSError as error:  # no descriptor left
        raise ChildLost(f"no {role} can be started: {error.strerror}") from error
    try:
        await pipes.connect()
        process = await start(pipes.theirs())
    except OSError as error:  # no descriptor left, no memory, no process slot
        pipes.close()
        raise ChildLost(f"no {role} can be started: {error.strerror}") from error
    except BaseException:
        pipes.close()
        raise
    finally:
        pipes.close_theirs()
    return Child(role, process, pipes)


class Launcher(Protocol):
    """Starts one child per call; the children end with this process."""

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role` (worker, agent or fetch) that waits for its first frame.

        `modules` are worth importing once for all children, where they can share them; `version`, where the
        child is about one, is logged beside what it prints.
        Raises ChildLost when it cannot be started, ChildTimeout when that takes too long.
        """

    @property
    def start_bytes(self) -> int:
        """Memory that the next launch takes beside that of its child: what has to be started for it first."""

    async def close(self) -> None:
        """Start no more. Children that run are for their owners to stop."""


class SpawnLauncher:
    """A fresh interpreter per child, for systems without pidfds (macOS): the launcher without a fork server.

    Each is READY seconds later than from a fork server, and no memory is shared.
    """

    start_bytes = 0
    """Nothing has to be started before a child."""

    def __init__(
        self,
        outputs: OutputRouter | None = None,
        temporary: Path | None = None,
        interpreter: ChildPython = OWN_PYTHON,
    ) -> None:
        """Without `outputs` children print where this process does; `temporary` is for temporary files."""
        self._outputs = outputs
        self._temporary = temporary
        self._interpreter = interpreter
        self._open = True

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role`, which waits for its first frame and imports by itself. Raises ChildLost."""
        if not self._open:
            raise ChildLost(f"no {role} can be started: the launcher is closed")

        async def spawned(theirs: tuple[int, ...]) -> ProcessHandle:
            return _Spawned(role, theirs, self._temporary, self._interpreter)

        sink = self._outputs.sink_for(role, version) if self._outputs is not None else None
        return await start_child(role, spawned, sink)

    async def close(self) -> None:
        """Start no more."""
        self._open = False


class _Spawned:
    """A direct child, waited for in a thread."""

    def __init__(
        self, role: str, theirs: tuple[int, ...], temporary: Path | None, interpreter: ChildPython
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)  # it inherits what is blocked here
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own module
                interpreter.command("child", role, *map(str, theirs)),
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                env=interpreter.environment(temporary),
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pid = self._popen.pid
        self._waiting = threading.Lock()
        threading.Thread(target=self._wait, name=f"wait for {self.pid}", daemon=True).start()

    def kill(self) -> None:
        """SIGKILL, for it and what it started; nothing happens when it has ended."""
        with self._waiting:
            if self._popen.returncode is None:
                kill_group(self.pid)

    def _wait(self) -> None:
        if hasattr(os, "waitid"):  # not on macOS: there, what it started outlives one that ends by itself
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with self._waiting:
                kill_group(self.pid)
                status = self._popen.wait()
        else:
            status = self._popen.wait()
        how = Exit(code=status) if status >= 0 else Exit(signal=-status)
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._report, how)

    def _report(self, how: Exit) -> None:
        if not self.exited.done():
            self.exited.set_result(how)
