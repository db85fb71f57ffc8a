"""A canary answers the last requests of a real gateway before it gets a user; nobody else waits, and nothing
of a request is anywhere but in memory."""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry, built_registry_of, copied
from tests.support.waiting import wait_until

BUILD = Path(__file__).parents[1] / "support" / "build_preflight.py"
MARKER = "marker-7f3a9c51d0"
ON = (
    "  sentiment: {split: {production: 50, canary: 50}, keep_previous_seconds: 3600,"
    " preflight: {requests: 200}}\n"
)


@pytest.fixture
def registry(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Versions that tell two columns apart, as `build_preflight.py` says."""
    return copied(built_registry_of(BUILD, tmp_path_factory), tmp_path)


@pytest.fixture
def cores() -> Iterator[None]:
    """Core dumps are on, as far as the system allows, until something turns them off."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def ask(gateway: GatewayProcess, number: int, seed: int = 1) -> list[requests.Response]:
    """So many requests with keys of their own, of one row each, with the marker in it."""
    luck, answers = random.Random(seed), []
    for one in range(number):
        row = [luck.gauss(0, 2), luck.gauss(0, 2), f"{MARKER}-{one}"]
        body = {"dataframe_split": {"columns": ["a", "b", MARKER], "data": [row]}}
        answers.append(
            gateway.session.post(
                f"{gateway.url}/invocations",
                json=body,
                headers={"X-Request-Key": f"user-{seed}-{one}"},
                timeout=30,
            )
        )
    assert {answer.status_code for answer in answers} == {200}
    return answers


def shown(gateway: GatewayProcess, version: int) -> dict[str, Any]:
    """The pre-flight of a version that is bound as canary."""
    gateway.wait_bound(version, "canary")
    preflight: dict[str, Any] = gateway.model()["versions"][str(version)]["preflight"]
    return preflight


def served_by(answers: list[requests.Response]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for answer in answers:
        by = answer.headers["X-Model-Version"], answer.headers["X-Route-Reason"]
        found[by] = found.get(by, 0) + 1
    return found


def test_a_canary_with_two_columns_swapped_gets_nobody_and_one_that_is_production_over_again_passes(
    registry: Registry,
    start: Callable[..., GatewayProcess],
    tmp_path: Path,
    slack: float,
    figure: Figure,
    cores: None,
) -> None:
    """And what callers sent is in no file, log, answer or core dump."""
    gateway = start(ON)
    ask(gateway, 100)
    kept = gateway.model()["preflight"]
    assert kept["requests"] == 100

    registry.move("canary", 3)
    failed = shown(gateway, 3)
    assert (failed["verdict"], failed["requests"], failed["faults_alone"]) == ("fail", 100, 0)
    assert failed["flips"] > 0.9
    assert "of the scores are on the other side of 0.5, 20.0% may be" in failed["why"]
    assert {reason for _, reason in served_by(ask(gateway, 60, seed=2))} == {"hash", "gated"}
    assert {version for version, _ in served_by(ask(gateway, 60, seed=2))} == {"1"}
    assert gateway.metric("canary_router_requests_total", version="3") == 0
    assert gateway.metric("canary_router_preflight_passed", alias="canary") == 0
    assert gateway.metric("canary_router_split_ratio", alias="canary") == 0
    [cap] = gateway.model()["caps"]
    assert (cap["by"], cap["version"], cap["to_percent"]) == ("pre-flight", 3, 0.0)
    status = gateway.command("status", "--url", gateway.admin).stdout
    assert "canary v3 failed its pre-flight, and production has its share until it is resumed" in status
    assert "sentiment v3 and the last requests: FAIL, " in status
    [line] = gateway.lines("pre-flight failed, so held at 0")
    assert (line["version"], line["aliases"]) == (3, ["canary"])
    history = json.loads(gateway.command("history", "sentiment", "-o", "json").stdout)
    assert "canary v3 pre-flight: FAIL, held at 0" in json.dumps(history)

    gateway.lever("resume", reason="it is meant so")
    by_whom = served_by(ask(gateway, 60, seed=2))
    assert by_whom[("3", "hash")] > 10

    registry.move("canary", 2)
    passed = shown(gateway, 2)
    number = passed["requests"]
    assert (passed["verdict"], passed["flips"], passed["largest_difference"]) == ("pass", 0.0, 0.0)
    assert number >= 100
    assert passed["why"] == f"it answered {number} of the last requests as it should"
    assert gateway.metric("canary_router_preflight_passed", alias="canary") == 1
    figure(f"{number} requests were passed over a version in {passed['seconds']:.1f} s")

    # A rollback waits for nothing
    registry.client.delete_registered_model_alias("sentiment", "canary")
    registry.move("production", 2)
    gateway.wait_bound(2)
    registry.move("production", 1)
    took = wait_until(lambda: gateway.bound() == 1, 30 * slack, gateway.story)
    assert took <= POLL_SECONDS + 1.0 * slack
    figure(f"a rollback was live {took:.2f} s after the write")

    # Nothing of a request is anywhere
    documents = ["/v1/state", "/v1/compare", "/metrics", "/v1/caps", "/v1/plan?model=sentiment&share=10"]
    for path in documents:
        assert MARKER not in gateway.get(path).text
    family = [psutil.Process(gateway.pid), *gateway.descendants()]
    assert {one.rlimit(psutil.RLIMIT_CORE)[0] for one in family} <= {0, 1}
    for crashes in (family[-1].pid, *gateway.worker_pids(1), gateway.pid):
        if psutil.pid_exists(crashes):
            psutil.Process(crashes).send_signal(6)
    gateway.process.wait(30)
    assert list(Path.cwd().glob("core*")) == [], "where a gateway would leave its memory"
    files = [path for path in tmp_path.glob("**/*") if path.is_file()]
    assert len(files) > 5, "log, state and cache among them"
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_under_load_a_version_that_is_production_over_again_passes_200_of_200_and_costs_no_caller_an_answer(
    registry: Registry, start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    gateway = start(ON)
    body = b'{"dataframe_split": {"columns": ["a", "b"], "data": [[0.5, 0.25]]}}'
    with Load(gateway.url, rate=100, body=body) as load:
        ask(gateway, 300)
        wait_until(lambda: gateway.model()["preflight"]["requests"] == 200, 30 * slack, gateway.story)
        began = time.monotonic()
        registry.move("canary", 2)
        passed = shown(gateway, 2)
        meanwhile = [one.seconds for one in load.seen if one.sent_at > began]
    assert load.failed == []
    assert (passed["verdict"], passed["faults_alone"]) == ("pass", 0)
    assert passed["requests"] == 200 or passed["seconds"] > 29, "all, or as many as fit into the time"
    assert (passed["flips"], passed["largest_difference"]) == (0.0, 0.0)
    slowest = sorted(meanwhile)[int(len(meanwhile) * 0.99)] if meanwhile else 0.0
    took = passed["seconds"]
    figure(f"200 requests in {took:.1f} s; 99 % of callers meanwhile within {slowest * 1000:.1f} ms")


def test_a_start_is_as_fast_with_it_on_and_holds_nobody(
    registry: Registry, start: Callable[..., GatewayProcess]
) -> None:
    """There is nothing to pass over a canary yet: it is bound as soon as it is READY.

    Beside it: with `core_dumps: true` the limit on core dumps stays as it was.
    """
    registry.move("canary", 3)
    gateway = start(ON, CANARY_ROUTER_SERVER__CORE_DUMPS="true")
    assert psutil.Process(gateway.pid).rlimit(psutil.RLIMIT_CORE) == resource.getrlimit(resource.RLIMIT_CORE)
    gateway.wait_bound(3, "canary")
    looked = gateway.model()["versions"]["3"]["preflight"]

    if looked is not None:  # else it was bound before production
        assert (looked["verdict"], looked["requests"], looked["seconds"]) == ("not_enough_data", 0, 0.0)
        assert looked["why"] == "0 of the last requests are kept, 20 are needed"
    assert gateway.model()["split"]["canary"] == 50
