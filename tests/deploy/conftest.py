"""A real Prometheus that scrapes with the shipped configuration."""

import json
import shutil
import socket
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

from tests.e2e.gateway import CONFIG, GatewayProcess
from tests.e2e.load import Load
from tests.e2e.registry import build_registry

DEPLOY = Path(__file__).parents[2] / "deploy"
MODEL = "sentiment"


@dataclass(frozen=True)
class Target:
    """Something with `/metrics` that serves the model `sentiment` under both aliases while it is used."""

    address: str
    model: str


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Target]:
    """A gateway in front of a real registry, under traffic from keyed clients."""
    directory = tmp_path_factory.mktemp("gateway")
    registry = build_registry(directory)
    config = directory / "router.yaml"
    head = CONFIG.format(uri=registry.uri, poll_seconds=1, cache=directory / "cache")
    config.write_text(f"{head}  {MODEL}: {{split: {{production: 50, canary: 50}}}}\n")
    gateway = GatewayProcess(directory, config)
    try:
        gateway.wait_ready(60 * slack)
        gateway.wait_bound(2, "canary", 60 * slack)
        with Load(gateway.url, clients=8, rate=40):
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
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self._base}/api/v1/query?{query}", timeout=10) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed


@contextmanager
def running_prometheus(config: Path, storage: Path, slack: float, *flags: str) -> Iterator[Prometheus]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = storage.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={storage}",
                f"--web.listen-address={address}",
                *flags,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(address)
        give_up = time.monotonic() + 30 * slack
        while not prometheus.ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        yield prometheus
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def prometheus(
    target: Target, tmp_path_factory: pytest.TempPathFactory, slack: float
) -> Iterator[Prometheus]:
    """Scrapes `target` every second, with deploy/prometheus.yml otherwise as it is."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing; install the Debian package `prometheus`")
    shipped = (DEPLOY / "prometheus.yml").read_text()
    rewritten = shipped.replace("127.0.0.1:8080", target.address)
    rewritten = rewritten.replace("scrape_interval: 5s", "scrape_interval: 1s")
    rewritten = rewritten.replace("scrape_timeout: 4s", "scrape_timeout: 1s")
    assert target.address in rewritten
    assert "5s" not in rewritten.replace("15s", "")
    directory = tmp_path_factory.mktemp("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(rewritten)
    with running_prometheus(config, directory / "data", slack) as running:
        yield running
