"""Through which every load of this gateway goes: in order of importance, so many side by side."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from router.core.ids import VersionId
from router.core.loads import Begin, FreeSpares, Load, Priority, Refuse, held_until, next_decision
from router.core.memory import Need, Room, need_by_files, need_by_kill, need_by_load, no_room
from router.errors import NoRoom, WorkerOutOfMemory
from router.processes.memory import files_bytes
from router.protocol.messages import LoadSpec

_KNOWN_VERSIONS = 1000
"""Whose sizes are remembered; of more, the one that was loaded longest ago is forgotten."""


def processors() -> int:
    """How many loads run side by side unless the settings say so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _measured_in_a_thread(directory: str) -> int:
    return await asyncio.to_thread(files_bytes, directory)


@dataclass(eq=False, slots=True)
class _Entry:
    priority: Callable[[], Priority]
    """Read at each look: an alias may move, or the last worker end, while a load waits."""
    since: float
    need: Need
    available: int = 0
    """Bytes when it began."""
    alone: bool = True
    """Whether no other load ran at any time beside it."""
    begins: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def now(self) -> Load:
        return Load(self.priority(), self.since, self.need.size)


class LoadGate:
    """Lets loads begin as `core.loads` decides.

    Whoever is about to fetch a version's files does it in `fetching`, so that lesser loads wait for them, and
    each load runs in `admitted`. `look` is to be called when a priority may have changed.
    """

    def __init__(
        self,
        room: Callable[[], Room],
        side_by_side: Callable[[], int | None] = lambda: None,
        measure: Callable[[str], Awaitable[int]] = _measured_in_a_thread,
    ) -> None:
        """`room` is what the gateway may use now; `side_by_side` None: as many as there are processors.

        `measure` gives the bytes of all files in a directory.
        """
        self._measure = measure
        self._room = room
        self._side_by_side = side_by_side
        self._fetching: list[_Entry] = []
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._spares: dict[object, tuple[int, Callable[[], asyncio.Future[object] | None]]] = {}
        self._freeing: asyncio.Future[list[object]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._needs: dict[VersionId, Need] = {}

    @contextmanager
    def fetching(self, priority: Callable[[], Priority]) -> Iterator[None]:
        """Within it, a load of that priority is on its way."""
        entry = self._entry(priority, Need(0, ""))
        self._fetching.append(entry)
        try:
            yield
        finally:
            self._fetching.remove(entry)
            self.look()

    @asynccontextmanager
    async def admitted(
        self, spec: LoadSpec, priority: Callable[[], Priority]
    ) -> AsyncIterator[Callable[[int], None]]:
        """Wait for its turn; the load is to run within. Raises NoRoom, with figures.

        Gives what takes the bytes that the loaded worker holds, from which the next load's need is reckoned.
        """
        need = self._needs.get(spec.version)
        if need is None:
            need = need_by_files(await self._measure(spec.directory))
        entry = self._entry(priority, need)
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

    def keep_spare(self, owner: object, size: int, free: Callable[[], asyncio.Future[object] | None]) -> None:
        """`owner` has a spare of `size` bytes, which `free` ends when they are needed; done when they are."""
        self._spares[owner] = max(size, 1), free

    def drop_spare(self, owner: object) -> None:
        """`owner` has no spare any more."""
        self._spares.pop(owner, None)

    def look(self) -> None:
        """Let begin what may begin now; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._freeing is None and self._waiting:
            now = asyncio.get_running_loop().time()
            room, waiting = self._room(), [entry.now() for entry in self._waiting]
            fetching, running = ([e.now() for e in entries] for entries in (self._fetching, self._running))
            decision = next_decision(
                now,
                fetching=fetching,
                waiting=waiting,
                running=running,
                side_by_side=self._side_by_side() or processors(),
                available=room.available,
                spare=sum(size for size, _ in self._spares.values()),
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

    def _entry(self, priority: Callable[[], Priority], need: Need) -> _Entry:
        return _Entry(priority, asyncio.get_running_loop().time(), need)

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
        spares, self._spares = list(self._spares.values()), {}
        ends = [end for _, free in spares if (end := free()) is not None]
        self._freeing = asyncio.gather(*ends, return_exceptions=True)
        self._freeing.add_done_callback(self._freed)

    def _freed(self, _done: object) -> None:
        self._freeing = None
        self.look()
