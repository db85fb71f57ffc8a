"""The order of loads: downloads, builds and loads of this gateway wait here for a turn, loads for memory."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from router.core.ids import VersionId
from router.core.loads import (
    Begin,
    FreeKept,
    FreeSpares,
    Priority,
    Refuse,
    ScheduledLoad,
    held_until,
    next_decision,
)
from router.core.memory import (
    Need,
    need_by_files,
    need_by_kill,
    need_by_load,
    need_by_settings,
    no_room,
    with_start,
)
from router.errors import NoRoom, WorkerOutOfMemory
from router.processes.disk import in_disk_thread
from router.processes.memory import files_bytes
from router.processes.process import Exit
from router.processes.processors import processors
from router.protocol.messages import LoadSpec
from router.serving.ports import Loader
from router.settings import RegistrySettings

DOWNLOADS_AT_ONCE = BUILDS_AT_ONCE = 2
"""Of one importance; what is more important does not wait for what is less."""
FREEING_SECONDS = 2.0
"""How long a load waits for kept workers, which may still answer, to end; then what is left decides."""
_KNOWN_VERSIONS = 1000
"""Whose sizes are remembered; of more, the one that was loaded longest ago is forgotten."""


async def _measured_in_a_thread(directory: str) -> int:
    return await in_disk_thread(files_bytes, directory)


@dataclass(slots=True)
class LoadLimits:
    """What the configuration says of loads: written when one is applied, read at each load."""

    deadline_seconds: float
    """How long a fetch, and then a load, may take."""
    side_by_side: int | None = None
    """How many loads may run at once; None: as many as there are processors."""

    @classmethod
    def of(cls, registry: RegistrySettings) -> Self:
        """As `registry` says."""
        return cls(registry.download_timeout_seconds, registry.parallel_loads)

    def follow(self, registry: RegistrySettings) -> None:
        """Another configuration is in force."""
        self.deadline_seconds = registry.download_timeout_seconds
        self.side_by_side = registry.parallel_loads


class LoadOwner(Protocol):
    """Whoever has a version loaded."""

    @property
    def load_priority(self) -> Priority:
        """Read at each look: an alias may move, or the last worker end, while a load waits."""


class SpareOwner(Protocol):
    """Whoever has a spare worker."""

    def free_spare(self) -> asyncio.Future[object] | None:
        """End it, its memory is needed. Done when it has ended; None when there is none any more."""


class KeepingOwner(Protocol):
    """Whoever keeps a version loaded that no alias asks for."""

    @property
    def kept_workers(self) -> int:
        """Workers of it, 0 when it is kept no more."""

    @property
    def kept_bytes(self) -> int:
        """What they hold."""

    def give_room(self) -> Sequence[asyncio.Future[Exit]]:
        """Let all its workers go but one, or the last one too. The exits of those that go."""


@dataclass(eq=False, slots=True)
class _Entry:
    owner: LoadOwner
    since: float
    need: Need
    """Of its worker."""
    loader: Loader | None
    """Of a load."""
    start_bytes: int = 0
    """What has to be started before its worker takes so much; settled when it begins."""
    available: int = 0
    """Bytes when it began."""
    alone: bool = True
    """Whether no other load ran at any time beside it."""
    begins: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def now(self) -> ScheduledLoad:
        return ScheduledLoad(self.owner.load_priority, self.since, self.whole.size)

    @property
    def whole(self) -> Need:
        """What has to be there for it to begin."""
        return with_start(self.need, self.start_bytes)

    def look_at_start(self) -> None:
        """What has to be started first may run by now, or have ended."""
        self.start_bytes = self.loader.start_bytes if self.loader is not None else 0


def _entry(owner: LoadOwner, need: Need, loader: Loader | None = None) -> _Entry:
    return _Entry(owner, asyncio.get_running_loop().time(), need, loader)


def _settle(entry: _Entry, error: NoRoom | None) -> None:
    if entry.begins.done():  # cancelled in this very turn of the loop
        return
    if error is None:
        entry.begins.set_result(None)
    else:
        entry.begins.set_exception(error)
        entry.begins.exception()  # seen: whoever waits may be cancelled in this very turn of the loop


@asynccontextmanager
async def _turn(
    entry: _Entry, waiting: list[_Entry], running: list[_Entry], look: Callable[[], None]
) -> AsyncIterator[None]:
    """Wait until `look` has moved `entry` on to `running`; on leaving, its place is given away."""
    waiting.append(entry)
    try:
        look()
        await entry.begins
        yield
    finally:
        for entries in (waiting, running):
            if entry in entries:
                entries.remove(entry)
        look()


def _look_later(
    look: Callable[[], None],
    now: float,
    fetching: Sequence[ScheduledLoad],
    waiting: Sequence[ScheduledLoad],
    running: Sequence[ScheduledLoad],
) -> asyncio.TimerHandle | None:
    """Have `look` called when none of the `waiting` is held any more; None where none is held now."""
    at = max(held_until(load.priority, fetching, running) for load in waiting)
    return asyncio.get_running_loop().call_later(at - now, look) if at > now else None


class _Turns:
    """Turns of work that takes next to no memory of its own: so many side by side, in the order of loads."""

    def __init__(self, side_by_side: int, unnamed: Sequence[_Entry]) -> None:
        """While one of `unnamed` is on its way, whose version is not known yet, lesser work waits."""
        self._side_by_side = side_by_side
        self._unnamed = unnamed
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, owner: LoadOwner) -> AsyncIterator[None]:
        """Wait for its turn; the work is to run within."""
        async with _turn(_entry(owner, Need(0, "")), self._waiting, self._running, self.look):
            yield

    def look(self) -> None:
        """Let begin what may begin now; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            now = asyncio.get_running_loop().time()
            unnamed, waiting, running = (
                [entry.now() for entry in entries]
                for entries in (self._unnamed, self._waiting, self._running)
            )
            decision = next_decision(
                now,
                fetching=unnamed,
                waiting=waiting,
                running=running,
                side_by_side=self._side_by_side,
                available=sys.maxsize,  # of memory, which they hardly take
                spare=0,
            )
            if not isinstance(decision, Begin):
                self._timer = _look_later(self.look, now, unnamed, waiting, running)
                return
            entry = self._waiting.pop(decision.index)
            entry.since = now
            self._running.append(entry)
            _settle(entry, None)


class LoadGate:
    """The gate through which every load goes; it lets them begin as `core.loads` decides.

    Whoever is about to fetch a version's files does it in `fetching`, so that lesser loads wait for it; each
    download runs in `download_turn`, each build of an environment in `build_turn`, each load in `admitted`.
    `look` is to be called when a priority may have changed: a change that is not announced is noticed when
    the next load begins or ends. Leaving one of the four, also by cancellation, gives the place away.
    """

    def __init__(
        self,
        loader: Loader,
        limits: LoadLimits,
        measure: Callable[[str], Awaitable[int]] = _measured_in_a_thread,
    ) -> None:
        """`measure` gives the bytes of all files in a directory."""
        self._loader = loader
        self._limits = limits
        self._measure = measure
        self._fetching: list[_Entry] = []
        self._unnamed: list[_Entry] = []
        """Those of `_fetching` whose version is not known yet."""
        self._downloads = _Turns(DOWNLOADS_AT_ONCE, self._unnamed)
        self._builds = _Turns(BUILDS_AT_ONCE, self._unnamed)
        """Of their own: one that waits for an index may take as long as a hundred downloads."""
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._spares: dict[SpareOwner, int] = {}
        """Bytes of each spare worker."""
        self._keeping: list[KeepingOwner] = []
        """Those who keep a version, the one that began first in front."""
        self._freeing: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._needs: dict[VersionId, Need] = {}

    @contextmanager
    def fetching(self, owner: LoadOwner, *, named: bool = True) -> Iterator[None]:
        """Within it, a load of `owner` is on its way; not `named`: lesser downloads wait for it, too."""
        entry = _entry(owner, Need(0, ""))
        lists = [self._fetching] if named else [self._fetching, self._unnamed]
        for entries in lists:
            entries.append(entry)
        try:
            yield
        finally:
            for entries in lists:
                entries.remove(entry)
            self.look()

    def download_turn(self, owner: LoadOwner) -> AbstractAsyncContextManager[None]:
        """Wait for its turn; a download is to run within. Turns come in the order of loads."""
        return self._downloads.turn(owner)

    def build_turn(self, owner: LoadOwner) -> AbstractAsyncContextManager[None]:
        """Wait for its turn; the build of an environment is to run within. They come in the same order."""
        return self._builds.turn(owner)

    @asynccontextmanager
    async def admitted(
        self,
        spec: LoadSpec,
        owner: LoadOwner,
        expected_mib: int | None = None,
        loader: Loader | None = None,
    ) -> AsyncIterator[Callable[[int], None]]:
        """Wait for its turn; the load is to run within. Raises NoRoom, with figures.

        `loader` is who loads it, None: that of this gate. `expected_mib` holds until the version was loaded
        once; None: the size of its files says it. Yields a function to call with the bytes that the loaded
        worker holds: what the next load will need.
        """
        need = self._needs.get(spec.version)
        if need is None:
            need = (
                need_by_files(await self._measure(spec.directory))
                if expected_mib is None
                else need_by_settings(expected_mib)
            )
        entry = _entry(owner, need, loader or self._loader)
        async with _turn(entry, self._waiting, self._running, self.look):
            try:
                yield lambda own: self._learn(spec.version, need_by_load(own))
            except WorkerOutOfMemory:
                if entry.alone:  # else it may have been another load's doing
                    self._learn(spec.version, need_by_kill(entry.available))
                raise

    def has_room(self, size: int) -> bool:
        """Whether a load of `size` bytes would fit now, beside those that run."""
        available = self._loader.room().available + self.kept_bytes
        return size + sum(entry.whole.size for entry in self._running) <= available

    @property
    def kept_bytes(self) -> int:
        """What versions hold that are kept though no alias asks for them: room for whatever needs it."""
        return sum(owner.kept_bytes for owner in self._keeping)

    def keep(self, owner: KeepingOwner) -> None:
        """`owner` keeps a version, which goes step by step when its memory is needed; idempotent."""
        if owner not in self._keeping:
            self._keeping.append(owner)

    def keep_no_more(self, owner: KeepingOwner) -> None:
        """`owner` keeps none any more; idempotent."""
        if owner in self._keeping:
            self._keeping.remove(owner)

    def keep_spare(self, owner: SpareOwner, size: int) -> None:
        """`owner` has a spare of `size` bytes, which goes when they are needed."""
        self._spares[owner] = max(size, 1)

    def drop_spare(self, owner: SpareOwner) -> None:
        """`owner` has no spare any more."""
        self._spares.pop(owner, None)

    def leave_room_to_grow(self) -> None:
        """Free a step of what is kept where less is left than half of such a worker: what serves may need it
        any moment. To be called now and then."""
        workers = sum(owner.kept_workers for owner in self._keeping)
        if self._freeing is not None or not workers:
            return
        if self._loader.room().available < self.kept_bytes / workers / 2:
            self._begin_to_free_kept()

    def look(self) -> None:
        """Let begin what may begin now; idempotent."""
        self._downloads.look()
        self._builds.look()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._freeing is None and self._waiting:
            now = asyncio.get_running_loop().time()
            for entry in self._waiting:
                entry.look_at_start()
            room, waiting = self._loader.room(), [entry.now() for entry in self._waiting]
            fetching, running = ([e.now() for e in entries] for entries in (self._fetching, self._running))
            decision = next_decision(
                now,
                fetching=fetching,
                waiting=waiting,
                running=running,
                side_by_side=self._limits.side_by_side or processors(),
                available=room.available,
                spare=sum(self._spares.values()),
                kept=self.kept_bytes,
            )
            match decision:
                case Begin(index):
                    entry = self._waiting.pop(index)
                    entry.since, entry.available = now, room.available
                    for one in (entry, *self._running) if self._running else ():
                        one.alone = False
                    self._running.append(entry)
                    _settle(entry, None)
                case Refuse(index):
                    entry = self._waiting.pop(index)
                    _settle(entry, NoRoom(no_room(entry.whole, room), entry.whole.size))
                case FreeSpares():
                    self._free_spares()
                case FreeKept():
                    self._begin_to_free_kept()
                case None:
                    self._timer = _look_later(self.look, now, fetching, waiting, running)
                    return

    def _learn(self, version: VersionId, need: Need) -> None:
        self._needs.pop(version, None)
        self._needs[version] = need
        if len(self._needs) > _KNOWN_VERSIONS:
            del self._needs[next(iter(self._needs))]

    def _free_spares(self) -> None:
        owners, self._spares = list(self._spares), {}
        ends = [end for owner in owners if (end := owner.free_spare()) is not None]
        self._freeing = asyncio.gather(*ends, return_exceptions=True)
        self._freeing.add_done_callback(self._freed)

    def _begin_to_free_kept(self) -> None:
        # In a task: a version that is let go has `look` called again.
        self._freeing = asyncio.get_running_loop().create_task(self._free_kept(), name="free kept workers")
        self._freeing.add_done_callback(self._freed)

    async def _free_kept(self) -> None:
        """One step: every version comes down to one worker before one goes whole."""
        if self._keeping:
            # Of those that have as many, the one that began first.
            owner = max(self._keeping, key=lambda owner: min(owner.kept_workers, 2))
            if exits := owner.give_room():
                await asyncio.wait(exits, timeout=FREEING_SECONDS)

    def _freed(self, _done: object) -> None:
        self._freeing = None
        self.look()
