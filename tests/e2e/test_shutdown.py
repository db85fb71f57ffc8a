"""A gateway that is asked to stop: nobody who sends to it is hurt, and it stops in time."""

import concurrent.futures
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.conftest import Registry
from tests.support import slowness
from tests.support.gateway import GatewayProcess, gateway_as_pid_1
from tests.support.load import Load
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
PRODUCTION_KEY = "user-1"
LONG_DRAIN = {
    "CANARY_ROUTER_SERVER__MIN_DRAIN_SECONDS": "600",
    "CANARY_ROUTER_SERVER__DRAIN_SECONDS": "600",
}


def unready(gateway: GatewayProcess) -> requests.Response:
    """The answer of /readyz on a connection of its own, as a load balancer asks."""
    answer = requests.get(f"{gateway.url}/readyz", timeout=5 * slowness.slack())
    assert answer.status_code == 503
    return answer


def gateway_is_ready(gateway: GatewayProcess) -> bool:
    try:
        return requests.get(f"{gateway.url}/readyz", timeout=5 * slowness.slack()).status_code == 200
    except requests.ConnectionError:
        return False


def hung(gateway: GatewayProcess, registry: Registry) -> None:
    """Let production be the version that sleeps as long as the input says."""
    registry.move("production", 6)
    gateway.wait_bound(6)


@pytest.mark.parametrize(
    ("number", "environment"),
    [(signal.SIGTERM, {}), pytest.param(signal.SIGINT, LONG_DRAIN, marks=pytest.mark.slow)],
    ids=["SIGTERM", "SIGINT, which is no balancer's"],
)
def test_a_stop_under_load_is_reported_at_once_and_loses_no_request(
    start: Callable[..., GatewayProcess], number: signal.Signals, environment: dict[str, str], slack: float
) -> None:
    """Load balancers go on sending until they have noticed: what they send meanwhile is answered, on a new
    connection as well as on one that was kept and idle. Who is at a terminal does not wait for them."""
    gateway = start(MODELS, **environment)
    gateway.wait_bound(2, "canary")
    assert gateway.ask(PRODUCTION_KEY).status_code == 200  # the session keeps its connection
    with Load(gateway.url) as load:
        wait_until(lambda: len(load.seen) > 200, 30 * slack)
        reported_at = time.monotonic()
        gateway.process.send_signal(number)
        time.sleep(0.1 * slack)
        assert unready(gateway).headers["Connection"] == "close"
        asked = requests.post(f"{gateway.url}/invocations", data=b"{}", timeout=5 * slack)
        assert asked.headers["Connection"] == "close"
        kept = gateway.ask(PRODUCTION_KEY)
        assert (kept.status_code, kept.headers["Connection"]) == (200, "close")
        wait_until(lambda: time.monotonic() - reported_at > 1.0, 5 * slack)
    assert load.failed == []
    assert sum(seen.sent_at > reported_at for seen in load.seen) > 50
    assert gateway.process.wait(15 * slack) == 0
    assert time.monotonic() - reported_at < 6 * slack, (
        "it waits for the quiet, not for the whole time to drain"
    )


@pytest.mark.slow
def test_after_sigterm_a_balancer_that_seldom_sends_is_still_answered(
    start: Callable[..., GatewayProcess], slack: float
) -> None:
    """It has not noticed yet; that nobody sends for 3 s proves nothing."""
    gateway = start(MODELS, CANARY_ROUTER_SERVER__MIN_DRAIN_SECONDS="4")
    assert gateway.ask(PRODUCTION_KEY).status_code == 200
    gateway.session.close()
    reported_at = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        gateway.process.wait(3)
    answer = gateway.ask(PRODUCTION_KEY)
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
    assert gateway.process.wait(15 * slack) == 0
    assert 4 < time.monotonic() - reported_at < 12 * slack


@pytest.mark.slow
def test_who_sends_a_second_sigterm_does_not_wait_for_a_balancer(
    start: Callable[..., GatewayProcess], slack: float
) -> None:
    gateway = start(MODELS, **LONG_DRAIN)
    for _ in range(2):
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not gateway_is_ready(gateway), 5 * slack)
    assert gateway.process.wait(10 * slack) == 0


@pytest.mark.slow
def test_a_request_that_hangs_at_the_end_of_the_drain_is_answered_503_and_the_exit_is_in_time(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    gateway = start(MODELS, CANARY_ROUTER_SERVER__DRAIN_SECONDS="6")
    hung(gateway, registry)
    children = gateway.descendants()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        asked = threads.submit(gateway.ask, PRODUCTION_KEY, "120")
        wait_until(lambda: gateway.model()["versions"]["6"]["in_flight"] == 1, 10 * slack)
        reported_at = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        answer = asked.result(10 * slack)
    assert gateway.process.wait(10 * slack) == 0
    assert time.monotonic() - reported_at < 6 * slack
    assert (answer.status_code, answer.headers["Connection"]) == (503, "close")
    assert answer.headers["Retry-After"] == "1"
    assert sorted(answer.json()) == ["error_class", "error_code", "message", "request_id", "sqlstate"]
    assert psutil.wait_procs(children, 2 * slack)[1] == []


def test_a_second_signal_quickens_the_stop(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """Whoever hurries still gets what runs answered, with 503."""
    gateway = start(MODELS, CANARY_ROUTER_SERVER__DRAIN_SECONDS="60")
    hung(gateway, registry)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        asked = threads.submit(gateway.ask, PRODUCTION_KEY, "120")
        wait_until(lambda: gateway.model()["versions"]["6"]["in_flight"] == 1, 10 * slack)
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: gateway.get("/readyz").status_code == 503, 2 * slack)
        reported_at = time.monotonic()
        gateway.process.send_signal(signal.SIGINT)
        assert asked.result(10 * slack).status_code == 503
    assert gateway.process.wait(10 * slack) == 0
    assert time.monotonic() - reported_at < 3 * slack


@pytest.mark.slow
def test_a_body_that_is_still_on_its_way_at_the_end_of_the_drain_is_answered_503(
    start: Callable[..., GatewayProcess], slack: float
) -> None:
    gateway = start(MODELS, CANARY_ROUTER_SERVER__DRAIN_SECONDS="2")
    port = int(gateway.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10 * slack) as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.2)
        gateway.process.send_signal(signal.SIGTERM)
        assert slow.recv(4096).startswith(b"HTTP/1.1 503 ")
    assert gateway.process.wait(10 * slack) == 0


def test_as_pid_1_it_stops_when_asked_and_waits_for_orphans_it_did_not_start(
    registry: Registry, tmp_path: Path, slack: float
) -> None:
    """Without an init in the container dead grandchildren pile up; how workers ended must still be known."""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("a PID namespace takes root, unshare and nsenter")
    config, cache = tmp_path / "router.yaml", tmp_path / "cache"
    config.write_text(
        "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0, drain_seconds: 2}\n"
        f'registry: {{uri: "{registry.uri}", poll_seconds: 0.5, cache_dir: "{cache}"}}\n'
        "log: {format: json}\nmodels:\n" + MODELS
    )
    with gateway_as_pid_1(tmp_path, config) as gateway:
        gateway.wait_ready()
        [init] = psutil.Process(gateway.pid).children()
        inside = ["nsenter", "--target", str(init.pid), "--pid", "--mount"]
        # A shell that ends before its own children do: they are left to PID 1.
        subprocess.run([*inside, "sh", "-c", "(sleep 2 &) ; (sleep 2 &)"], check=True)
        # They are called `sh` for a moment, before each becomes its `sleep`.
        wait_until(lambda: len(_sleepers(init)) == 2, 2 * slack, gateway.story)
        left = _sleepers(init)
        [worker] = gateway.worker_pids(1)
        subprocess.run([*inside, "kill", "-9", str(worker)], check=True)
        wait_until(lambda: gateway.worker_pids(1) not in ([worker], []), 10 * slack, gateway.story)
        assert "signal 9 (SIGKILL)" in gateway.log.read_text()
        wait_until(lambda: not any(one.is_running() for one in left), 12 * slack, gateway.story)
        assert [one for one in init.children() if one.status() == psutil.STATUS_ZOMBIE] == []
        init.send_signal(signal.SIGTERM)
        assert gateway.process.wait(10 * slack) == 0


def _sleepers(init: psutil.Process) -> list[psutil.Process]:
    return [child for child in init.children() if child.name() == "sleep"]
