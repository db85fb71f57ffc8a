"""Busy neighbours: a process on each processor of the servers, and what the gateway refuses beside them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

from benchmarks.figures import percentile
from benchmarks.load import Loader
from benchmarks.open_client import NEVER_SENT
from benchmarks.plan import BUSY, PART_MODELS, Plan
from benchmarks.processes import Ended, start
from benchmarks.results import Busy, Results
from benchmarks.servers import Place, gateway
from benchmarks.workloads import write_requests

WORKLOAD = PART_MODELS[BUSY]
CONNECTIONS = 16
"""Of the closed loop that finds the capacity."""
REFUSED = (429, 503)
_WARM_SECONDS = 1
_SPIN = str(Path(__file__).with_name("spin.py"))


@contextmanager
def busy_processors(core: int | None) -> Iterator[None]:
    """A process of our own priority that never waits, on `core` or on every one. Raises Ended if one ends."""
    with ExitStack() as stack:
        started = [stack.enter_context(_spinning(one)) for one in _cores(core)]
        yield
        if any(process.poll() is not None for process in started):
            raise Ended("a busy process ended early: this was measured without it")


@contextmanager
def _spinning(core: int | None) -> Iterator["Popen[bytes]"]:
    # A session of its own, as each server has: where the scheduler groups by session, each is one of two.
    with start([sys.executable, _SPIN], core, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _cores(core: int | None) -> list[int | None]:
    """One entry for each process to be started: its processor, None where it can not be pinned."""
    if core is not None:
        return [core]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [None] * (processors or 1)


def measure(plan: Plan, place: Place, loader: Loader, results: Results) -> None:
    """Find the gateway's capacity alone, then ask half of it beside busy processes. Raises Ended."""
    requests = place.directory / "busy.requests"
    write_requests(requests, WORKLOAD, 1)
    with gateway(WORKLOAD, place) as server:
        loader.closed_loop(server.port, requests, CONNECTIONS, _WARM_SECONDS)
        quiet = loader.good_round(server, requests, CONNECTIONS, plan.seconds)
        rate = max(1, int(quiet.per_second / 2))
        with (
            busy_processors(place.core),
            loader.open_loop(server.port, requests, rate, plan.busy_seconds) as load,
        ):
            load.wait(plan.busy_seconds)
            server.tree.alive()
    statuses = Counter(status for _, _, status in load.samples)
    never_sent = statuses.pop(NEVER_SENT, 0)
    results.busy = Busy(
        quiet.per_second,
        rate,
        plan.busy_seconds,
        sent=statuses.total(),
        refused=sum(statuses[status] for status in REFUSED),
        failed=sum(count for status, count in statuses.items() if not 200 <= status < 300),
        never_sent=never_sent,
        p99_ms=percentile([taken for _, taken, status in load.samples if status != NEVER_SENT], 99),
    )
