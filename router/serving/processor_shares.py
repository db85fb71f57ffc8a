"""Bounds each worker's threads for linear algebra by what other versions leave of the processors."""

from collections.abc import Callable, Mapping
from typing import Protocol

from router.core.cpu_threads import fair_bounds
from router.serving.manager import ModelManager
from router.serving.ports import WorkerHandle

SMOOTHED = 0.8
"""Weight of what was known, at each look: one second without a request says little."""


class Models(Protocol):
    """Whose workers share the processors."""

    @property
    def managers(self) -> Mapping[str, ModelManager]:
        """By registered model."""


class ProcessorShares:
    """Looks at how busy each worker is whose predicts compute, and bounds the threads of all workers by that.

    A worker that just began gets its bound at the next look; until then it has one thread.
    """

    def __init__(self, models: Models, processors: int, clock: Callable[[], float]) -> None:
        """`processors`: those that this process may use; `clock`: monotonic, in seconds."""
        self._models = models
        self._processors = processors
        self._clock = clock
        self._looked_at = clock()
        self._busy: dict[WorkerHandle, float] = {}
        """Of each worker, the share of its time in which a predict runs, where those compute."""
        self._seconds: dict[WorkerHandle, float] = {}
        """`predict_seconds` of each worker at the last look."""

    async def tick(self) -> None:
        """Look once."""
        now = self._clock()
        elapsed, self._looked_at = max(now - self._looked_at, 1e-9), now
        workers = self._workers()
        self._busy = {worker: self._busy_share(worker, elapsed) for worker in workers}
        self._seconds = {worker: worker.predict_seconds for worker in workers}
        bounds = [worker.most_cpu_threads for worker in workers]
        fair = fair_bounds(self._processors, list(self._busy.values()), bounds)
        for worker, most in zip(workers, fair, strict=True):
            worker.limit_cpu_threads(most)

    def _busy_share(self, worker: WorkerHandle, elapsed: float) -> float:
        ran = worker.predict_seconds - self._seconds.get(worker, 0.0)
        now = min(ran / elapsed, 1.0) if worker.cpu_threads.computes else 0.0
        before = self._busy.get(worker, now)
        return SMOOTHED * before + (1.0 - SMOOTHED) * now

    def _workers(self) -> list[WorkerHandle]:
        return [
            worker
            for manager in self._models.managers.values()
            for harness in manager.harnesses.values()
            if harness.loaded
            for worker in harness.pool.workers
        ]
