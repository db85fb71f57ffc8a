"""Production always gets a worker again, whatever fails to load, and says so while it has none."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.registry import Registry, built_registry_of, copied
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 100}}\n"
SHARED = {"fragile": (1,), "dependent": (2,), "picky": (3,), "listening": (5, 6, 7)}
"""Registered models of the gateway that tests share, by the versions of `sentiment` whose files they have."""
SHARED_MODELS = """\
  fragile: {split: {production: 100}}
  dependent: {split: {production: 100}, warm_up: required}
  picky: {split: {production: 100}}
  listening: {split: {production: 100}, replace: in_turn}
"""


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_registry_of(Path(__file__).with_name("build_supply.py"), tmp_path_factory)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the versions of the gateway that tests share keep their files."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def shared_registry(built_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """With a registered model of its own for each test, whose versions 1, 2, … have the files of SHARED."""
    registry = copied(built_registry, tmp_path_factory.mktemp("shared"))
    client = registry.client
    for name, numbers in SHARED.items():
        client.create_registered_model(name)
        for number in numbers:
            logged = client.get_model_version("sentiment", str(number)).source.removeprefix("models:/")
            client.create_model_version(name, source=client.get_logged_model(logged).artifact_location)
        registry.move("production", 1, name)
    return registry


@pytest.fixture(scope="module")
def gateway(start_shared: Callable[..., GatewayProcess], place: Path) -> GatewayProcess:
    """One for the tests that each need one registered model of it; the first one needs it just started."""
    (place / "service").touch()
    return start_shared(
        SHARED_MODELS,
        FRAGILE_COUNT=str(place / "loads"),
        FRAGILE_FAILS="2",
        SERVICE=str(place / "service"),
        PORT=str(free_port()),
    )


def crash(gateway: GatewayProcess, model: str = "sentiment") -> None:
    assert gateway.ask("user-1", "os._exit", model).status_code == 503


def lines(gateway: GatewayProcess, event: str, model: str) -> list[dict[str, Any]]:
    """The log's lines that say `event` of `model`."""
    return [line for line in gateway.lines(event) if line["model"] == model]


def test_production_whose_worker_dies_while_a_spare_does_not_load_has_a_worker_again(
    gateway: GatewayProcess, place: Path, slack: float
) -> None:
    wait_until(lambda: (place / "loads").stat().st_size == 2, 10 * slack, gateway.story)  # the spare's load
    crash(gateway, "fragile")
    wait_until(lambda: lines(gateway, "worker not loaded", "fragile"), 10 * slack, gateway.story)

    wait_until(lambda: gateway.worker_pids(1, "fragile"), 5 * slack, gateway.story)
    assert gateway.ask("user-1", model="fragile").status_code == 200
    assert gateway.metric("canary_router_worker_load_failures_total", model="fragile") == 1


def test_a_replacement_needs_no_warm_up_to_join(gateway: GatewayProcess, place: Path, slack: float) -> None:
    (place / "service").unlink()
    crash(gateway, "dependent")

    assert gateway.ask("user-1", model="dependent").status_code == 200
    assert gateway.ask("user-1", "ask", "dependent").status_code == 500
    said = "dependent v1 serves without a warm-up"
    wait_until(lambda: said in gateway.log.read_text(), 10 * slack, gateway.story)


def test_a_version_that_raises_on_its_example_serves_and_says_so(gateway: GatewayProcess) -> None:
    assert gateway.ask("user-1", model="picky").status_code == 200
    assert gateway.ask("user-1", "bad", "picky").status_code == 500
    assert "KeyError" in gateway.model("picky")["versions"]["1"]["note"]
    assert "picky v1 serves without a warm-up" in gateway.log.read_text()


@pytest.mark.slow
def test_a_required_warm_up_holds_a_version_until_it_is_required_no_more(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    registry.move("production", 3)
    required = "  sentiment: {split: {production: 100}, warm_up: required}\n"
    gateway = start(required, wait=False)
    wait_until(lambda: gateway.lines("version not loaded"), 30 * slack, gateway.story)
    assert gateway.lines("version not loaded")[0]["phase"] == "warmup"
    assert gateway.get("/readyz").status_code == 503

    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("warm_up: required", "warm_up: auto"))
    gateway.wait_ready(30 * slack)  # and not only after the pause
    wait_until(lambda: list((gateway.config.parent / "cache").rglob("last-good*")), 10 * slack, gateway.story)
    gateway.stop()

    again = start(required)  # it has served before
    assert again.bound() == 3


def test_production_that_does_not_load_again_is_refused_at_once_and_says_so(
    start: Callable[..., GatewayProcess], tmp_path: Path, slack: float
) -> None:
    loads = tmp_path / "loads"
    models = "  sentiment: {split: {production: 100}, timeout_seconds: 15}\n"
    gateway = start(models, FRAGILE_COUNT=str(loads), FRAGILE_FAILS="2 3 4 5 6 7 8 9")
    wait_until(lambda: loads.stat().st_size == 2, 10 * slack, gateway.story)
    crash(gateway)

    def pauses() -> bool:
        return bool(gateway.model()["versions"]["1"]["retry_seconds"] == 20)

    wait_until(pauses, 30 * slack, gateway.story)
    began = time.monotonic()
    answer = gateway.ask("user-1")
    assert answer.status_code == 503
    # The pause of 20 s may have run for a while, and a load takes some time.
    assert 2 <= int(answer.headers["Retry-After"]) <= 40
    assert time.monotonic() - began < 1 * slack
    assert "which has no worker" in gateway.get("/readyz?verbose").text
    assert gateway.get("/readyz").status_code == 503
    assert gateway.get("/v2/models/sentiment/ready").json()["ready"] is False
    assert gateway.metric("canary_router_model_ready", model="sentiment") == 0
    assert gateway.metric("canary_router_ready") == 0


@pytest.mark.slow
def test_a_second_worker_that_never_loads_is_tried_ever_less_often(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path, slack: float
) -> None:
    registry.move("production", 4)
    loads = tmp_path / "lock"
    gateway = start("  sentiment: {split: {production: 100}, workers: 2}\n", LOCK=str(loads))
    wait_until(lambda: gateway.model()["versions"]["4"]["retry_seconds"] == 20, 20 * slack, gateway.story)
    time.sleep(5)

    assert loads.stat().st_size == 3
    assert "BlockingIOError" in gateway.model()["versions"]["4"]["error"]
    assert gateway.metric("canary_router_worker_load_failures_total") == 2
    assert gateway.ask("user-1").status_code == 200


def test_at_a_stop_versions_have_time_to_tidy_up_and_no_temporary_file_of_theirs_stays(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path, slack: float
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    registry.move("production", 8)
    gateway = start("  sentiment: {split: {production: 100}, workers: 2}\n", ELSEWHERE=str(elsewhere))
    wait_until(lambda: len([*elsewhere.iterdir()]) == 2, 30 * slack, gateway.story)
    own = Path(f"/proc/{gateway.worker_pids(8)[0]}/cwd").resolve()

    assert gateway.stop(15 * slack) == 0

    assert [*elsewhere.iterdir()] == []
    assert not own.parent.exists()


def test_versions_that_hold_one_port_are_replaced_in_turn_and_the_outage_shows(
    gateway: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    """Beside each other the second never loads; if the next one never does, the former one serves again."""
    name = "listening"
    [first] = gateway.worker_pids(1, name)
    shared_registry.move("production", 2, name)
    wait_until(lambda: gateway.bound(name=name) == 2, 30 * slack, gateway.story)
    assert gateway.ask("user-1", model=name).headers["X-Model-Version"] == "2"
    assert not psutil.pid_exists(first)
    [outage] = gateway.lines("replaced in turn; nothing answers for this alias until then")
    assert (outage["alias"], outage["version"], outage["successor"]) == ("production", 1, 2)

    shared_registry.move("production", 3, name)
    wait_until(lambda: lines(gateway, "version not loaded", name), 30 * slack, gateway.story)
    wait_until(lambda: gateway.ask("user-1", model=name).status_code == 200, 30 * slack, gateway.story)
    assert gateway.bound(name=name) == 2
    failed = gateway.model(name)["versions"]["3"]
    assert (failed["state"], failed["retry_seconds"]) == ("error", None)
    assert "this version never loads" in failed["error"]

    [worker] = gateway.worker_pids(2, name)
    psutil.Process(worker).kill()
    wait_until(lambda: gateway.worker_pids(2, name) not in ([], [worker]), 10 * slack, gateway.story)
    assert gateway.ask("user-1", model=name).status_code == 200
    assert gateway.metric("canary_router_worker_load_failures_total", model=name) == 0
