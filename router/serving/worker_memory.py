"""The most memory that a worker of each version was seen to hold, as proportional set size (PSS)."""

from collections.abc import Mapping, Sequence

from router.core.ids import VersionId
from router.processes.disk import in_disk_thread
from router.processes.memory import proportional_bytes, resident
from router.serving.models import ModelSet
from router.serving.ports import WorkerHandle

MEMORY_LOOK_SECONDS = 30.0
"""What a worker holds in between for a moment is not seen."""
_GROWN = 1.01
"""Resident memory over that of the last reading, from which on the PSS is read again: that walks all page
tables of a process, 20 ms for a gigabyte. So not on the event loop, and not of one that stays the same."""


class WorkerMemory:
    """Looks at the workers that serve, now and then."""

    def __init__(self, models: ModelSet) -> None:
        self._models = models
        self._peaks: dict[VersionId, int] = {}
        self._residents: dict[int, int] = {}
        """Resident bytes of each worker when its PSS was last read, by process."""

    def peak(self, version: VersionId) -> int | None:
        """Bytes, since the version was loaded; None before the first look, and where it can not be read."""
        return self._peaks.get(version)

    async def tick(self) -> None:
        """Look at every worker once."""
        harnesses = [one for each in self._models.managers.values() for one in each.harnesses.values()]
        workers = {one.version: _pids(one.pool.workers) for one in harnesses if one.loaded}
        residents = {pid: resident(pid).total for pids in workers.values() for pid in pids}
        grown = {
            version: [pid for pid in pids if residents[pid] > _GROWN * self._residents.get(pid, 0)]
            for version, pids in workers.items()
        }
        read = {pid for pids in grown.values() for pid in pids}
        self._residents = {
            pid: size if pid in read else self._residents[pid]
            for pid, size in residents.items()
            if pid in read or pid in self._residents
        }
        found = await in_disk_thread(_largest, grown)
        self._peaks = {
            version: max(size, self._peaks.get(version, 0))
            for version in workers
            if (size := found.get(version, 0)) or version in self._peaks
        }


def _pids(workers: Sequence[WorkerHandle]) -> list[int]:
    return [worker.pid for worker in workers if worker.pid is not None]


def _largest(pids: Mapping[VersionId, Sequence[int]]) -> dict[VersionId, int]:
    return {version: max(map(proportional_bytes, each), default=0) for version, each in pids.items()}
