"""The gateway's side of a worker: start it, give it requests, hear its answers, end it."""

import asyncio
from collections.abc import Callable, Sequence

from router.children.child import Child
from router.children.launcher import Launcher
from router.children.memory import resident
from router.children.process import MEMORY, Exit
from router.core import wire
from router.core.frames import Frame
from router.core.memory import Resident
from router.core.wire import WireRefused
from router.core.work import Answer, LoadSpec, Query, VersionInfo
from router.errors import ChildLost, ChildTimeout, LoadFailed

_ROLE = "worker"
_DEATH_SECONDS = 2.0


class Worker:
    """One process that holds one READY version."""

    def __init__(self, child: Child, info: VersionInfo) -> None:
        self.info = info
        self.exited: asyncio.Future[Exit] = child.exited
        """Done when it has ended, after the last `on_answer`. Shield it when you await it."""
        self.pid = child.pid
        self._child = child
        self.ready = self.resident()
        self._on_answer: Callable[[int, Answer], None] = lambda _index, _answer: None
        self._bins = info.scores.bins if info.scores is not None else None
        self._sequence = 0
        self._next = 0
        """The request of the last frame that is to be answered next; those before it are."""
        self._requests = 0
        child.connection.on_frame = self._take
        child.connection.on_lost = child.kill  # one that lives on without its socket is of no use
        if child.connection.lost.done():  # it said more after it was READY, before we were told
            child.kill()

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
            info = await _load(child, spec, timeout_seconds=max(ends_at - loop.time(), 0.0))
        except BaseException:
            child.kill()
            await child.close(0.0)
            raise
        return cls(child, info)

    def submit(self, queries: Sequence[Query], on_answer: Callable[[int, Answer], None]) -> None:
        """Hand over one frame of requests; only when the former one is fully answered.

        The worker predicts them one after the other. `on_answer(i, answer)` is called in order of `i`, as
        soon as each is there. When the worker ends, no more answers come and `exited` is done. An answer that
        is not the next one of this frame ends the worker: it may be meant for another caller.
        """
        self._on_answer = on_answer
        self._sequence += 1
        self._next, self._requests = 0, len(queries)
        self._child.connection.send(*wire.predict_frame(self._sequence, queries))

    def resident(self) -> Resident:
        """Its memory now; nothing when it has ended, and on systems without /proc."""
        return resident(self.pid) if not self._child.exited.done() else Resident()

    def kill(self) -> None:
        """End it now."""
        self._child.kill()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Let it end, which an idle one does at once; end it when it outlives the grace."""
        self._child.connection.on_lost = lambda: None
        await self._child.close(grace_seconds)

    def _take(self, frame: Frame) -> None:
        if self._next == self._requests:
            _refuse(frame)
        sequence, index, answer = wire.answer_of(frame, self._bins)
        if sequence != self._sequence or index != self._next:
            raise WireRefused("an answer out of turn")
        self._next += 1
        self._on_answer(index, answer)


async def _load(child: Child, spec: LoadSpec, *, timeout_seconds: float) -> VersionInfo:
    child.connection.limit(wire.WORKER_LIMITS)
    child.connection.on_frame = _refuse
    try:
        frame = await child.connection.call(wire.load_header(spec), timeout_seconds=timeout_seconds)
        if frame.header.get("op") == wire.READY:
            return wire.version_info(frame.header, spec.scores)
        raise wire.failure(frame.header)
    except WireRefused as refused:
        raise LoadFailed(f"its worker sent {refused}", phase="load") from refused
    except ChildTimeout:
        raise ChildTimeout(f"{spec.version} was not READY in time") from None
    except ChildLost:
        if child.connection.refused:
            raise LoadFailed(f"its worker sent {child.connection.refused}", phase="load") from None
        await asyncio.wait({child.exited}, timeout=_DEATH_SECONDS)
        how = str(child.exited.result()) if child.exited.done() else "its socket was closed"
        raise ChildLost(f"the worker ended while it loaded {spec.version}: {how}") from None


def _refuse(_frame: Frame) -> None:
    raise WireRefused("a frame that nobody asked for")


class WorkerLoader:
    """Brings versions to READY, each in a worker of its own."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def available_bytes(self) -> int:
        """Memory that more workers may use."""
        return MEMORY.available_bytes()

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Worker:
        """A worker that holds `spec`'s version. Raises as `Worker.start` does."""
        return await Worker.start(self._launcher, spec, deadline_seconds=deadline_seconds)
