"""The gateway shares the processors among the workers whose predicts compute at this moment."""

from types import SimpleNamespace
from typing import Any

from router.core.ids import VersionId
from router.core.processor_time import ProcessorTime
from router.protocol.cpu_threads import CpuThreads, at_first, learns_cpu_threads
from router.protocol.messages import LoadSpec
from router.serving.processor_shares import ProcessorShares

SPEC = LoadSpec(VersionId("m", 1), "/cache", None)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Working:
    """A worker that computes for a share of its time."""

    def __init__(self, busy: float, *, computes: bool = True, spec: LoadSpec = SPEC) -> None:
        self.busy = busy
        self.cpu_threads = at_first(spec)
        if spec.cpu_threads is None:
            self.cpu_threads = CpuThreads(1, computes=computes, why="measured")
        self.most_cpu_threads, self.predict_seconds = self.cpu_threads.threads, 0.0
        self.processor_time = ProcessorTime()
        self._learns = learns_cpu_threads(spec)

    def limit_cpu_threads(self, most: int) -> None:
        if self._learns:
            self.most_cpu_threads = most


def models_of(*workers: Working) -> Any:
    pools = [SimpleNamespace(loaded=True, pool=SimpleNamespace(workers=[worker])) for worker in workers]
    loading = SimpleNamespace(loaded=False)
    return SimpleNamespace(managers={"m": SimpleNamespace(harnesses=dict(enumerate([*pools, loading])))})


async def bounds_after(seconds: int, processors: int, *workers: Working) -> list[int]:
    clock = FakeClock()
    shares = ProcessorShares(models_of(*workers), processors, clock)
    for _ in range(seconds):
        clock.now += 1.0
        for worker in workers:
            worker.predict_seconds += worker.busy
        await shares.tick()
    return [worker.most_cpu_threads for worker in workers]


async def test_one_that_computes_alone_may_use_every_processor() -> None:
    assert await bounds_after(1, 16, Working(1.0)) == [16]
    assert await bounds_after(20, 16, Working(1.0), Working(0.0), Working(1.0, computes=False)) == [16, 8, 8]


async def test_those_that_compute_at_once_have_equal_parts() -> None:
    assert await bounds_after(20, 16, Working(1.0), Working(1.0)) == [8, 8]
    assert await bounds_after(20, 2, Working(1.0), Working(1.0), Working(1.0)) == [1, 1, 1]


async def test_a_version_with_a_number_of_its_own_keeps_it_and_counts_for_the_others() -> None:
    fixed = Working(1.0, spec=LoadSpec(VersionId("m", 2), "/cache", None, cpu_threads=4))
    assert await bounds_after(20, 16, fixed, Working(1.0)) == [4, 8]


async def test_one_that_ended_gives_its_part_back() -> None:
    clock, one, other = FakeClock(), Working(1.0), Working(1.0)
    models = models_of(one, other)
    shares = ProcessorShares(models, 8, clock)
    for second in range(40):
        if second == 20:
            assert (one.most_cpu_threads, other.most_cpu_threads) == (4, 4)
            models.managers["m"].harnesses.pop(1)
        clock.now += 1.0
        one.predict_seconds += 1.0
        other.predict_seconds += 1.0
        await shares.tick()
    assert one.most_cpu_threads == 8


async def test_workers_that_say_more_than_a_second_of_predicts_per_second_count_once() -> None:
    """What a worker reports is its version's word."""
    assert await bounds_after(20, 8, Working(1e300), Working(1.0)) == [4, 4]
