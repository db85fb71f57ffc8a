"""The most that a worker of a version was seen to hold."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from router.core.ids import VersionId
from router.core.memory import Resident
from router.processes.memory import proportional_bytes
from router.serving import worker_memory
from router.serving.worker_memory import WorkerMemory

V7, GONE = VersionId("m", 7), 2**30


def models(*pids: int, loaded: bool = True) -> Any:
    """With one version that has these workers."""
    pool = SimpleNamespace(workers=[SimpleNamespace(pid=pid) for pid in pids])
    harness = SimpleNamespace(version=V7, loaded=loaded, pool=pool)
    return SimpleNamespace(managers={"m": SimpleNamespace(harnesses={V7: harness})})


def test_the_pss_of_a_process_is_no_more_than_its_resident_memory() -> None:
    size = proportional_bytes(os.getpid())

    assert 1 << 20 < size <= worker_memory.resident(os.getpid()).total
    assert proportional_bytes(GONE) == 0


async def test_it_is_that_of_the_largest_worker_and_of_none_that_is_gone() -> None:
    memory = WorkerMemory(models(os.getpid(), GONE))
    assert memory.peak(V7) is None

    await memory.tick()

    assert (memory.peak(V7) or 0) > 1 << 20


async def test_a_peak_stays_until_the_version_goes_and_only_a_worker_that_grew_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, read = {7: 100}, []
    monkeypatch.setattr(worker_memory, "resident", lambda pid: Resident(sizes[pid]))
    monkeypatch.setattr(worker_memory, "proportional_bytes", lambda pid: read.append(pid) or sizes[pid] // 2)
    seen = models(7)
    memory = WorkerMemory(seen)

    for sizes[7] in (100, 100, 400, 200, 401):
        await memory.tick()
    assert (memory.peak(V7), len(read)) == (200, 2)

    seen.managers["m"].harnesses[V7].loaded = False
    await memory.tick()
    assert memory.peak(V7) is None
