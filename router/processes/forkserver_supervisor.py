"""The launcher of every day: forks children from a warm template, and keeps a template running."""

import asyncio
from collections.abc import Sequence

from router.core.events import ChildRestarted, Recorder
from router.core.ids import VersionId
from router.errors import ChildLost, ChildTimeout
from router.processes.child import Child
from router.processes.forkserver_client import ForkServer
from router.processes.output import OutputRouter
from router.processes.process import become_subreaper

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 10.0
_READY_SECONDS = 120.0
_GRACE_SECONDS = 1.0
_LAST_REPLY_SECONDS = 1.0


class ForkServerSupervisor:
    """Launches children; when the template dies, its children live on and another one is started."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        listener: OutputRouter | None = None,
        launch_seconds: float = 30.0,
        modules: Sequence[str] = (),
    ) -> None:
        """`launch_seconds`: the longest a launch may take, restarts of the template included.

        `modules` are imported at its start, beside those that children ask for later.
        Without a `listener` all of them print where this process does.
        """
        self._recorder = recorder
        self._listener = listener
        self._modules: dict[str, None] = dict.fromkeys(modules)
        """Asked for so far, in that order: the next template imports them at its start."""
        self._harmful: set[str] = set()
        """A template that imported these did not get as far as forking: whoever needs them imports them."""
        self._launch_seconds = launch_seconds
        self._server: ForkServer | None = None
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the template that runs now."""
        return self._server.pid if self._server is not None else None

    async def start(self) -> None:
        """Start the template and return; launches wait for its imports. Raises SubreaperRefused."""
        become_subreaper()
        self._server = ForkServer(tuple(self._modules), self._listener)
        self._keeper = asyncio.create_task(self._keep(), name="keep template")

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """A child in `role`, which waits for its first frame. Raises ChildLost, ChildTimeout.

        The first that asks for `modules` waits for their import, and so does who asks meanwhile.
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
                    await self._changed.wait()
        except TimeoutError:
            raise ChildTimeout(f"no {role} was started within {self._launch_seconds:g} s{trouble}") from None

    async def close(self) -> None:
        """End the template. Children that run are their owners' to close."""
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

    async def _keep(self) -> None:
        delay = 0.0
        while True:
            reason, was_ready = await self._end_of(self._server)
            self._replace(None)
            if not was_ready:
                # Perhaps by an import, and without a template nothing at all can be started.
                self._harmful.update(self._modules)
                self._modules.clear()
            delay = 0.0 if was_ready else min(max(2 * delay, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
            await asyncio.sleep(delay)
            try:
                self._replace(ForkServer(tuple(self._modules), self._listener))
            except OSError as error:  # no memory, no process slot, no descriptor: later perhaps
                reason = f"{reason}; {error.strerror}"
            self._recorder.record(ChildRestarted("template", reason))

    async def _end_of(self, server: ForkServer | None) -> tuple[str, bool]:
        """How `server` ended, and whether it had got as far as forking."""
        if server is None:
            return "it could not be started", False
        await asyncio.wait({server.ready}, timeout=_READY_SECONDS)
        if not server.ready.done():
            server.kill()  # its imports hang
        ended = await asyncio.shield(server.exited)
        await asyncio.wait({server.lost}, timeout=_LAST_REPLY_SECONDS)
        server.close()
        return str(ended), server.ready.exception() is None

    def _replace(self, server: ForkServer | None) -> None:
        self._server = server
        self._changed.set()
        self._changed = asyncio.Event()
