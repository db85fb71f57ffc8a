"""A real Prometheus that scrapes with the shipped configuration."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from router.adapters.prometheus import PrometheusRecorder
from router.core.bins import ScoreSpec
from router.core.ids import CANARY, PRODUCTION
from tests.adapters.story import answered, bound, count_scores_of, live_of, predicted, split

DEPLOY = Path(__file__).parents[2] / "deploy"
SPEC = ScoreSpec()


@dataclass(frozen=True)
class Target:
    """Something with `/metrics` that serves the model `sentiment` under both aliases while it is used."""

    address: str
    model: str


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """The recorder behind a small HTTP server, fed with facts by a thread.

    A whole gateway with traffic can take this fixture's place: the tests know its address and model only.
    """
    recorder = PrometheusRecorder(version="0.1.0")
    taken = threading.Lock()  # the recorder belongs to one thread at a time
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with taken:
                body, content_type = recorder.render(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the standard library's name
            """Say nothing."""

    model = "sentiment"
    served = ((PRODUCTION, 7, 0.3), (CANARY, 8, 0.7))
    recorder.record(split(model))
    for alias, number, _ in served:
        recorder.record(bound(alias, number, model=model, scores=SPEC))
    recorder.watch(lambda: live_of(7, 8, model=model))

    def traffic() -> None:
        while not stopping.wait(0.05):
            with taken:
                for alias, number, score in served:
                    recorder.record(predicted(alias, number, count_scores_of(score, spec=SPEC), model=model))
                    recorder.record(answered(alias, number, model=model))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threads = [threading.Thread(target=run) for run in (server.serve_forever, traffic)]
    for thread in threads:
        thread.start()
    yield Target(f"127.0.0.1:{server.server_port}", model)
    stopping.set()
    server.shutdown()
    for thread in threads:
        thread.join()
    server.server_close()


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
def running_prometheus(config: Path, storage: Path, slack: float) -> Iterator[Prometheus]:
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
