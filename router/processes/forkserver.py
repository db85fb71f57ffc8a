"""The fork server from the gateway's side: one process from start to end, and who starts the next one.

Logs, metrics and `ps` call it the template. The other half is `forkserver_main`.
"""

import asyncio
import fcntl
import itertools
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from router.core.backoff import Backoff
from router.core.events import ChildRestarted, Recorder
from router.core.ids import VersionId
from router.errors import ChildLost, ChildTimeout
from router.processes.child import BLOCKED_SIGNALS, OWN_PYTHON, Child, ChildPython, start_child
from router.processes.memory import Rank, set_rank
from router.processes.output import Output, OutputRouter
from router.processes.process import Exit, Process, become_subreaper

_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""Wait after the n-th fork server in a row that ended before it could fork."""
_READY_SECONDS = 120.0
_GRACE_SECONDS = 1.0
_LAST_REPLY_SECONDS = 1.0
_MESSAGE_BYTES = 4096
_REPLY_SECONDS = 10.0
_IMPORT_SECONDS = 60.0
_CONTROL, _LIFELINE = 3, 4  # the descriptors' numbers in the fork server


class ForkServer:
    """A started fork server: fork requests out, pidfds in.

    It is not restarted: `ForkServerSupervisor` starts another.
    """

    def __init__(
        self,
        name: str,
        interpreter: ChildPython,
        modules: Sequence[str] = (),
        outputs: OutputRouter | None = None,
        temporary: Path | None = None,
    ) -> None:
        """Start `interpreter`; its imports, `modules` too, go on beside us for two seconds or more.

        What it prints goes to the sink of `outputs` for the role `name`; its temporary files, and those of
        its children, to the directory `temporary`, None: where ours go. Raises OSError.
        """
        self._outputs = outputs
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when it can fork; ChildLost when it ended before."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when its socket is closed and each launch under way has been answered, or has failed."""
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
            output = None if outputs is None else Output(outputs.sink_for(name, None))
            try:
                # `ps` shows at most 15 characters: router-template, or the first digits of an environment.
                process_name = f"router-{name.rpartition(' ')[2]}"
                arguments = interpreter.command(str(_CONTROL), str(_LIFELINE), process_name, *modules)
                environment = interpreter.environment(temporary)
                self._process = _spawn(arguments, environment, theirs.fileno(), read_end, output)
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
        self._output = output
        if output is not None:
            output.close_theirs()
            self.exited.add_done_callback(lambda _exited: output.close())
        self._loop.add_reader(self._control.fileno(), self._read)

    @property
    def usable(self) -> bool:
        """False once it has ended, or is about to."""
        return not self.lost.done() and not self._killed

    async def fork(self, role: str, modules: Sequence[str], version: VersionId | None = None) -> Child:
        """A new child, forked after `modules` were imported.

        Raises ChildLost; what is forked after we gave up ends with its lifeline.
        """
        await asyncio.shield(self.ready)
        sink = self._outputs.sink_for(role, version) if self._outputs is not None else None
        return await start_child(role, lambda theirs: self._ask(role, modules, theirs), sink)

    def kill(self) -> None:
        """End the fork server; its children live on."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Let it end: it does when its socket does. `exited` follows."""
        self._lose(ChildLost("the template is closed"))
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self.exited.done() and self._between:
            # The fork server may have died before it could wait for the last process between it and a child:
            # then that one is ours to wait for. Mostly it is gone, and there is no such process.
            with suppress(OSError):
                Process(self._between, os.pidfd_open(self._between))

    def ending(self) -> str:
        """How it ended; `exited` is done. What it printed last is reported where it ended by itself."""
        ended = self.exited.result()
        if self._output is None:
            return str(ended)
        how = str(replace(ended, cause=self._output.cause))
        if not self._killed:
            self._output.report_death(how)
        return how

    async def _ask(self, role: str, modules: Sequence[str], fds: tuple[int, ...]) -> Process:
        number = next(self._ids)
        reply: asyncio.Future[Process] = self._loop.create_future()
        self._requests[number] = reply
        try:
            request = {"id": number, "role": role, "modules": modules}
            socket.send_fds(self._control, [json.dumps(request).encode()], fds)
        except OSError as error:
            del self._requests[number]  # it was not asked: no reply will come
            if isinstance(error, ConnectionError):
                self.kill()  # it has ended, though its socket does not say so yet
                raise ChildLost("the template ended") from error
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


def _spawn(
    arguments: list[str],
    environment: Mapping[str, str],
    control: int,
    lifeline: int,
    output: Output | None,
) -> Process:
    # posix_spawn, because it takes a millisecond and no thread; a process group of its own, so that a Ctrl-C
    # is ours alone.
    # Copies beyond those numbers first: one descriptor may have the number that the other is to get.
    given = (control, lifeline) if output is None else (control, lifeline, output.theirs)
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LIFELINE + 1) for fd in given]
    printed = [(os.POSIX_SPAWN_DUP2, copies[2], number) for number in (1, 2)] if output is not None else []
    try:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, copies[0], _CONTROL),
                (os.POSIX_SPAWN_DUP2, copies[1], _LIFELINE),
                *printed,
            ],
            setpgroup=0,
            setsigmask=BLOCKED_SIGNALS,
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


class ForkServerSupervisor:
    """Launches children from one fork server; when it dies, its children live on and another one is started.

    `launch` may be called from `start` to `close`, also while there is no fork server: it waits for the next.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        name: str = "template",
        interpreter: ChildPython = OWN_PYTHON,
        outputs: OutputRouter | None = None,
        launch_seconds: float = 30.0,
        modules: Sequence[str] = (),
        temporary: Path | None = None,
        starts: int | None = None,
    ) -> None:
        """`launch_seconds`: the longest a launch may take, restarts of the fork server included.

        Events and log lines call the fork server `name`; `interpreter` is the Python that it and its children
        run; `modules` are imported at its start, beside those that children ask for later. Without `outputs`
        all of them print where this process does; without `temporary` their temporary files are where ours
        are. After `starts` fork servers in a row that ended before they could fork, no other one is started
        and launches fail at once; None: it is tried for ever.
        """
        self._recorder = recorder
        self._name = name
        self._interpreter = interpreter
        self._outputs = outputs
        self._temporary = temporary
        self._modules: dict[str, None] = dict.fromkeys(modules)
        """Asked for so far, in that order: the next fork server imports them at its start."""
        self._harmful: set[str] = set()
        """A fork server that imported these never got ready: workers that need them import them."""
        self._launch_seconds = launch_seconds
        self._starts = starts
        self._server: ForkServer | None = None
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[str] | None = None
        """Ends when it gives up, and returns why."""

    @property
    def pid(self) -> int | None:
        """Process id of the fork server that runs now."""
        return self._server.pid if self._server is not None else None

    @property
    def start_bytes(self) -> int:
        """None: it runs, or is started whether anything is launched or not."""
        return 0

    @property
    def gave_up(self) -> bool:
        """Whether no other fork server is started, after so many that could not fork."""
        return self._keeper is not None and self._keeper.done()

    async def start(self) -> None:
        """Start the fork server; launches wait for its imports. Raises SubreaperRefused, OSError."""
        become_subreaper()
        self._server = self._fork_server()
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep {self._name}")

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role`, which waits for its first frame. Raises ChildLost, ChildTimeout.

        The first launch that names `modules` waits for their import, and so do those that come meanwhile.
        """
        trouble = ""
        try:
            async with asyncio.timeout(self._launch_seconds):
                while True:
                    server = self._server
                    shared = [module for module in modules if module not in self._harmful]
                    self._modules |= dict.fromkeys(shared)
                    if server is not None and server.usable:
                        try:
                            return await server.fork(role, shared, version)
                        except ChildLost as error:
                            if server.usable:
                                raise
                            trouble = f"; {error}"
                    if self._keeper is None:
                        raise ChildLost(f"no {role} can be started: the template is closed")
                    if self._keeper.done():
                        raise ChildLost(f"no {role} can be started: {self._keeper.result()}")
                    await self._changed.wait()
        except TimeoutError:
            raise ChildTimeout(f"no {role} was started within {self._launch_seconds:g} s{trouble}") from None

    async def close(self) -> None:
        """End the fork server. Children that run are for their owners to stop."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        server = self._server
        self._replace(None)
        if server is not None:
            server.close()
            await asyncio.wait({server.exited}, timeout=_GRACE_SECONDS)
            server.kill()
            await asyncio.shield(server.exited)

    async def _keep_running(self) -> str:
        failures, loop = Backoff(_DELAYS), asyncio.get_running_loop()
        while True:
            reason, was_ready = await self._end_of(self._server)
            self._replace(None)
            if not was_ready:
                # Perhaps by an import, and without a fork server nothing at all can be started.
                self._harmful.update(self._modules)
                self._modules.clear()
            failures = failures.reset() if was_ready else failures.failed(loop.time())
            if failures.failures == self._starts:
                return f"the template ended before it could fork, {self._starts} times: {reason}"
            await asyncio.sleep(failures.seconds)
            try:
                self._replace(self._fork_server())
            except OSError as error:  # no memory, no process slot, no descriptor: later perhaps
                reason = f"{reason}; {error.strerror}"
            self._recorder.record(ChildRestarted(self._name, reason))

    async def _end_of(self, server: ForkServer | None) -> tuple[str, bool]:
        """How `server` ended, and whether it had got as far as forking."""
        if server is None:
            return "it could not be started", False
        await asyncio.wait({server.ready}, timeout=_READY_SECONDS)
        if not server.ready.done():
            server.kill()  # its imports hang
        await asyncio.shield(server.exited)
        await asyncio.wait({server.lost}, timeout=_LAST_REPLY_SECONDS)
        server.close()
        return server.ending(), server.ready.exception() is None

    def _fork_server(self) -> ForkServer:
        return ForkServer(self._name, self._interpreter, tuple(self._modules), self._outputs, self._temporary)

    def _replace(self, server: ForkServer | None) -> None:
        self._server = server
        self._changed.set()
        self._changed = asyncio.Event()
