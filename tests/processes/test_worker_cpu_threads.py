"""How many threads for linear algebra a worker's predicts get, and that these compute."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.core.cpu_threads import WINDOW
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.cpu_threads import CpuThreads
from router.protocol.messages import PredictStatus
from tests.processes.conftest import ask
from tests.support.saved_versions import command_query, predictions, spec_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

MULTIPLIES = """run:
import time
import numpy as np
a = np.ones((700, 700))
process, thread = time.process_time(), time.thread_time()
for _ in range(6):
    a @ a
thread = time.thread_time() - thread
answer = (time.process_time() - process) / thread
"""
"""Answers how many processors' work each second of its own thread was, 1.0 without another thread."""

RESTS = """run:
import time
import numpy as np
a = np.ones((700, 700))
for _ in range(3):
    a @ a
began = time.process_time()
time.sleep(0.1)
answer = time.process_time() - began
"""
"""Answers how long its threads kept a processor busy after they had computed."""

DIVIDES = """run:
import time, threadpoolctl
threads = max(one["num_threads"] for one in threadpoolctl.threadpool_info())
began = time.process_time()
while time.process_time() - began < 0.007:
    pass
time.sleep(0.040 / threads)
answer = threads
"""
"""Computes, and lasts half as long with two threads on however busy a machine. Answers how many there are."""


async def worker_of(
    template: ForkServerSupervisor, versions: Path, slack: float, cpu_threads: int | None = None, **more: Any
) -> Worker:
    spec = replace(spec_of(versions, "commands"), cpu_threads=cpu_threads, **{"batches": False, **more})
    return await WorkerLoader(template).load(spec, deadline_seconds=30 * slack)


async def answer_of(worker: Worker, command: str) -> float:
    [answer] = await ask(worker, command_query(command))
    assert answer.predict_status is PredictStatus.OK, answer.body
    [value] = predictions(answer.body)
    return float(value)


@pytest.mark.parametrize("threads", [1, 4])
async def test_numpys_products_compute_on_as_many_threads_as_are_configured(
    template: ForkServerSupervisor, versions: Path, slack: float, threads: int
) -> None:
    """Of predicts one after the other and of those side by side, which run in threads of their own."""
    for cpu_threads in (1, 2):
        worker = await worker_of(template, versions, slack, cpu_threads, threads=threads)
        at_work = max([await answer_of(worker, MULTIPLIES) for _ in range(4)])
        worker.limit_cpu_threads(8)
        assert (worker.cpu_threads.threads, worker.most_cpu_threads) == (cpu_threads, cpu_threads)
        await worker.close()
        assert at_work < 1.2 if cpu_threads == 1 else at_work > 1.4


async def test_threads_that_have_nothing_to_compute_leave_the_processors_to_others(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """OpenBLAS' own default is 40 ms on a processor of 3 GHz, after each product."""
    worker = await worker_of(template, versions, slack, 2)
    assert min([await answer_of(worker, RESTS) for _ in range(3)]) < 0.01
    await worker.close()


async def test_a_version_that_computes_gets_the_threads_that_make_its_predicts_shorter(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """Never more than it may have at that moment."""
    worker = await worker_of(template, versions, slack)
    used = {await answer_of(worker, DIVIDES) for _ in range(WINDOW + 8)}
    assert used == {1}
    assert (worker.cpu_threads.threads, worker.cpu_threads.computes) == (1, True)

    worker.limit_cpu_threads(2)
    used = set()
    for _ in range(6 * WINDOW):
        used.add(await answer_of(worker, DIVIDES))
        if worker.cpu_threads.threads > 1:
            break
    assert worker.cpu_threads.threads == 2, worker.cpu_threads
    assert used == {1, 2}
    assert "with 2 threads" in worker.cpu_threads.why
    assert await answer_of(worker, DIVIDES) == 2

    worker.limit_cpu_threads(1)
    assert await answer_of(worker, DIVIDES) == 1
    assert worker.cpu_threads.threads == 1
    await worker.close()


async def test_a_small_version_keeps_one_thread(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, slack)
    worker.limit_cpu_threads(2)
    for _ in range(3 * WINDOW):
        [answer] = await ask(worker, command_query("threads:"))
        assert set(predictions(answer.body)[0]) == {1}
    assert worker.cpu_threads == CpuThreads(
        1, computes=False, why="its predicts take less than 5 ms of a processor"
    )
    await worker.close()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"threads": 4}, "its predicts run side by side"),
        ({"batches": True, "rtol": 0.0}, "batching_rtol: 0 asks for the same bits of every predict"),
    ],
    ids=["side_by_side", "same_bits"],
)
async def test_predicts_whose_threads_are_not_tried_say_why(
    template: ForkServerSupervisor, versions: Path, slack: float, more: dict[str, Any], why: str
) -> None:
    worker = await worker_of(template, versions, slack, **more)
    worker.limit_cpu_threads(2)
    used = {await answer_of(worker, DIVIDES) for _ in range(WINDOW + 8)}
    assert used == {1}
    assert worker.cpu_threads == CpuThreads(1, computes=False, why=why)
    await worker.close()
