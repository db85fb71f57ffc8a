"""Under a memory limit: nothing is loaded without room, and the kernel takes canaries before production."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.faults.build_heavy import MODELS
from tests.support.gateway import GatewayProcess, gateways
from tests.support.registry import Registry, built_registry_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
POLL_SECONDS = 0.5


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once in a run; its artifacts are shared and only read."""
    return built_registry_of(Path(__file__).with_name("build_heavy.py"), tmp_path_factory)


@pytest.fixture
def start(
    limited: Callable[[int], Sequence[str]], registry: Registry, tmp_path: Path
) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts a gateway below a limit of so many MiB."""
    with gateways(tmp_path, registry.uri, POLL_SECONDS) as starts:
        yield lambda mib, models, **more: starts(models, command=limited(mib), **more)


def ends(gateway: GatewayProcess, version: int, model: str = "sentiment") -> dict[str, int]:
    counts: dict[str, int] = gateway.model(model)["versions"][str(version)]["worker_ends"]["counts"]
    return counts


def test_no_spare_is_loaded_where_it_has_no_room(
    start: Callable[..., GatewayProcess], registry: Registry
) -> None:
    registry.move("production", 1)
    gateway = start(1200, "  sentiment: {split: {production: 100}}\n")
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:  # nothing moves for 20 s, and nothing happens
        version = gateway.model()["versions"]["1"]
        assert version["worker_ends"]["counts"] == {}, gateway.story()
        time.sleep(0.5)

    assert version["spare"] is None
    assert "no memory for a spare worker" in version["no_spare"]
    assert [line for line in gateway.story().splitlines() if "of 1200 MiB" in line]


def test_a_canary_that_needs_too_much_costs_production_no_worker_and_is_not_tried_again(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    registry.move("production", 2)
    gateway = start(1500, "  sentiment:\n")
    [pid] = gateway.worker_pids(2)
    registry.move("canary", 3)

    def refused() -> bool:
        canary = gateway.model()["versions"].get("3", {"error": ""})
        return "the kernel ended its last load" in canary["error"]

    wait_until(refused, 60 * slack, gateway.story)  # at its second try, which is not made
    assert ends(gateway, 2) == {}
    assert gateway.worker_pids(2) == [pid]
    assert gateway.ask("user-1").status_code == 200


def test_of_twelve_models_every_production_is_ready_before_the_first_canarys_load_and_none_is_killed(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    began = time.monotonic()
    gateway = start(3072, "".join(f"  {model}:\n" for model in MODELS), wait=False)
    gateway.wait_ready(120 * slack)
    productions = time.monotonic() - began

    def all_bound() -> bool:
        models = gateway.state()["models"].values()
        return all(alias["bound"] for model in models for alias in model["aliases"].values())

    wait_until(all_bound, 120 * slack, gateway.story)
    figure(f"productions ready after {productions:.0f} s, canaries after {time.monotonic() - began:.0f} s")
    assert [line["version"] for line in gateway.loads()] == [1] * 12 + [2] * 12
    assert all(ends(gateway, version, model) == {} for model in MODELS for version in (1, 2))
