"""What predicts of the canary cost, by real workers at 5 % of the keys beside production's 95."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Figure
from tests.support.comparison import check, command
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry, built_registry_of
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 95, canary: 5}, checks: {cost: {max_increase: 0.5}}}\n"
ROWS = (1, 2, 5, 12)
"""Of a request; those of production share predicts where they wait together."""


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the place of the end-to-end tests' own."""
    return built_registry_of(Path(__file__).parents[1] / "support" / "build_costs.py", tmp_path_factory)


def cost(gateway: GatewayProcess) -> dict[str, Any]:
    entry = json.loads(gateway.get("/v1/compare").text)["models"]["sentiment"]["canary"]
    return check(entry, "cost")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twice_the_processor_time_is_shown_as_twice_and_the_same_as_the_same(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with ExitStack() as loads:
        for rows in ROWS:
            load = Load(gateway.url, clients=8, rate=45, keys=4000, body=body_of("good", rows))
            loads.enter_context(load)
        for version, times, within in ((2, 2.0, 0.15), (3, 1.0, 0.1)):
            if version != 2:
                registry.move("canary", version)
                gateway.wait_bound(version, "canary")
            wait_until(
                lambda: cost(gateway)["canary"]["predicts"] >= 250 and cost(gateway)["ratio"] is not None,
                90 * slack,
                gateway.story,
            )
            found = cost(gateway)
            figure(f"v{version} at 5 %: {found['ratio']:.3f} times, {found['interval']}; {found['why']}")
            assert found["ratio"] == pytest.approx(times, abs=within), found
            assert found["verdict"] == ("fail" if version == 2 else "pass"), found
            if version == 2:
                assert "✘ FAIL" in command(gateway, "compare")[1]
    at = {"model": "sentiment", "version": "1"}
    spent = gateway.metric("canary_router_worker_cpu_seconds_total", phase="predict", **at)
    counted = gateway.model()["versions"]["1"]["cost"]
    assert spent > 10 * gateway.metric("canary_router_worker_cpu_seconds_total", phase="warmup", **at)
    assert counted["fixed_seconds"] == pytest.approx(0.0015, rel=0.3)
    assert counted["row_seconds"] == pytest.approx(0.0001, rel=0.3)
    assert counted["peak_memory_bytes"] > 10 << 20
