"""Models, aliases and versions that are missing, mistyped, slow, or unlike the one before."""

import base64
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.alias_moves import Moves
from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
LONG_LOAD_SECONDS = 60.0


def polled(gateway: GatewayProcess, times: int = 3) -> None:
    """Wait until the registry was asked so many times more."""
    before = gateway.metric("canary_router_registry_polls_total")
    wait_until(lambda: gateway.metric("canary_router_registry_polls_total") >= before + times, 30)


def alias_of(gateway: GatewayProcess, alias: str = "production") -> dict[str, object]:
    reported: dict[str, object] = gateway.model()["aliases"][alias]
    return reported


@pytest.fixture(scope="module")
def gateway(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One for two tests: the first adds a model to it, the second takes the aliases of the other one."""
    gateway = start_shared(MODELS)
    gateway.wait_bound(2, "canary")
    return gateway


def test_a_mistyped_model_added_by_a_reload_leaves_every_other_model_and_readiness_alone(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    """Row 35. Its own paths answer 503, and it is named in the state and in the log."""
    before = gateway.model()
    with Load(gateway.url, rate=100) as load:
        with gateway.config.open("a") as config:
            config.write("  sentimnet: {split: {production: 50, canary: 50}}\n")
        took = wait_until(
            lambda: gateway.state()["models"].get("sentimnet", {}).get("registry_error"), 10 * slack
        )
        polled(gateway)
        assert gateway.get("/readyz").status_code == 200
        answer = gateway.ask("user-1", model="sentimnet")
        assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        after = gateway.model()
    figure(f"{load.summary()}; reported {took:.1f} s after the file was written")
    assert load.failed == []
    for unchanged in ("ready", "split", "aliases", "registry_error", "warnings"):
        assert after[unchanged] == before[unchanged]
    assert [line["model"] for line in gateway.lines("registry poll failed; what it last named stays")] == [
        "sentimnet"
    ]


def test_an_alias_that_is_deleted_ends_the_canary_and_leaves_production_stale(
    gateway: GatewayProcess, shared_registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 15."""
    client = shared_registry.client
    with Load(gateway.url, rate=100) as load:
        client.delete_registered_model_alias("sentiment", "canary")
        wait_until(lambda: alias_of(gateway, "canary")["bound"] is None, 10 * slack, gateway.story)
        client.delete_registered_model_alias("sentiment", "production")
        wait_until(lambda: alias_of(gateway)["stale"], 10 * slack, gateway.story)
        polled(gateway)
    figure(load.summary())
    assert load.failed == []
    assert alias_of(gateway)["bound"] == 1
    assert gateway.get("/readyz").status_code == 200
    assert gateway.model()["split"] == {"production": 100, "canary": 0}


@pytest.mark.slow
def test_a_registered_model_that_is_deleted_leaves_production_stale_and_serving(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 15."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with Load(gateway.url, rate=100) as load:
        registry.client.delete_registered_model("sentiment")
        wait_until(lambda: gateway.model()["registry_error"], 10 * slack, gateway.story)
        polled(gateway)
    figure(load.summary())
    assert load.failed == []
    assert alias_of(gateway)["bound"] == 1
    assert alias_of(gateway)["stale"]
    assert gateway.get("/readyz").status_code == 200


@pytest.mark.slow
def test_an_alias_at_a_version_that_is_deleted_leaves_the_old_one_serving(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 15. MLflow deletes a version's aliases with it; a registry restored by hand may still have them."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with Load(gateway.url, rate=100) as load:
        with closing(sqlite3.connect(registry.database)) as connection, connection:
            connection.execute("UPDATE registered_model_aliases SET version = 99 WHERE name = 'sentiment'")
        wait_until(lambda: gateway.model()["versions"].get("99", {}).get("error"), 20 * slack, gateway.story)
        assert [alias_of(gateway, alias)["bound"] for alias in ("production", "canary")] == [1, 2]
        assert [alias_of(gateway, alias)["pending"] for alias in ("production", "canary")] == [True, True]
        # A version that serves is deleted: its aliases go with it.
        registry.move("production", 1)
        registry.move("canary", 2)
        wait_until(lambda: not alias_of(gateway)["pending"], 10 * slack, gateway.story)
        registry.client.delete_model_version("sentiment", "1")
        registry.client.delete_model_version("sentiment", "2")
        wait_until(lambda: alias_of(gateway)["stale"], 10 * slack, gateway.story)
        wait_until(lambda: alias_of(gateway, "canary")["bound"] is None, 10 * slack, gateway.story)
        polled(gateway)
    figure(load.summary())
    assert load.failed == []
    assert alias_of(gateway)["bound"] == 1
    assert gateway.get("/readyz").status_code == 200


@pytest.mark.slow
def test_a_model_with_a_canary_only_answers_503_and_never_by_the_canary(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """Row 31. And with a production only, that has everything."""
    registry.client.delete_registered_model_alias("sentiment", "production")
    gateway = start(MODELS, wait=False)
    gateway.wait_bound(2, "canary")
    assert gateway.get("/readyz").status_code == 503
    assert gateway.get("/ping").status_code == 503
    for number in range(20):
        answer = gateway.ask(f"user-{number}")
        assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "X-Model-Version" not in answer.headers
    registry.client.delete_registered_model_alias("sentiment", "canary")
    registry.move("production", 1)
    gateway.wait_ready(20 * slack)
    wait_until(lambda: alias_of(gateway, "canary")["bound"] is None, 10 * slack, gateway.story)
    answers = [gateway.ask(f"user-{number}") for number in range(40)]
    assert {(one.status_code, one.headers["X-Model-Version"]) for one in answers} == {(200, "1")}
    assert gateway.model()["split"] == {"production": 100, "canary": 0}


@pytest.mark.slow
def test_two_gateways_on_one_configuration_and_restarts_give_every_key_the_same_alias(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path, figure: Figure
) -> None:
    """Row 32."""
    other = tmp_path / "other"
    other.mkdir()
    with gateways(other, registry.uri, POLL_SECONDS) as start_other:
        seen = []
        one, two = start(MODELS), start_other(MODELS)
        for gateway in (one, two):
            gateway.wait_bound(2, "canary")
            seen.append(aliases_of_keys(gateway))
        assert one.stop() == 0
        again = start(MODELS)
        again.wait_bound(2, "canary")
        seen.append(aliases_of_keys(again))
    figure(
        f"{len(seen[0])} keys, {sum(alias == 'canary' for alias in seen[0].values())} of them canary, 3 times"
    )
    assert seen[0] == seen[1] == seen[2]
    assert set(seen[0].values()) == {"production", "canary"}


def aliases_of_keys(gateway: GatewayProcess) -> dict[str, str]:
    keys = [*(f"user-{number}" for number in range(500)), "ключ", "", "x" * 200]
    return {key: gateway.ask(key.encode()).headers["X-Route-Alias"] for key in keys}


@pytest.mark.slow
def test_both_aliases_that_move_at_once_change_each_as_soon_as_its_own_version_is_ready(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 2. The canary does not wait for a production that takes six seconds to load."""
    gateway = start(MODELS, TEST_LOAD_SECONDS="6")
    gateway.wait_bound(2, "canary")
    moves = Moves()
    with Load(gateway.url, rate=100) as load:
        begun = time.monotonic()
        moves.move(registry, "production", 8)
        moves.move(registry, "canary", 5)
        gateway.wait_bound(5, "canary")
        canary_after = time.monotonic() - begun
        assert gateway.bound() == 1
        gateway.wait_bound(8)
        production_after = time.monotonic() - begun
    longest = max(sum(ready["seconds"].values()) for ready in gateway.loads())
    figure(f"{load.summary()}; canary after {canary_after:.1f} s, production after {production_after:.1f} s")
    assert load.failed == []
    assert moves.wrong(load.seen, POLL_SECONDS + longest + 1.0 * slack) == []
    assert canary_after < production_after - 2


@pytest.mark.slow
def test_a_version_that_loads_for_a_minute_slows_nobody_and_holds_up_no_other_alias(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Row 4."""
    gateway = start(MODELS, TEST_LOAD_SECONDS=f"{LONG_LOAD_SECONDS:g}")
    gateway.wait_bound(2, "canary")
    with Load(gateway.url, rate=200) as load:
        registry.move("production", 8)
        wait_until(lambda: "8" in gateway.model()["versions"], 10 * slack)
        registry.move("canary", 5)
        swapped = wait_until(lambda: gateway.bound("canary") == 5, 30 * slack, gateway.story)
        assert gateway.bound() == 1
        gateway.wait_bound(8, seconds=LONG_LOAD_SECONDS + 30 * slack)
    p99 = sorted(one.seconds for one in load.seen)[int(len(load.seen) * 0.99)]
    figure(f"{load.summary()}; the other alias swapped after {swapped:.1f} s")
    assert load.failed == []
    assert p99 < 0.5 * slack
    assert swapped < 10 * slack


@pytest.mark.slow
def test_versions_with_other_signatures_each_get_requests_as_their_own_says(
    start: Callable[..., GatewayProcess], registry: Registry, figure: Figure
) -> None:
    """Row 6. The same text is a string to one version and, decoded, bytes to the other."""
    registry.move("production", 9)
    registry.move("canary", 10)
    gateway = start("  sentiment: {split: {production: 50, canary: 50}, fallback: none}\n")
    gateway.wait_bound(10, "canary")
    text = base64.b64encode(b"good").decode()
    body = json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text]]}}).encode()
    with Load(gateway.url, rate=200, body=body) as load:
        for production, canary in ((10, 9), (9, 10), (10, 10), (9, 9)) * 2:
            registry.move("production", production)
            registry.move("canary", canary)
            gateway.wait_bound(production)
            gateway.wait_bound(canary, "canary")
    figure(load.summary())
    assert load.failed == []
    assert {one.version for one in load.seen} == {9, 10}
    assert all(json.loads(one.body)["predictions"] == [one.version / 10] for one in load.seen)
