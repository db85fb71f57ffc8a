"""A real Prometheus that scrapes with the shipped configuration, and evaluates the shipped rules."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import built_registry  # noqa: F401 - a fixture, found by name
from tests.support.gateway import CONFIG, GatewayProcess
from tests.support.load import BODY, Load
from tests.support.ports import free_port
from tests.support.registry import copied
from tests.support.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
MODEL = "sentiment"
CLASSIFIER = "mail"
NOBODY = "127.0.0.1:1"
BAD_CANARY = 7
BAD_BODY = BODY.replace(b"good", b"bad")


@dataclass(frozen=True)
class Target:
    """Something with `/metrics` that serves the model `sentiment` under both aliases while it is used."""

    address: str
    model: str


@pytest.fixture(scope="module")
def target(
    built_registry: Path,  # noqa: F811 - the fixture, by its name
    tmp_path_factory: pytest.TempPathFactory,
    slack: float,
) -> Iterator[Target]:
    """A gateway in front of a real registry, under traffic from keyed clients.

    One canary did not load; the one that serves raises on an eighth of its requests, which leaves its breaker
    closed. Some requests are refused.
    """
    directory = tmp_path_factory.mktemp("gateway")
    registry = copied(built_registry, directory)
    config = directory / "router.yaml"
    head = CONFIG.format(uri=registry.uri, poll_seconds=1, cache=directory / "cache")
    half = "{split: {production: 50, canary: 50}}"
    config.write_text(f"{head}  {MODEL}: {half}\n  {CLASSIFIER}: {half}\n")
    gateway = GatewayProcess(directory, config)
    try:
        gateway.wait_ready(60 * slack)
        gateway.wait_bound(2, "canary", 60 * slack)
        gateway.wait_bound(2, "canary", 60 * slack, CLASSIFIER)
        registry.move("canary", 3)
        assert gateway.ask("user-1", model="nobody").status_code == 404
        assert gateway.session.post(f"{gateway.url}/invocations", data=b"{").status_code >= 400
        wait_until(
            lambda: gateway.metric("canary_router_model_swaps_total", result="failure"),
            60 * slack,
            gateway.story,
        )
        registry.move("canary", BAD_CANARY)
        gateway.wait_bound(BAD_CANARY, "canary", 60 * slack)
        good, bad = Load(gateway.url, clients=8, rate=35), Load(gateway.url, clients=4, rate=5, body=BAD_BODY)
        with good, bad:
            yield Target(gateway.url.removeprefix("http://"), MODEL)
    finally:
        gateway.stop()


class Prometheus:
    """Asks a running Prometheus over its HTTP interface."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> dict[str, Any]:
        """The whole answer of an instant query."""
        return self._get(f"query?{urllib.parse.urlencode({'query': expression})}")

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing."""
        reported: list[dict[str, Any]] = self._get("alerts")["data"]["alerts"]
        return reported

    def rules(self) -> list[dict[str, Any]]:
        """Rules as evaluated: `health` and `lastError` of each."""
        groups = self._get("rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._base}/api/v1/{path}", timeout=10) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed


class OwnPrometheus(Prometheus):
    """One that was started here, and can be killed and started again on what it stored."""

    def __init__(self, config: Path, storage: Path, slack: float, *flags: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        super().__init__(address)
        self._command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={storage}",
            f"--web.listen-address={address}",
            *flags,
        ]
        self._log = storage.with_suffix(".log")
        self._slack = slack
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        give_up = time.monotonic() + 30 * self._slack
        while not self.ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up, self._log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()


@contextmanager
def running_prometheus(config: Path, storage: Path, slack: float, *flags: str) -> Iterator[OwnPrometheus]:
    running = OwnPrometheus(config, storage, slack, *flags)
    try:
        yield running
    finally:
        running.kill()


def hurried(address: str, alertmanager: str) -> str:
    """deploy/prometheus.yml for these two addresses: it scrapes and evaluates every second.

    The rules are the shipped ones, with their own windows and `for`.
    """
    text = (DEPLOY / "prometheus.yml").read_text()
    for shipped, ours in (
        ("127.0.0.1:8080", address),
        ("127.0.0.1:9093", alertmanager),
        ("scrape_interval: 5s", "scrape_interval: 1s"),
        ("scrape_timeout: 4s", "scrape_timeout: 1s"),
        ("evaluation_interval: 5s", "evaluation_interval: 1s"),
        ("prometheus/rules/*.yml", f"{DEPLOY}/prometheus/rules/*.yml"),
    ):
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, ours)
    return text


def alertmanager_program() -> str | None:
    """Where it is installed: as Debian names it, or as its makers do."""
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


@contextmanager
def running_alertmanager(program: str, config: Path, storage: Path) -> Iterator[str]:
    """Its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={storage}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",  # alone
    ]
    with storage.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an Alertmanager with the shipped configuration; of nobody where there is none to start."""
    program = alertmanager_program()
    if program is None:
        yield NOBODY
        return
    storage = tmp_path_factory.mktemp("alertmanager") / "data"
    with running_alertmanager(program, DEPLOY / "alertmanager.yml", storage) as address:
        yield address


@pytest.fixture(scope="module")
def prometheus(
    target: Target, alertmanager: str, tmp_path_factory: pytest.TempPathFactory, slack: float
) -> Iterator[OwnPrometheus]:
    """Scrapes `target` every second, with deploy/prometheus.yml otherwise as it is."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing; install the Debian package `prometheus`")
    directory = tmp_path_factory.mktemp("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(hurried(target.address, alertmanager))
    with running_prometheus(config, directory / "data", slack) as running:
        yield running
