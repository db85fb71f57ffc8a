"""The launcher without a fork server: a fresh interpreter per child, for systems without pidfds (macOS)."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from router.core.environment import child_environment
from router.core.ids import VersionId
from router.errors import ChildLost
from router.processes.child import Child, ProcessHandle, start_child
from router.processes.output import OutputRouter
from router.processes.process import Exit, kill_group


class SpawnLauncher:
    """Starts each child by itself: READY seconds later than from a fork server, and no memory is shared."""

    def __init__(self, outputs: OutputRouter | None = None) -> None:
        """Without `outputs` children print where this process does."""
        self._outputs = outputs
        self._open = True

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role`, which waits for its first frame and imports by itself. Raises ChildLost."""
        if not self._open:
            raise ChildLost(f"no {role} can be started: the launcher is closed")

        async def spawned(theirs: tuple[int, ...]) -> ProcessHandle:
            return _Spawned(role, theirs)

        sink = self._outputs.sink_for(role, version) if self._outputs is not None else None
        return await start_child(role, spawned, sink)

    async def close(self) -> None:
        """Start no more."""
        self._open = False


class _Spawned:
    """A direct child, waited for in a thread."""

    def __init__(self, role: str, theirs: tuple[int, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable,
                "-P",
                "-m",
                "router.processes.forkserver_main",
                "child",
                role,
                *map(str, theirs),
            ],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            env=child_environment(os.environ),
            process_group=0,
        )
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
