"""A worker says what processor time each predict took, and what it took besides."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from tests.processes.conftest import ask
from tests.support.saved_versions import command_query, spec_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

SPINS = """run:
import time
began = time.{clock}()
while time.{clock}() - began < 0.05:
    pass
time.sleep(0.2)
answer = 0
"""
"""Computes for 50 ms and waits for four times as long."""

THREADS = """run:
import threading, time
def spin():
    began = time.thread_time()
    while time.thread_time() - began < 0.05:
        pass
thread = threading.Thread(target=spin)
thread.start()
thread.join()
answer = 0
"""

CHILDREN = """run:
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"], check=True)
answer = 0
"""


async def worker_of(template: ForkServerSupervisor, versions: Path, slack: float, **more: Any) -> Worker:
    spec = replace(spec_of(versions, "commands"), batches=False, **{"threads": 1, **more})
    return await WorkerLoader(template).load(spec, deadline_seconds=30 * slack)


async def test_time_that_a_predict_waits_is_no_processor_time(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, slack)
    try:
        load = worker.processor_time.load
        [answer] = await ask(worker, command_query(SPINS.format(clock="process_time")))
    finally:
        await worker.close()

    assert 0.05 <= answer.processor_seconds < 0.15
    assert answer.predict_seconds >= 0.25
    assert worker.processor_time.predict == answer.processor_seconds
    assert worker.processor_time.load == load > 0
    assert worker.processor_time.other > 0  # it read the request


async def test_of_predicts_side_by_side_each_counts_its_own_thread(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """The process as a whole took four times as much meanwhile."""
    worker = await worker_of(template, versions, slack, threads=4)
    query = command_query(SPINS.format(clock="thread_time"))
    try:
        answers = await asyncio.gather(*(ask(worker, query) for _ in range(4)))
    finally:
        await worker.close()

    for [answer] in answers:
        assert 0.05 <= answer.processor_seconds < 0.1
    assert worker.processor_time.predict == pytest.approx(sum(one.processor_seconds for [one] in answers))


async def test_threads_of_a_predict_count_and_processes_of_its_own_do_not(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, slack)
    try:
        [threads] = await ask(worker, command_query(THREADS))
        [children] = await ask(worker, command_query(CHILDREN))
    finally:
        await worker.close()

    assert threads.processor_seconds >= 0.05
    assert children.processor_seconds < 0.3
