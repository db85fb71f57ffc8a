"""Production always gets a worker again, whatever fails to load, and says so while it has none."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.gateway import GatewayProcess, wait_until
from tests.e2e.registry import Registry, built_once

MODELS = "  sentiment: {split: {production: 100}}\n"


@pytest.fixture(scope="session")
def built_supply(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(Path(__file__).with_name("build_supply.py"), tmp_path_factory)


@pytest.fixture
def registry(built_supply: Path, tmp_path: Path) -> Registry:
    """A copy of the database, so that a test may move aliases as it likes; `start` uses it."""
    shutil.copy(built_supply / "mlflow.db", tmp_path / "mlflow.db")
    return Registry(tmp_path)


def crash(gateway: GatewayProcess) -> None:
    assert gateway.ask("user-1", "os._exit").status_code == 503


def test_production_whose_worker_dies_while_a_spare_does_not_load_has_a_worker_again(
    start: Callable[..., GatewayProcess], tmp_path: Path, slack: float
) -> None:
    loads = tmp_path / "loads"
    gateway = start(MODELS, FRAGILE_COUNT=str(loads), FRAGILE_FAILS="2")
    wait_until(lambda: loads.stat().st_size == 2, 10 * slack, gateway.story)  # the spare's load
    crash(gateway)
    wait_until(lambda: gateway.lines("worker not loaded"), 10 * slack, gateway.story)

    wait_until(lambda: gateway.worker_pids(1), 5 * slack, gateway.story)
    assert gateway.ask("user-1").status_code == 200
    assert gateway.metric("canary_router_worker_load_failures_total", version="1") == 1


def test_a_second_worker_that_never_loads_is_tried_ever_less_often(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path
) -> None:
    registry.move("production", 4)
    loads = tmp_path / "lock"
    gateway = start("  sentiment: {split: {production: 100}, workers: 2}\n", LOCK=str(loads))
    wait_until(lambda: gateway.model()["versions"]["4"]["retry_seconds"] == 20, 20, gateway.story)
    time.sleep(5)

    assert loads.stat().st_size == 3
    assert "BlockingIOError" in gateway.model()["versions"]["4"]["error"]
    assert gateway.metric("canary_router_worker_load_failures_total", version="4") == 2
    assert gateway.ask("user-1").status_code == 200
