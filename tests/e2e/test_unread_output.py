"""Nobody reads what the gateway prints: a collector that hangs, a terminal after Ctrl-S."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.gateway import ANNOUNCED
from tests.support.ports import free_port
from tests.support.registry import Registry
from tests.support.waiting import wait_until

REQUESTS = 400
CONFIG = """\
server: {{listen: 127.0.0.1:0, admin: "127.0.0.1:{admin}", min_drain_seconds: 0}}
registry: {{uri: "{uri}", poll_seconds: 0.5, cache_dir: "{cache}"}}
log: {{format: json, sample_requests: 1}}
models:
  sentiment: {{split: {{production: 50, canary: 50}}}}
"""
BODY = {"dataframe_split": {"columns": ["text"], "data": [["good"]]}}


class Unread:
    """A pipe; who writes into it when it is full waits until somebody reads."""

    def __init__(self, *, full: bool = False) -> None:
        self.reader, self.writer = os.pipe()
        self.bytes = fcntl.fcntl(self.writer, fcntl.F_GETPIPE_SZ)
        if full:
            os.write(self.writer, b"\n" * self.bytes)

    def read(self) -> str:
        """All that is in it now."""
        os.set_blocking(self.reader, False)
        text = b""
        try:
            while piece := os.read(self.reader, self.bytes):
                text += piece
        except BlockingIOError:
            pass
        return text.decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def unread() -> Iterator[Callable[..., Unread]]:
    made: list[Unread] = []

    def make(*, full: bool = False) -> Unread:
        made.append(Unread(full=full))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture
def serve(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a gateway with these files for what it prints; `admin` is a port."""
    started: list[subprocess.Popen[str]] = []

    def start(*, admin: int = 0, **options: Any) -> subprocess.Popen[str]:
        config = tmp_path / "router.yaml"
        config.write_text(CONFIG.format(uri=registry.uri, cache=tmp_path / "cache", admin=admin))
        command = [sys.executable, "-m", "router", "serve", "-c", str(config)]
        started.append(subprocess.Popen(command, text=True, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def announced(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Where the gateway says that it listens: for traffic, and for operators."""
    assert process.stdout is not None
    found = ANNOUNCED.search(process.stdout.readline())
    assert found
    return found[1], found[2]


def wait_ready(url: str, slack: float) -> None:
    def is_ready() -> bool:
        try:
            return requests.get(f"{url}/readyz", timeout=5 * slack).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(is_ready, 60 * slack)


def assert_ends(process: subprocess.Popen[str], slack: float) -> float:
    """SIGTERM ends it as it would with a reader: after the 2 s in which nobody asks."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15 * slack) == 0
    took = time.monotonic() - began
    assert took < 6 * slack
    return took


def test_nothing_waits_for_a_standard_error_that_nobody_reads(
    serve: Callable[..., subprocess.Popen[str]],
    unread: Callable[..., Unread],
    slack: float,
    figure: Callable[[str], None],
) -> None:
    """Every request has a line, so that 400 are more than the pipe takes."""
    errors = unread()
    process = serve(stdout=subprocess.PIPE, stderr=errors.writer)
    url, admin = announced(process)
    wait_ready(url, slack)
    with requests.Session() as session:
        codes = []
        for number in range(REQUESTS):
            headers = {"X-Request-Key": f"user-{number}"}
            codes.append(
                session.post(f"{url}/invocations", json=BODY, headers=headers, timeout=10 * slack).status_code
            )
        assert session.get(f"{url}/livez", timeout=5 * slack).status_code == 200
        assert session.get(f"{admin}/v1/state", timeout=5 * slack).status_code == 200
        text = session.get(f"{admin}/metrics", timeout=5 * slack).text
    assert codes == [200] * REQUESTS
    assert "\ncanary_router_log_lines_dropped_total 0" in text  # they wait for a reader
    took = assert_ends(process, slack)
    assert '"event":"request"' in errors.read().replace(" ", "")
    figure(f"standard error unread: 0 of {REQUESTS} failed, SIGTERM to exit {took:.1f} s")


def test_a_reader_that_comes_back_gets_every_line(
    serve: Callable[..., subprocess.Popen[str]], unread: Callable[..., Unread], slack: float
) -> None:
    errors = unread()
    process = serve(stdout=subprocess.PIPE, stderr=errors.writer)
    url, _ = announced(process)
    wait_ready(url, slack)
    with requests.Session() as session:
        for number in range(REQUESTS):
            headers = {"X-Request-Key": f"user-{number}", "X-Request-Id": f"number-{number}"}
            session.post(f"{url}/invocations", json=BODY, headers=headers, timeout=10 * slack)
    seen = [errors.read()]

    def has_last() -> bool:
        seen.append(errors.read())
        return f"number-{REQUESTS - 1}" in "".join(seen)

    wait_until(has_last, 10 * slack)
    text = "".join(seen)
    places = [text.index(f'"number-{number}"') for number in range(REQUESTS)]
    assert places == sorted(places)


def test_nothing_waits_for_a_standard_output_that_nobody_reads(
    serve: Callable[..., subprocess.Popen[str]],
    unread: Callable[..., Unread],
    slack: float,
    tmp_path: Path,
) -> None:
    """The one line there says where it listens: without it, it listens all the same."""
    output, port = unread(full=True), free_port()
    with (tmp_path / "log").open("wb") as log:
        process = serve(admin=port, stdout=output.writer, stderr=log)
    wait_ready(f"http://127.0.0.1:{port}", slack)

    assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=5 * slack).status_code == 200
    assert_ends(process, slack)


def test_a_start_that_fails_ends_where_nobody_reads_why(
    serve: Callable[..., subprocess.Popen[str]], unread: Callable[..., Unread], slack: float
) -> None:
    process = serve(stdout=subprocess.DEVNULL, stderr=unread(full=True).writer, admin=99_999)

    assert process.wait(30 * slack) == 2


def test_a_start_that_fails_prints_every_problem_before_it_ends(tmp_path: Path, slack: float) -> None:
    config = tmp_path / "router.yaml"
    names = [f"unknown_key_{number:04}_{'x' * 60}" for number in range(90)]
    config.write_text("models: {m: {}}\n" + "".join(f"{name}: 1\n" for name in names))
    process = subprocess.Popen(
        [sys.executable, "-m", "router", "serve", "-c", str(config)], stderr=subprocess.PIPE, text=True
    )
    text = process.communicate(timeout=60 * slack)[1]

    assert process.returncode == 2
    assert [name for name in names if name not in text] == []
