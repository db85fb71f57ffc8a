"""The health check of containers, asked where the configuration says that the gateway listens."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.web.test_listeners import write_certificate


def configuration(directory: Path, server: str) -> Path:
    path = directory / "router.yaml"
    registry = f"registry: {{uri: 'sqlite:///{directory / 'mlflow.db'}', cache_dir: '{directory / 'cache'}'}}"
    own = f"server: {{{server}, admin: 127.0.0.1:0, drain_seconds: 1}}"
    path.write_text(f"{own}\n{registry}\nmodels: {{sentiment: {{}}}}\n")
    return path


def health(path: Path) -> Result:
    return CliRunner().invoke(root, ["health", "-c", str(path)])


@contextmanager
def answering(status: str) -> Iterator[int]:
    """A listener that answers one request with `status`; its port."""
    script = (
        "import socket, sys\n"
        "one = socket.create_server(('127.0.0.1', 0)); print(one.getsockname()[1], flush=True)\n"
        "peer, _ = one.accept(); peer.recv(65536)\n"
        "peer.sendall(f'HTTP/1.1 {sys.argv[1]}\\r\\nContent-Length: 0\\r\\n\\r\\n'.encode())\n"
    )
    command = [sys.executable, "-c", script, status]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("host", "encrypted"),
    [("127.0.0.1", False), ("0.0.0.0", True), ("[::]", False), ("[::1]", True)],
    ids=["IPv4", "IPv4 TLS", "IPv6", "IPv6 TLS"],
)
def test_a_gateway_is_found_by_its_configuration_and_asked_directly(
    tmp_path: Path, host: str, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By port, protocol and address family; it is alive although its registry has nothing to serve.

    Its certificate is made for the name that clients use, so it is not asked for that of the loopback.
    """
    port = free_port(host.strip("[]"))
    tls = ""
    if encrypted:
        files = write_certificate(tmp_path, "gateway")
        tls = f", tls: {{certificate_file: '{files.certificate_file}', key_file: '{files.key_file}'}}"
    path = configuration(tmp_path, f"listen: '{host}:{port}'{tls}")
    loopback = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    url = f"{'https' if encrypted else 'http'}://{loopback}:{port}/livez"
    assert health(path).exit_code == 3

    gateway = GatewayProcess(tmp_path, path)
    try:
        with monkeypatch.context() as proxied:
            for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
                proxied.setenv(proxy, "http://127.0.0.1:9")
            proxied.setenv("no_proxy", "127.0.0.0/8")
            shown = health(path)
    finally:
        gateway.stop()

    assert (shown.exit_code, shown.output) == (0, f"alive: {url}\n")


def test_the_environment_stands_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = configuration(tmp_path, "listen: 127.0.0.1:1")
    with answering("200 OK") as port:
        monkeypatch.setenv("CANARY_ROUTER_SERVER__LISTEN", f"0.0.0.0:{port}")
        shown = health(path)

    assert (shown.exit_code, shown.output) == (0, f"alive: http://127.0.0.1:{port}/livez\n")


def test_an_error_as_answer_is_not_healthy(tmp_path: Path) -> None:
    with answering("503 Service Unavailable") as port:
        shown = health(configuration(tmp_path, f"listen: 127.0.0.1:{port}"))

    assert shown.exit_code == 1
    assert shown.output == f"not healthy: http://127.0.0.1:{port}/livez answers 503\n"


def test_no_answer_is_3_as_of_every_command_that_asks(tmp_path: Path) -> None:
    port = free_port()
    shown = health(configuration(tmp_path, f"listen: 127.0.0.1:{port}"))

    assert shown.exit_code == 3
    assert shown.output.startswith(f"no gateway answers at http://127.0.0.1:{port}/livez: ")


def test_a_file_that_the_gateway_refuses_does_not_make_a_live_gateway_unhealthy(tmp_path: Path) -> None:
    """It serves on with what it had; restarted for its file, it would not come up again."""
    with answering("200 OK") as port:
        path = configuration(tmp_path, f"listen: 127.0.0.1:{port}")
        path.write_text(path.read_text().replace("sentiment: {}", "sentiment: {splitt: 3}"))
        shown = health(path)

    assert shown.exit_code == 0
    assert f"alive: http://127.0.0.1:{port}/livez" in shown.output
    assert "its configuration is not valid now: router.yaml:3 models.sentiment.splitt" in shown.output


@pytest.mark.parametrize("text", ["models: [", "server: {listen: 3}\nmodels: {m: {}}\n", None])
def test_without_a_readable_file_the_environment_and_the_defaults_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "router.yaml"
    if text is not None:
        path.write_text(text)
    with answering("200 OK") as port:
        monkeypatch.setenv("CANARY_ROUTER_SERVER__LISTEN", f"127.0.0.1:{port}")
        assert health(path).exit_code == 0


def test_where_nobody_answers_a_file_that_is_not_valid_is_named(tmp_path: Path) -> None:
    """With 2: the place where it was asked may be wrong."""
    path = configuration(tmp_path, f"listen: 127.0.0.1:{free_port()}")
    path.write_text(path.read_text() + "nonsense: 1\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CANARY_ROUTER")}
    done = subprocess.run(
        [sys.executable, "-m", "router", "health", "-c", str(path)],
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("router.yaml:4 nonsense: unknown key")


def test_port_0_can_not_be_asked(tmp_path: Path) -> None:
    shown = health(configuration(tmp_path, "listen: 127.0.0.1:0"))

    assert "nobody knows which port the system chose" in str(shown.exception)
