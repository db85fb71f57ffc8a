"""The gateway's side of a worker: start it, give it requests, hear its answers, end it."""

import asyncio
from collections.abc import Callable, Sequence

from router.children.child import Child
from router.children.launcher import Launcher
from router.children.process import Exit
from router.core import wire
from router.core.frames import Frame
from router.core.work import Answer, LoadSpec, Query, VersionInfo
from router.errors import ChildLost, ChildTimeout, LoadFailed

_ROLE = "worker"
_DEATH_SECONDS = 2.0


class Worker:
    """One process that holds one READY version."""

    def __init__(self, child: Child, info: VersionInfo) -> None:
        self.info = info
        self.pid = child.pid
        self.exited: asyncio.Future[Exit] = child.exited
        """Done when it has ended, after the last `on_answer`. Shield it when you await it."""
        self._child = child
        self._on_answer: Callable[[int, Answer], None] = lambda _index, _answer: None
        child.connection.on_frame = self._take
        child.connection.on_lost = child.kill  # one that lives on without its socket is of no use

    @classmethod
    async def start(cls, launcher: Launcher, spec: LoadSpec, *, deadline_seconds: float) -> "Worker":
        """A worker whose version is READY. Raises LoadFailed, ChildLost or ChildTimeout.

        Leaves no process behind when it raises, also when it is cancelled.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_seconds
        try:
            async with asyncio.timeout_at(ends_at):
                child = await launcher.launch(_ROLE)
        except TimeoutError:
            raise ChildTimeout(f"no worker was started within {deadline_seconds:g} s") from None
        try:
            header = await _load(child, spec, timeout_seconds=max(ends_at - loop.time(), 0.0))
        except BaseException:
            child.kill()
            await child.close(0.0)
            raise
        return cls(child, wire.version_info(header))

    def submit(self, queries: Sequence[Query], on_answer: Callable[[int, Answer], None]) -> None:
        """Hand over one frame of requests; only when the former one is fully answered.

        The worker predicts them one after the other. `on_answer(i, answer)` is called in order of `i`, as
        soon as each is there. When the worker ends, no more answers come and `exited` is done.
        """
        self._on_answer = on_answer
        self._child.connection.send(*wire.predict_frame(queries))

    def kill(self) -> None:
        """End it now."""
        self._child.kill()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Let it end, which an idle one does at once; end it when it outlives the grace."""
        self._child.connection.on_lost = lambda: None
        await self._child.close(grace_seconds)

    def _take(self, frame: Frame) -> None:
        self._on_answer(*wire.answer_of(frame))


async def _load(child: Child, spec: LoadSpec, *, timeout_seconds: float) -> dict[str, object]:
    try:
        frame = await child.connection.call(wire.load_header(spec), timeout_seconds=timeout_seconds)
    except ChildTimeout:
        raise ChildTimeout(f"{spec.version} was not READY in time") from None
    except ChildLost:
        await asyncio.wait({child.exited}, timeout=_DEATH_SECONDS)
        how = str(child.exited.result()) if child.exited.done() else "its socket was closed"
        raise ChildLost(f"the worker ended while it loaded {spec.version}: {how}") from None
    if frame.header["op"] == wire.FAILED:
        raise LoadFailed(frame.header["error"], phase=frame.header["phase"])
    return frame.header


class WorkerLoader:
    """Brings versions to READY, each in a worker of its own."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Worker:
        """A worker that holds `spec`'s version. Raises as `Worker.start` does."""
        return await Worker.start(self._launcher, spec, deadline_seconds=deadline_seconds)
