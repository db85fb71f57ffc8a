"""A registry that is a file, and what can happen to a file."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.faults.mounts import mounted
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
LOCKED_SECONDS = 30.0
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess]) -> GatewayProcess:
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    return gateway


@pytest.mark.slow
def test_a_database_that_somebody_locks_for_half_a_minute_costs_no_request(
    gateway: GatewayProcess, registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 14."""
    with Load(gateway.url, rate=100) as load:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(registry.database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder:
            assert holder.stdout.readline() == b"locked\n"
            wait_until(lambda: "locked" in gateway.state()["registry"]["error"], 20 * slack, gateway.story)
            time.sleep(LOCKED_SECONDS)
            assert gateway.get("/readyz").status_code == 200
        released_at = time.monotonic()
        registry.move("production", 5)
        gateway.wait_bound(5)
        took = time.monotonic() - released_at
    figure(f"{load.summary()}; converged {took:.1f} s after it was released")
    assert load.failed == []
    assert took <= POLL_SECONDS + 5 * slack


def test_a_database_that_is_replaced_deleted_and_put_back_costs_no_request_and_is_never_made_anew(
    gateway: GatewayProcess, registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 14."""
    successor = Registry(registry.directory / "successor")
    successor.directory.mkdir()
    shutil.copy(registry.database, successor.database)
    with closing(sqlite3.connect(successor.database)) as connection, connection:
        moved = "UPDATE registered_model_aliases SET version = 5 WHERE name = 'sentiment' AND alias = ?"
        connection.execute(moved, ["production"])
    kept = shutil.copy(successor.database, successor.directory / "kept.db")
    with Load(gateway.url, rate=100) as load:
        successor.database.replace(registry.database)
        gateway.wait_bound(5)
        registry.database.unlink()
        wait_until(lambda: not gateway.state()["registry"]["reachable"], 20 * slack, gateway.story)
        polls = gateway.metric("canary_router_registry_polls_total", result="failure")
        wait_until(
            lambda: gateway.metric("canary_router_registry_polls_total", result="failure") > polls + 1,
            20 * slack,
        )
        assert not registry.database.exists()
        assert gateway.bound() == 5
        assert gateway.get("/readyz").status_code == 200
        Path(kept).replace(registry.database)
        took = wait_until(lambda: gateway.state()["registry"]["reachable"], 20 * slack, gateway.story)
    figure(f"{load.summary()}; reachable {took:.1f} s after it was put back")
    assert load.failed == []
    assert took <= POLL_SECONDS + 5 * slack


@pytest.fixture
def read_only(registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """The registry as the gateway sees it: the same files, on a file system that takes no writes."""
    target = tmp_path / "read-only"
    with mounted(target, "--bind", str(registry.directory)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)
        yield Registry(target)


@pytest.mark.slow
def test_a_database_on_a_read_only_file_system_is_followed(
    registry: Registry,
    read_only: Registry,
    start: Callable[..., GatewayProcess],
    tmp_path: Path,
    figure: Figure,
) -> None:
    """Row 14. Others write to it where it is writable."""
    gateway = start(MODELS, uri=read_only.uri)
    gateway.wait_bound(2, "canary")
    with pytest.raises(OSError, match="Read-only"):
        (read_only.directory / "anything").touch()
    with Load(gateway.url, rate=100) as load:
        registry.move("production", 5)
        gateway.wait_bound(5)
    figure(load.summary())
    assert load.failed == []
    assert os.listdir(read_only.directory).count("mlflow.db") == 1
