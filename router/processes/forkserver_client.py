"""One template process, from its start to its end."""

import asyncio
import fcntl
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from router.core.ids import VersionId
from router.errors import ChildLost
from router.processes.child import Child, bring_up
from router.processes.environment import child_environment
from router.processes.oom_score import Rank, set_rank
from router.processes.output import Output, OutputRouter
from router.processes.process import Exit, Process

_MESSAGE_BYTES = 4096
_REPLY_SECONDS = 10.0
_IMPORT_SECONDS = 60.0
_CONTROL, _LIFELINE = 3, 4  # the descriptors' numbers in the template


class ForkServer:
    """A started template: fork requests out, pidfds in. It is not restarted; `Template` starts another."""

    def __init__(self, modules: Sequence[str] = (), listener: OutputRouter | None = None) -> None:
        """Start the process; its imports, `modules` too, go on beside us for two seconds or more."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when it can fork; ChildLost when it ended before."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when its socket is closed and every launch it still owed has been heard of, or given up."""
        self._requests: dict[int, asyncio.Future[Process]] = {}
        self._imported = set(modules)
        self._importing = 0
        """Requests that modules are imported for: all others wait behind them."""
        self._ids = itertools.count(1)
        self._killed = False
        self._between = 0
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(0)
        try:
            read_end, self._lifeline = os.pipe()
        except OSError:
            self._control.close()
            theirs.close()
            raise
        try:
            output = None if listener is None else Output(listener.ear_for("template", None))
            try:
                self._process = _spawn(theirs.fileno(), read_end, output, modules)
            except OSError:
                if output is not None:
                    output.close()
                raise
        except OSError:
            self._control.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(read_end)
        self.pid = self._process.pid
        set_rank(self.pid, Rank.HELPER)
        self.exited: asyncio.Future[Exit] = self._process.exited
        if output is not None:
            output.close_theirs()
            self.exited.add_done_callback(lambda _exited: output.close())
        self._loop.add_reader(self._control.fileno(), self._read)

    @property
    def usable(self) -> bool:
        """False once it has ended, or is about to."""
        return not self.lost.done() and not self._killed

    async def fork(self, role: str, modules: Sequence[str], version: VersionId | None = None) -> Child:
        """A new child, of a template that has imported `modules`.

        Raises ChildLost; what is forked after we gave up ends with its lifeline.
        """
        await asyncio.shield(self.ready)
        ear = self._listener.ear_for(role, version) if self._listener is not None else None
        return await bring_up(role, lambda theirs: self._ask(role, modules, theirs), ear)

    def kill(self) -> None:
        """End the template; its children live on."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Let it end: it does when its socket does. `exited` follows."""
        self._lose(ChildLost("the template is closed"))
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self.exited.done() and self._between:
            # The template may have died before it could wait for the last process between it and a child:
            # then that one is ours to wait for. Mostly it is gone, and there is no such process.
            with suppress(OSError):
                Process(self._between, os.pidfd_open(self._between))

    async def _ask(self, role: str, modules: Sequence[str], fds: tuple[int, ...]) -> Process:
        number = next(self._ids)
        reply: asyncio.Future[Process] = self._loop.create_future()
        self._requests[number] = reply
        try:
            told = {"id": number, "role": role, "modules": modules}
            socket.send_fds(self._control, [json.dumps(told).encode()], fds)
        except ConnectionError as error:
            self.kill()  # it has ended, though we have not heard of it yet
            raise ChildLost("the template ended") from error
        except OSError as error:
            raise ChildLost(f"the template cannot be asked: {error.strerror}") from error
        imports = not self._imported.issuperset(modules)
        self._importing += imports
        seconds = _IMPORT_SECONDS if self._importing else _REPLY_SECONDS
        try:
            async with asyncio.timeout(seconds):
                return await reply
        except TimeoutError:
            self.kill()  # stopped, or stuck: another one will do
            raise ChildLost(f"the template did not fork within {seconds:g} s") from None
        finally:
            self._importing -= imports
            self._imported.update(modules)

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, ConnectionResetError):
            return  # a reset overtakes what was sent before it; that comes next, then the end of file
        except OSError:
            data, fds = b"", []
        if not data:
            self._lose(ChildLost("the template ended"))
            return
        message = json.loads(data)
        if "ready" in message:
            self.ready.set_result(None)
            return
        reply = self._requests.pop(message["id"])
        if fds:
            self._between = message["between"]
            # Waited for also when nobody asks for it any more: its lifeline is closed then, and it ends.
            process = Process(message["pid"], fds[0], leads_group=True)
            if not reply.done():
                reply.set_result(process)
        elif not reply.done():
            # Without a pidfd and without an error, we had no descriptor left to receive it.
            reply.set_exception(ChildLost(message.get("error", "too many open files")))

    def _lose(self, reason: ChildLost) -> None:
        if self.lost.done():
            return
        self.lost.set_result(None)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        waiting: list[asyncio.Future[Any]] = [self.ready, *self._requests.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(reason)
                future.exception()  # seen: perhaps nobody waits for it


def _spawn(control: int, lifeline: int, output: Output | None, modules: Sequence[str]) -> Process:
    # posix_spawn, because it takes a millisecond and no thread; a process group of its own, so that a Ctrl-C
    # is ours alone; -P, because a directory `router` where the operator stands is not this package.
    arguments = [
        sys.executable,
        "-P",
        "-m",
        "router.processes.forkserver_main",
        str(_CONTROL),
        str(_LIFELINE),
        *modules,
    ]
    # Copies beyond those numbers first: one descriptor may have the number that the other is to get.
    given = (control, lifeline) if output is None else (control, lifeline, output.theirs)
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LIFELINE + 1) for fd in given]
    printed = [(os.POSIX_SPAWN_DUP2, copies[2], number) for number in (1, 2)] if output is not None else []
    try:
        pid = os.posix_spawn(
            sys.executable,
            arguments,
            child_environment(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, copies[0], _CONTROL),
                (os.POSIX_SPAWN_DUP2, copies[1], _LIFELINE),
                *printed,
            ],
            setpgroup=0,
        )
    finally:
        for copy in copies:
            os.close(copy)
    try:
        return Process(pid, os.pidfd_open(pid))
    except OSError:  # no descriptor left
        os.kill(pid, signal.SIGKILL)  # by number: it is our own child, which nobody has waited for
        os.waitpid(pid, 0)
        raise
