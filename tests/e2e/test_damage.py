"""Broken versions, registries that go away, wrong configurations, killed processes."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
import requests

from tests.conftest import Figure
from tests.support import slowness
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"

CANARY_KILLS = 20 if os.environ.get("FAULTS") else 5
"""Each waits for the back-off of a worker that died young."""
RATE = 300.0 if os.environ.get("FAULTS") else 100.0
"""Requests per second while processes are killed: each takes a millisecond or two from what starts again."""


@pytest.fixture(scope="module")
def served(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    return start_shared(MODELS)


@pytest.fixture
def gateway(served: GatewayProcess, shared_registry: Registry) -> GatewayProcess:
    """The one that tests share, as it was when it began to serve."""
    for alias, version in (("production", 1), ("canary", 2)):
        shared_registry.move(alias, version)
        served.wait_bound(version, alias)
    requests.post(f"{served.admin}/-/models/sentiment/reset-breakers").raise_for_status()
    return served


@pytest.mark.parametrize(
    ("version", "reported"), [(3, "another architecture"), (4, "load")], ids=["raises", "corrupt"]
)
@pytest.mark.parametrize("alias", ["production", "canary"])
def test_a_version_that_does_not_load_leaves_the_old_one_serving_and_is_named(
    gateway: GatewayProcess, shared_registry: Registry, alias: str, version: int, reported: str, slack: float
) -> None:
    before, counted = gateway.bound(alias), gateway.from_now()
    with Load(gateway.url, rate=100) as load:
        shared_registry.move(alias, version)
        wait_until(
            lambda: gateway.model()["versions"].get(str(version), {}).get("error"), 20 * slack, gateway.story
        )
        assert reported in gateway.model()["versions"][str(version)]["error"]
        assert counted.metric("canary_router_model_swaps_total", alias=alias, result="failure") == 1
        assert gateway.metric("canary_router_alias_pending", alias=alias) == 1
        assert gateway.bound(alias) == before
        shared_registry.move(alias, 5)  # put right
        gateway.wait_bound(5, alias)
    assert load.failed == []
    assert gateway.metric("canary_router_alias_pending", alias=alias) == 0


def test_a_registry_that_goes_away_and_comes_back_hurts_nobody(
    gateway: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    hidden = shared_registry.database.with_suffix(".away")
    counted = gateway.from_now()
    with Load(gateway.url, rate=100) as load:
        shutil.move(shared_registry.database, hidden)
        wait_until(lambda: not gateway.state()["registry"]["reachable"], 20 * slack, gateway.story)
        assert gateway.get("/readyz").status_code == 200
        assert str(shared_registry.directory) not in gateway.get("/v1/state").text
        assert not shared_registry.database.exists(), "a missing database was created anew"
        assert counted.metric("canary_router_registry_polls_total", result="failure") >= 1
        shutil.move(hidden, shared_registry.database)
        wait_until(lambda: gateway.state()["registry"]["reachable"], 20 * slack, gateway.story)
        shared_registry.move("production", 5)
        gateway.wait_bound(5)
    assert load.failed == []


def test_an_invalid_config_is_refused_whole_and_reported(gateway: GatewayProcess, slack: float) -> None:
    good = gateway.config.read_text()
    with Load(gateway.url, rate=100) as load:
        gateway.config.write_text(good.replace("canary: 50", "canray: 50"))
        wait_until(lambda: gateway.state()["config"]["error"], 10 * slack, gateway.story)
        assert "did you mean `canary`" in str(gateway.state()["config"]["error"])
        assert gateway.metric("canary_router_config_last_reload_successful") == 0
        assert gateway.model()["split"] == {"production": 50, "canary": 50}
        gateway.config.write_text(good)
        wait_until(lambda: not gateway.state()["config"]["error"], 10 * slack, gateway.story)
        assert gateway.metric("canary_router_config_last_reload_successful") == 1
    assert load.failed == []


@pytest.mark.slow
def test_a_mistyped_database_is_an_error_and_not_a_new_empty_one(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    typo = registry.directory / "mlfow.db"
    gateway = start(MODELS, uri=f"sqlite:///{typo}", wait=False)
    wait_until(lambda: gateway.state()["registry"]["error"], 30 * slack, gateway.story)

    assert not typo.exists()
    assert gateway.get("/readyz").status_code == 503
    answer = gateway.ask("user-1")
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")


def test_a_canarys_worker_killed_again_and_again_costs_no_user_an_error(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    answered, counted = 0.0, gateway.from_now()
    with Load(gateway.url, rate=RATE) as load:
        for _ in range(CANARY_KILLS):
            [pid] = gateway.worker_pids(2)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: gateway.worker_pids(2) not in ([p], []), 5 * slack, gateway.story)
            total = gateway.metric("canary_router_requests_total")
            assert total >= answered, "a counter went down"
            answered = total
    figure(load.summary())
    assert load.failed == []
    assert counted.metric("canary_router_worker_restarts_total", version="2") == CANARY_KILLS


def test_productions_worker_killed_fails_only_what_ran_in_it(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    with Load(gateway.url, rate=RATE) as load:
        for _ in range(20):
            [pid] = gateway.worker_pids(1)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: gateway.worker_pids(1) not in ([p], []), 5 * slack, gateway.story)
            # A worker that ends before its first answer is replaced later and later, which is not meant here.
            answered = load.answered_by(1)
            wait_until(lambda n=answered: load.answered_by(1) > n, 10 * slack, gateway.story)
    figure(load.summary())
    assert {one.status for one in load.failed} <= {503}
    assert len(load.failed) <= 20, "a request that did not run in the worker failed"


def test_no_child_outlives_the_gateway_and_a_restart_serves(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Neither do workers that predict just then."""
    registry.move("production", 6)
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    children = gateway.descendants()
    assert len(children) >= 4  # template, agent and two workers
    assert set(gateway.worker_pids(6)) < {child.pid for child in children}
    asking = threading.Thread(target=_ask_and_forget, args=(gateway, "30"))
    asking.start()
    wait_until(lambda: gateway.model()["versions"]["6"]["in_flight"] == 1, 10 * slack)
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.process.wait()
    killed_at = time.monotonic()
    # Not by their numbers: orphans may be this process' own to wait for, and zombies until then.
    _, alive = psutil.wait_procs(children, timeout=2 * slack)
    figure(f"{len(children)} children gone after {(time.monotonic() - killed_at) * 1e3:.0f} ms")
    assert alive == []
    asking.join()

    registry.move("production", 1)
    again = start(MODELS)
    assert again.ask("user-1").status_code == 200


def _ask_and_forget(gateway: GatewayProcess, text: str) -> None:
    with suppress(requests.ConnectionError):
        body = {"dataframe_split": {"columns": ["text"], "data": [[text]]}}
        headers = {"X-Request-Key": "user-1"}
        requests.post(f"{gateway.url}/invocations", json=body, headers=headers, timeout=30 * slowness.slack())


@pytest.mark.parametrize("role", ["template", "agent"])
def test_the_death_of_template_or_agent_costs_no_request(
    gateway: GatewayProcess, shared_registry: Registry, role: str, figure: Figure, slack: float
) -> None:
    with Load(gateway.url, rate=RATE) as load:
        [pid] = pids_of(gateway, role)
        os.kill(pid, signal.SIGKILL)
        shared_registry.move("production", 5)
        gateway.wait_bound(5)
        wait_until(lambda: pids_of(gateway, role) not in ([], [pid]), 30 * slack, gateway.story)
    figure(load.summary())
    assert load.failed == []


def pids_of(gateway: GatewayProcess, role: str) -> list[int]:
    """Found as an operator finds them: by the name a child gave itself."""
    return [child.pid for child in gateway.descendants_named(f"router-{role}")]


def test_a_predict_that_runs_too_long_gets_504_and_its_worker_is_replaced(
    gateway: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    shared_registry.move("production", 6)
    gateway.wait_bound(6)
    good, digest = gateway.config.read_text(), gateway.state()["config"]["digest"]
    gateway.config.write_text(good.replace("canary: 50}}", "canary: 50}, predict_timeout_seconds: 1}"))
    wait_until(lambda: gateway.state()["config"]["digest"] != digest, 10 * slack, gateway.story)
    [pid] = gateway.worker_pids(6)
    started = time.monotonic()
    answer = gateway.ask("user-1", text="30")

    assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - started < 10 * slack
    wait_until(lambda: gateway.worker_pids(6) not in ([pid], []), 10 * slack)
    assert gateway.ask("user-1", text="0").json() == {"predictions": [0.6]}
    gateway.config.write_text(good)
    wait_until(lambda: gateway.state()["config"]["digest"] == digest, 10 * slack, gateway.story)


@pytest.mark.slow
def test_sigterm_under_load_ends_with_exit_code_0_and_loses_no_answer(
    start: Callable[..., GatewayProcess],
    slack: float,
) -> None:
    gateway = start(MODELS)
    with Load(gateway.url, rate=100) as load:
        wait_until(lambda: len(load.seen) > 100, 30 * slack)
        begun = time.monotonic()
        assert gateway.stop() == 0
        stopped = time.monotonic()
    assert stopped - begun < 15 * slack
    # Once the listener is gone connections are refused; what was sent before the signal is answered.
    lost = [one for one in load.failed if one.sent_at < begun - 0.05]
    assert lost == []
