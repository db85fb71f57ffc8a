"""The order of loads: every load of this gateway waits here for its turn and for memory."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, Self

from router.core.ids import VersionId
from router.core.loads import Begin, FreeSpares, Priority, Refuse, ScheduledLoad, held_until, next_decision
from router.core.memory import Need, need_by_files, need_by_kill, need_by_load, no_room
from router.errors import NoRoom, WorkerOutOfMemory
from router.processes.memory import files_bytes
from router.protocol.messages import LoadSpec
from router.serving.ports import Loader
from router.settings import RegistrySettings

_KNOWN_VERSIONS = 1000
"""Whose sizes are remembered; of more, the one that was loaded longest ago is forgotten."""


def processors() -> int:
    """How many loads run side by side unless the settings say so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _measured_in_a_thread(directory: str) -> int:
    return await asyncio.to_thread(files_bytes, directory)


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


@dataclass(eq=False, slots=True)
class _Entry:
    owner: LoadOwner
    since: float
    need: Need
    available: int = 0
    """Bytes when it began."""
    alone: bool = True
    """Whether no other load ran at any time beside it."""
    begins: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def now(self) -> ScheduledLoad:
        return ScheduledLoad(self.owner.load_priority, self.since, self.need.size)


class LoadGate:
    """The gate through which every load goes; it lets them begin as `core.loads` decides.

    Whoever is about to fetch a version's files does it in `fetching`, so that lesser loads wait for them, and
    each load runs in `admitted`. `look` is to be called when a priority may have changed: a change that is
    not announced is noticed when the next load begins or ends. Leaving `admitted`, also by cancellation,
    gives the place away.
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
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._spares: dict[SpareOwner, int] = {}
        """Bytes of each spare worker."""
        self._freeing: asyncio.Future[list[object]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._needs: dict[VersionId, Need] = {}

    @contextmanager
    def fetching(self, owner: LoadOwner) -> Iterator[None]:
        """Within it, a load of `owner` is on its way."""
        entry = self._entry(owner, Need(0, ""))
        self._fetching.append(entry)
        try:
            yield
        finally:
            self._fetching.remove(entry)
            self.look()

    @asynccontextmanager
    async def admitted(self, spec: LoadSpec, owner: LoadOwner) -> AsyncIterator[Callable[[int], None]]:
        """Wait for its turn; the load is to run within. Raises NoRoom, with figures.

        Yields a function to call with the bytes that the loaded worker holds: what the next load will need.
        """
        need = self._needs.get(spec.version)
        if need is None:
            need = need_by_files(await self._measure(spec.directory))
        entry = self._entry(owner, need)
        self._waiting.append(entry)
        try:
            self.look()
            await entry.begins
            yield lambda own: self._learn(spec.version, need_by_load(own))
        except WorkerOutOfMemory:
            if entry.alone:  # else it may have been another load's doing
                self._learn(spec.version, need_by_kill(entry.available))
            raise
        finally:
            for entries in (self._waiting, self._running):
                if entry in entries:
                    entries.remove(entry)
            self.look()

    def keep_spare(self, owner: SpareOwner, size: int) -> None:
        """`owner` has a spare of `size` bytes, which goes when they are needed."""
        self._spares[owner] = max(size, 1)

    def drop_spare(self, owner: SpareOwner) -> None:
        """`owner` has no spare any more."""
        self._spares.pop(owner, None)

    def look(self) -> None:
        """Let begin what may begin now; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._freeing is None and self._waiting:
            now = asyncio.get_running_loop().time()
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
            )
            match decision:
                case Begin(index):
                    entry = self._waiting.pop(index)
                    entry.since, entry.available = now, room.available
                    for one in (entry, *self._running) if self._running else ():
                        one.alone = False
                    self._running.append(entry)
                    self._settle(entry, None)
                case Refuse(index):
                    entry = self._waiting.pop(index)
                    self._settle(entry, NoRoom(no_room(entry.need, room)))
                case FreeSpares():
                    self._free_spares()
                case None:
                    self._look_again(
                        now, max(held_until(load.priority, fetching, running) for load in waiting)
                    )
                    return

    def _entry(self, owner: LoadOwner, need: Need) -> _Entry:
        return _Entry(owner, asyncio.get_running_loop().time(), need)

    def _settle(self, entry: _Entry, error: NoRoom | None) -> None:
        if entry.begins.done():  # cancelled in this very turn of the loop
            return
        if error is None:
            entry.begins.set_result(None)
        else:
            entry.begins.set_exception(error)
            entry.begins.exception()  # seen: whoever waits may be cancelled in this very turn of the loop

    def _learn(self, version: VersionId, need: Need) -> None:
        self._needs.pop(version, None)
        self._needs[version] = need
        if len(self._needs) > _KNOWN_VERSIONS:
            del self._needs[next(iter(self._needs))]

    def _look_again(self, now: float, at: float) -> None:
        if at > now:
            self._timer = asyncio.get_running_loop().call_later(at - now, self.look)

    def _free_spares(self) -> None:
        owners, self._spares = list(self._spares), {}
        ends = [end for owner in owners if (end := owner.free_spare()) is not None]
        self._freeing = asyncio.gather(*ends, return_exceptions=True)
        self._freeing.add_done_callback(self._freed)

    def _freed(self, _done: object) -> None:
        self._freeing = None
        self.look()
