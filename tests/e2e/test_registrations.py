"""Versions that the registry names before they are whole, or whose files are gone from the store."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
SWAPS = "canary_router_model_swaps_total"


def write(registry: Registry, column: str, value: str, version: int) -> None:
    with closing(sqlite3.connect(registry.database)) as database, database:
        database.execute(
            f"UPDATE model_versions SET {column} = ? WHERE name = 'sentiment' AND version = ?",  # ours
            (value, version),
        )


def error_of(gateway: GatewayProcess, version: int) -> str:
    return str(gateway.model()["versions"].get(str(version), {}).get("error", ""))


@pytest.mark.slow
def test_a_version_that_becomes_ready_in_the_registry_is_served_within_a_poll_and_a_load(
    start: Callable[..., GatewayProcess], registry: Registry, figure: Figure, slack: float
) -> None:
    """After two failed tries the next one of its own would come 20 s later."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    write(registry, "status", "PENDING_REGISTRATION", 5)
    with Load(gateway.url, rate=50) as load:
        registry.move("canary", 5)
        failed = {"alias": "canary", "result": "failure"}
        wait_until(lambda: gateway.metric(SWAPS, **failed) >= 2, 30 * slack, gateway.story)
        assert "PENDING_REGISTRATION" in error_of(gateway, 5)
        assert gateway.metric(SWAPS, result="refused") == 0, "no rule forbids it"
        write(registry, "status", "READY", 5)
        changed = time.monotonic()
        gateway.wait_bound(5, "canary")
        seconds = time.monotonic() - changed
    figure(f"served {seconds:.1f} s after its registration was READY, polled every 0.5 s")
    assert seconds < 5 * slack
    assert load.failed == []


@pytest.mark.slow
def test_a_version_without_its_files_is_a_failure_and_no_refusal(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """Whoever looks for a rule that forbids it would look in the wrong place."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    empty = registry.directory / "empty"
    empty.mkdir()
    for column in ("source", "storage_location"):
        write(registry, column, str(empty), 5)
    registry.move("canary", 5)

    wait_until(lambda: error_of(gateway, 5), 20 * slack, gateway.story)

    assert "there is no MLmodel file" in error_of(gateway, 5)
    assert gateway.metric(SWAPS, alias="canary", result="failure") == 1
    assert gateway.metric(SWAPS, result="refused") == 0
