"""What a collector reads: a real gateway's standard error, a pipe here, with everybody's lines in it."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import slowness
from tests.support.gateway import ANNOUNCED
from tests.support.registry import Registry, built_registry_of
from tests.support.waiting import wait_until

SECRET = "the-callers-own-words"
KEY = "a-key-of-a-user"
CANARY, PRODUCTION = "user-2", "user-1"

CONFIG = """\
server: {{listen: 127.0.0.1:0, admin: 127.0.0.1:0, min_drain_seconds: 0}}
registry: {{uri: "{uri}", poll_seconds: 0.5, cache_dir: "{cache}"}}
log: {{{log}}}
models:
  sentiment: {{split: {{production: 90, canary: 10}}}}
"""


class Collected:
    """A gateway whose log goes into a pipe, as a container's does."""

    def __init__(self, directory: Path, uri: str, log: str) -> None:
        self.config = directory / "router.yaml"
        self.directory, self.uri = directory, uri
        self.configure(log)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "router", "serve", "-c", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.raw: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        assert self.process.stdout is not None
        found = ANNOUNCED.search(self.process.stdout.readline())
        assert found, self.story()
        self.url = found[1]

    def configure(self, log: str) -> None:
        text = CONFIG.format(uri=self.uri, cache=self.directory / "cache", log=log)
        self.config.write_text(text)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.raw.append(line)

    def story(self) -> str:
        return "".join(self.raw[-50:])

    def lines(self, **values: Any) -> list[dict[str, Any]]:
        """The lines so far that say `values`; every line has to be JSON."""
        read = [json.loads(line) for line in list(self.raw)]
        return [line for line in read if all(line.get(name) == value for name, value in values.items())]

    def wait_for(self, seconds: float, **values: Any) -> dict[str, Any]:
        wait_until(lambda: self.lines(**values), seconds, self.story)
        return self.lines(**values)[0]

    def wait_bound(self, seconds: float) -> None:
        for alias in ("production", "canary"):
            self.wait_for(seconds, event="alias bound", alias=alias)

    def ask(self, text: str, key: str, **headers: str) -> requests.Response:
        body = {"dataframe_split": {"columns": ["text"], "data": [[text]]}}
        headers = {"X-Request-Key": key, **headers}
        return requests.post(
            f"{self.url}/invocations", json=body, headers=headers, timeout=30 * slowness.slack()
        )

    def stop(self) -> list[dict[str, Any]]:
        """End it; all it wrote."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30 * slowness.slack())
        self._reading.join(10 * slowness.slack())
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return self.lines()


@pytest.fixture(scope="module")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(built_registry_of(Path(__file__).with_name("build_talkers.py"), tmp_path_factory))


@pytest.fixture(scope="module")
def gateway(talkers: Registry, tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Collected]:
    directory = tmp_path_factory.mktemp("collected")
    gateway = Collected(directory, talkers.uri, "format: auto")
    try:
        gateway.wait_bound(60 * slack)
        yield gateway
    finally:
        gateway.stop()


def test_what_a_version_says_while_it_loads_is_there_with_its_name(gateway: Collected) -> None:
    events = {line["event"]: line for line in gateway.lines(child="worker", version=2)}

    for how in ("print", "half a line", "raw", "c", "program"):
        assert events[f"{how}: loading 2"]["level"] == "info"
    logged = events["logged: loading 2\\x0aand a second line"]
    assert (logged["level"], logged["logger"], logged["model"]) == ("warning", "theirs", "sentiment")
    (warned,) = [line for line in events.values() if "warned: loading 2" in line["event"]]
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")


def test_mlflows_own_lines_keep_their_level_and_logger(gateway: Collected) -> None:
    """The warning about a missing requirement has several lines of its own; here it is one."""
    reported = [line for line in gateway.lines(child="worker") if line.get("logger", "").startswith("mlflow")]

    assert reported
    assert {line["level"] for line in reported} == {"warning"}
    assert any("a-library-that-nobody-has" in line["event"] for line in reported)


def complaints(gateway: Collected) -> list[dict[str, Any]]:
    """Lines of versions that raised."""
    return [line for line in gateway.lines(child="worker") if "its predict raised" in line["event"]]


def test_nothing_of_a_request_is_logged_whatever_versions_print(gateway: Collected, slack: float) -> None:
    for key in (f"{KEY}-1", PRODUCTION, CANARY):
        assert gateway.ask(SECRET, key).status_code == 200
    assert gateway.ask("raise", PRODUCTION).status_code == 500

    reported = gateway.wait_for(10 * slack, child="worker", version=1, why=WHY)
    assert reported["event"].endswith("left out")
    wait_until(lambda: complaints(gateway), 10 * slack, gateway.story)
    (failed,) = complaints(gateway)
    assert failed["level"] == "warning"
    assert "in predict (said once)" in failed["event"]
    for word in (SECRET, KEY, "asked about", "no good"):
        assert word not in "".join(gateway.raw)


WHY = "what a version prints once it is READY may hold requests; log.model_output: always shows it"


def test_a_version_that_can_not_be_loaded_leaves_its_traceback(
    gateway: Collected, talkers: Registry, slack: float
) -> None:
    talkers.move("canary", 3)
    try:
        reported = gateway.wait_for(30 * slack, event="sentiment v3 failed to load")
    finally:
        talkers.move("canary", 2)

    assert (reported["child"], reported["version"], reported["level"]) == ("worker", 3, "warning")
    assert reported["exception"].startswith("Traceback (most recent call last):\n")
    assert "in read_weights" in reported["exception"]
    assert reported["exception"].endswith("ValueError: the weights are for\nanother architecture")


def test_what_is_no_http_is_one_line_without_its_bytes(gateway: Collected, slack: float) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    for bad in (
        f"POST /invocations HTTP/1.1\r\nX-Request-Key: {KEY}\x00\r\nContent-Length: x\r\n\r\n{SECRET}",
        f"{SECRET} / HTTP/9.9\r\n\r\n",
        f"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=10 * slack) as sock:
            sock.sendall(bad.encode())
            with suppress(OSError):
                while sock.recv(4096):
                    pass
    assert gateway.ask("good", PRODUCTION).status_code == 200

    assert SECRET not in "".join(gateway.raw)
    assert KEY not in "".join(gateway.raw)
    assert all(line["level"] and line["event"] for line in gateway.lines())


def test_a_canary_that_prints_a_megabyte_per_request_holds_nobody_up(
    gateway: Collected, slack: float, figure: Any
) -> None:
    before = len("".join(gateway.raw))
    took = []
    for _ in range(30):
        began = time.monotonic()
        assert gateway.ask("megabyte", CANARY).headers["X-Model-Version"] == "2"
        took.append(time.monotonic() - began)

    written = len("".join(gateway.raw)) - before
    figure(f"30 MB printed in 30 requests: median {1e3 * sorted(took)[15]:.1f} ms, {written} bytes of log")
    assert sorted(took)[15] < 0.2 * slack
    assert written < 20_000


@pytest.mark.slow
def test_sampled_requests_have_a_line_each_without_key_and_payload(
    talkers: Registry, tmp_path: Path, slack: float
) -> None:
    gateway = Collected(tmp_path, talkers.uri, "format: json, sample_requests: 1, model_output: never")
    try:
        gateway.wait_bound(60 * slack)
        gateway.ask(SECRET, CANARY, **{"X-Request-Id": "mine-1"})
        gateway.ask(SECRET, PRODUCTION, **{"X-Request-Id": "mine-2"})
        requests.post(f"{gateway.url}/models/none/invocations", data=SECRET, timeout=10 * slack)
        gateway.wait_for(10 * slack, event="request", request_id="mine-2")
        line = gateway.wait_for(10 * slack, event="request", request_id="mine-1")
        refused = gateway.wait_for(10 * slack, event="request", outcome="rejected")

        assert line.pop("milliseconds") > 0
        assert line.pop("timestamp")
        assert line == {
            "level": "info",
            "event": "request",
            "request_id": "mine-1",
            "model": "sentiment",
            "given": "canary",
            "answered": "canary",
            "version": 2,
            "reason": "hash",
            "outcome": "ok",
            "code": 200,
            "rows": 1,
        }
        assert (refused["model"], refused["reason"], refused["code"]) == ("__other__", "unknown_model", 404)

        # Later it may be asked again what it was asked before, to see whether its rows depend on others.
        assert SECRET not in "".join(gateway.raw)
        gateway.configure("format: json, sample_requests: 0, model_output: always")
        gateway.wait_for(10 * slack, event="configuration in force", changes=CHANGES)
        count = len(gateway.lines(event="request"))
        gateway.ask("good", PRODUCTION)
        gateway.wait_for(10 * slack, event="print: asked about good", version=1)
        assert len(gateway.lines(event="request")) == count
    finally:
        lines = gateway.stop()

    assert {line["event"] for line in lines} >= {"ready", "request", "version ready"}
    reported = {line["event"] for line in lines if line.get("child") and SECRET in line["event"]}
    assert all(
        "asked about" in event for event in reported
    )  # a version's own words, which are wanted by then
    assert not [line for line in lines if not line.get("child") and SECRET in json.dumps(line)]


CHANGES = ["log.model_output", "log.sample_requests"]
