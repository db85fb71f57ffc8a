"""A start while the registry, its artifact store, or both are away: real files, really moved."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.registry import Registry
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
STARTED = "the registry is out of reach; starting from what served last"
BACK = "the registry answers again"
Start = Callable[..., GatewayProcess]


class Away:
    """A registry with artifacts of its own, which can be put out of reach and brought back."""

    def __init__(self, registry: Registry, artifacts: Path, cache: Path) -> None:
        self.registry, self.artifacts, self.cache = registry, artifacts, cache

    def take(self, *places: Path) -> None:
        for place in places or (self.registry.database, self.artifacts):
            place.rename(place.with_name(place.name + ".away"))

    def bring_back(self) -> None:
        for place in (self.registry.database, self.artifacts):
            if (away := place.with_name(place.name + ".away")).exists():
                away.rename(place)

    def place(self, version: int) -> Path:
        [place] = (self.cache / "sentiment").glob(f"{version}-*")
        return place

    def recorded(self) -> dict[str, Any]:
        for path in (self.cache / "sentiment").glob("last-good-*.json"):
            aliases: dict[str, Any] = json.loads(path.read_bytes())["aliases"]
            return aliases
        return {}


@pytest.fixture
def away(registry: Registry, built_registry: Path, tmp_path: Path) -> Away:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(built_registry / "artifacts", artifacts)
    with closing(sqlite3.connect(registry.database)) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)",  # names of ours
                (str(built_registry / "artifacts"), str(artifacts)),
            )
    return Away(registry, artifacts, tmp_path / "cache")


@pytest.fixture
def served_before(start: Start, away: Away, slack: float) -> Away:
    """A gateway served production 1 and canary 2, recorded them, and has ended."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    wait_until(lambda: len(away.recorded()) == 2, 20 * slack, gateway.story)
    assert gateway.stop() == 0
    gateway.log.unlink()
    return away


def lines(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    written = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in written if line["event"] == event]


def test_a_start_without_registry_and_store_serves_what_served_last_until_the_registry_is_back(
    served_before: Away, start: Start, figure: Figure, slack: float
) -> None:
    served_before.take()
    gateway = start(MODELS, wait=False)
    seconds = wait_until(lambda: gateway.get("/readyz").status_code == 200, 30 * slack, gateway.story)
    figure(f"ready {seconds:.2f} s after its announcement, without registry and store")
    gateway.wait_bound(2, "canary")
    state = gateway.state()
    assert state["ready"]
    assert state["serving_from_cache"]
    assert not state["registry"]["reachable"]
    assert state["models"]["sentiment"]["serving_from_cache"]
    assert gateway.metric("canary_router_serving_from_cache") == 1
    assert {gateway.ask(f"user-{n}").headers["X-Model-Version"] for n in range(20)} == {"1", "2"}
    workers = gateway.worker_pids(1) + gateway.worker_pids(2)

    served_before.bring_back()

    wait_until(lambda: gateway.state()["registry"]["reachable"], 20 * slack, gateway.story)
    assert not gateway.state()["serving_from_cache"]
    assert gateway.metric("canary_router_serving_from_cache") == 0
    assert gateway.worker_pids(1) + gateway.worker_pids(2) == workers, "an equal version was loaded again"
    assert (len(lines(gateway, STARTED)), len(lines(gateway, BACK))) == (1, 1)
    assert gateway.metric("canary_router_alias_pending") == 0
    served_before.registry.move("production", 5)
    gateway.wait_bound(5)
    wait_until(lambda: served_before.recorded()["production"][0] == 5, 20 * slack, gateway.story)


def test_what_the_registry_says_when_it_is_back_holds_at_once(
    served_before: Away, start: Start, slack: float
) -> None:
    served_before.registry.move("production", 5)
    served_before.registry.client.delete_registered_model_alias("sentiment", "canary")
    served_before.take()
    gateway = start(MODELS)
    assert gateway.bound() == 1

    served_before.bring_back()

    gateway.wait_bound(5)
    assert gateway.bound("canary") is None


def test_a_start_without_the_artifact_store_needs_only_the_registry(
    served_before: Away, start: Start
) -> None:
    served_before.take(served_before.artifacts)

    gateway = start(MODELS)

    gateway.wait_bound(2, "canary")
    assert not gateway.state()["serving_from_cache"]


def test_without_a_record_it_lives_is_not_ready_and_keeps_trying(
    away: Away, start: Start, slack: float
) -> None:
    away.take()
    gateway = start(MODELS, wait=False)
    wait_until(lambda: gateway.state()["registry"]["error"], 20 * slack, gateway.story)
    assert (gateway.get("/livez").status_code, gateway.get("/readyz").status_code) == (200, 503)
    assert gateway.metric("canary_router_serving_from_cache") == 0

    away.bring_back()

    gateway.wait_ready()


def _other_bytes(place: Path) -> str:
    path = place / "files" / "python_model.pkl"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    return "python_model.pkl is not as it was published"


def test_a_copy_that_was_tampered_with_is_refused_by_name_and_fetched_anew_later(
    served_before: Away, start: Start, slack: float
) -> None:
    """The other ways to tamper are in tests/agent/test_last_good.py."""
    reported = _other_bytes(served_before.place(1))
    served_before.take()
    gateway = start(MODELS, wait=False)

    gateway.wait_bound(2, "canary")
    wait_until(lambda: gateway.model()["versions"]["1"]["error"], 20 * slack, gateway.story)
    assert reported in gateway.model()["versions"]["1"]["error"]
    assert reported in gateway.log.read_text()
    assert gateway.get("/readyz").status_code == 503
    assert gateway.ask("user-1").status_code == 503

    served_before.bring_back()

    gateway.wait_ready(20 * slack)
    assert gateway.ask("user-1").status_code == 200


def test_a_canary_that_is_refused_does_not_stop_production(
    served_before: Away, start: Start, slack: float
) -> None:
    reported = _other_bytes(served_before.place(2))
    served_before.take()

    gateway = start(MODELS)

    wait_until(lambda: gateway.model()["versions"]["2"]["error"], 20 * slack, gateway.story)
    assert reported in gateway.model()["versions"]["2"]["error"]
    assert {gateway.ask(f"user-{n}").headers["X-Model-Version"] for n in range(20)} == {"1"}
