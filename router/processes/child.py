"""A launched child: its process, its socket, its lifeline and what it prints, which end together."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from router.errors import ChildLost
from router.processes.oom_score import Rank, set_rank
from router.processes.output import LineSink, Output
from router.processes.process import Exit
from router.protocol.connection import Connection

_LAST_WORDS_SECONDS = 0.5
_KILL_SECONDS = 5.0


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
    """One process that speaks frames with this one."""

    def __init__(self, role: str, process: ProcessHandle, ends: "ChildPipes") -> None:
        self.role = role
        self.pid = process.pid
        self.connection = ends.connection
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """Done when it has ended and all it sent was handed out. Shield it when you await it."""
        self._process = process
        self._ends = ends
        process.exited.add_done_callback(self._process_ended)
        # A version is loading from here on; all other children are helpers.
        self.set_rank(Rank.FIRST if role == "worker" else Rank.HELPER)

    def kill(self) -> None:
        """SIGKILL through its pidfd: never another process, nothing when it has ended."""
        self._process.kill()

    def set_rank(self, rank: Rank) -> None:
        """How early the kernel ends it when memory runs out; nothing happens when it has ended."""
        if not self._process.exited.done():  # after that, another process may have its number
            set_rank(self.pid, rank)

    def requests_come(self) -> None:
        """What it prints from now on may hold what callers sent."""
        if self._ends.output is not None:
            self._ends.output.requests_come()

    async def close(self, grace_seconds: float) -> Exit:
        """Close its socket, which ends an idle child, and end it when it outlives the grace."""
        self.connection.abort()
        try:
            await asyncio.wait({self.exited}, timeout=grace_seconds)
        finally:
            self.kill()
        # A process in an uninterruptible sleep outlives its SIGKILL; nobody waits for that.
        await asyncio.wait({self.exited}, timeout=_KILL_SECONDS)
        return self.exited.result() if self.exited.done() else Exit()

    def _process_ended(self, _exited: asyncio.Future[Exit]) -> None:
        self._ends.close_lifeline()
        # What it sent before it ended comes first, so that the first unanswered request is the one that ran.
        # A process that it started may keep the socket open: then no end of file comes.
        impatient = asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self.connection.abort)
        self.connection.lost.add_done_callback(lambda _lost: self._settle(impatient))

    def _settle(self, impatient: asyncio.TimerHandle) -> None:
        impatient.cancel()
        self._ends.close_output()  # its last words, before anybody is told that it ended
        if not self.exited.done():
            self.exited.set_result(replace(self._process.exited.result(), reason=self.connection.refused))


class ChildPipes:
    """The ends of what connects us with a child: of its socket, of its lifeline, of its output."""

    def __init__(self, ear: LineSink | None = None) -> None:
        """Without an `ear` a child prints where we do. Raises OSError when no descriptor is left."""
        self.connection = Connection()
        self.output: Output | None = None
        self._read_end, self._write_end = os.pipe()
        try:
            self._ours, self._theirs = socket.socketpair()
        except OSError:
            os.close(self._read_end)
            os.close(self._write_end)
            raise
        if ear is not None:
            try:
                self.output = Output(ear)
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
        """The child's descriptors: socket, read end of the lifeline and, where it is heard, its output."""
        heard = () if self.output is None else (self.output.theirs,)
        return self._theirs.fileno(), self._read_end, *heard

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
        """Hear what the child printed, and no more."""
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


async def bring_up(
    role: str, start: Callable[[tuple[int, ...]], Awaitable[ProcessHandle]], ear: LineSink | None = None
) -> Child:
    """A child whose process `start` made of the descriptors it is given. Raises ChildLost.

    Whatever goes wrong on the way, no descriptor stays open.
    """
    try:
        ends = ChildPipes(ear)
    except OSError as error:  # no descriptor left
        raise ChildLost(f"no {role} can be started: {error.strerror}") from error
    try:
        await ends.connect()
        process = await start(ends.theirs())
    except OSError as error:  # no descriptor left, no memory, no process slot
        ends.close()
        raise ChildLost(f"no {role} can be started: {error.strerror}") from error
    except BaseException:
        ends.close()
        raise
    finally:
        ends.close_theirs()
    return Child(role, process, ends)
