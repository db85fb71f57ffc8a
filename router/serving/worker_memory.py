"""The most memory that a worker of each version was seen to hold, as proportional set size (PSS)."""

from collections.abc import Mapping, Sequence

from router.core.ids import VersionId
from router.processes.disk import in_disk_thread
from router.processes.memory import proportional_bytes
from router.serving.models import ModelSet

MEMORY_LOOK_SECONDS = 30.0
"""Reading it walks the page tables of a process, which takes 20 ms: not on the event loop, and not often.
What a worker holds in between for a moment is not seen."""


class WorkerMemory:
    """Looks at the workers that serve, now and then."""

    def __init__(self, models: ModelSet) -> None:
        self._models = models
        self._peaks: dict[VersionId, int] = {}

    def peak(self, version: VersionId) -> int | None:
        """Bytes, since the version was loaded; None before the first look, and where it can not be read."""
        return self._peaks.get(version)

    async def tick(self) -> None:
        """Look at every worker once."""
        harnesses = [one for each in self._models.managers.values() for one in each.harnesses.values()]
        pids = {one.version: [held.pid for held in one.pool.workers] for one in harnesses if one.loaded}
        found = await in_disk_thread(_largest, pids)
        self._peaks = {
            version: max(size, self._peaks.get(version, 0))
            for version in pids
            if (size := found.get(version, 0)) or version in self._peaks
        }


def _largest(pids: Mapping[VersionId, Sequence[int]]) -> dict[VersionId, int]:
    return {version: max(map(proportional_bytes, each), default=0) for version, each in pids.items()}
