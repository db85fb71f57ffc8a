"""Row 10 of the promises: a version that leaks is recycled, and no caller notices."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.conftest import Figure
from tests.e2e.conftest import Registry
from tests.support import faulty_registry
from tests.support.faulty_registry import PRODUCTION_KEY
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry

LIMIT_MIB = 64
LEAKY = 5


class Peak:
    """The most that one process of the gateway ever had."""

    mib = 0.0


@contextmanager
def watching(gateway: GatewayProcess) -> Iterator[Peak]:
    """Look at all workers, those that are leaving too, five times a second."""
    peak, stop = Peak(), threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            for child in gateway.descendants():
                try:
                    if child.name() == "router-worker":
                        peak.mib = max(peak.mib, child.memory_info().rss / 2**20)
                except psutil.Error:  # it has ended since
                    continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess], registry: Registry) -> GatewayProcess:
    """Production leaks a MiB per request, and nobody answers in its place."""
    registry.move("production", LEAKY)
    return start(f"  sentiment: {{split: {{production: 100}}, worker_memory_mib: {LIMIT_MIB}}}\n")


def recycled(gateway: GatewayProcess) -> int:
    return int(gateway.metric("canary_router_worker_restarts_total", version=str(LEAKY), reason="memory"))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_version_that_leaks_is_recycled_under_load_and_costs_no_user_an_error(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    [pid] = gateway.worker_pids(LEAKY)
    ready_mib = psutil.Process(pid).memory_info().rss / 2**20
    with watching(gateway) as peak, Load(gateway.url, rate=60) as load:
        wait_until(lambda: recycled(gateway) >= 6, 60 * slack, gateway.story)
    grown = peak.mib - ready_mib
    figure(f"{recycled(gateway)} recycled, one grew by {grown:.0f} MiB at most; {load.summary()}")

    assert load.failed == []
    assert len(load.seen) > 6 * LIMIT_MIB
    assert grown < 3 * LIMIT_MIB * slack, "without recycling it would have grown by a MiB per request"
    ends = gateway.model()["versions"][str(LEAKY)]["worker_ends"]
    assert ends["counts"] == {"memory": recycled(gateway)}
    assert f"the limit is {LIMIT_MIB}; another joined first" in ends["last"]["detail"]


def test_a_predict_that_takes_far_too_much_is_ended_after_another_worker_has_joined(
    gateway: GatewayProcess, slack: float
) -> None:
    [pid] = gateway.worker_pids(LEAKY)
    answer = gateway.ask(PRODUCTION_KEY, f"bloat {3 * LIMIT_MIB} 25")

    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert "worker_memory_mib" in answer.json()["message"]
    assert answer.elapsed.total_seconds() < 10 * slack
    assert gateway.worker_pids(LEAKY) not in ([], [pid])
    assert gateway.ask(PRODUCTION_KEY).json() == {"predictions": [0.5]}
    wait_until(lambda: recycled(gateway) == 1, 5 * slack, gateway.story)
