"""Asking a gateway behind a certificate that nobody but its operator has signed."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from router.cli.client import Unreachable, ask
from tests.web.test_listeners import write_certificate


class Answers(BaseHTTPRequestHandler):
    """As a gateway without models."""

    def do_GET(self) -> None:
        body = b'{"models": {}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server whose certificate is self-signed and names `localhost`."""
    files = write_certificate(tmp_path, "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_file, files.key_file)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", ["status", "compare"])
def test_a_certificate_that_is_not_trusted_is_called_so_and_not_a_gateway_that_does_not_answer(
    port: int, command: str
) -> None:
    url = f"https://localhost:{port}"
    done = subprocess.run(
        [sys.executable, "-m", "router", command, "--url", url], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"the certificate of {url} is not trusted here: self")
    assert done.stderr.endswith("; SSL_CERT_FILE=FILE names the certificates to trust\n")


def test_a_certificate_that_ssl_cert_file_names_is_trusted(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))

    assert ask(f"https://localhost:{port}", "/v1/state") == {"models": {}}


def test_a_certificate_for_another_name_says_to_ask_by_that_name(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The admin address of the configuration is mostly an IP address, and certificates hold names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))

    with pytest.raises(
        Unreachable, match=r"is not trusted here: .*127\.0\.0\.1.*; --url https://NAME:PORT asks"
    ):
        ask(f"https://127.0.0.1:{port}", "/v1/state")
