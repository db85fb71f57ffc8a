"""Asking a gateway: with a proxy in the environment, and behind a certificate that its operator signed."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.cli.client import Unreachable, ask, own_url
from tests.cli.servers import Reply, Request, listening
from tests.web.test_listeners import write_certificate


def without_models(_: Request) -> Reply:
    """As a gateway without models answers."""
    return Reply({"models": {}})


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server whose certificate is self-signed and names `localhost`."""
    files = write_certificate(tmp_path, "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_file, files.key_file)
    with listening(without_models, "127.0.0.1", context) as port:
        yield port


NOBODY = "127.0.0.1:9"
"""Where nothing listens."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that sends every request to a proxy that does not answer, with a password for it."""
    for scheme in ("http", "https", "no", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.setenv("http_proxy", f"http://ann:hidden@{NOBODY}")
    monkeypatch.setenv("https_proxy", f"http://ann:hidden@{NOBODY}")
    return monkeypatch


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.8.9.10", "127.8.9.10"),
        ("::1", "[::1]"),
        ("::1", "[::]"),
    ],
)
@pytest.mark.parametrize("excepted", [None, "10.0.0.0/8,127.0.0.0/8"], ids=["no exceptions", "CIDR"])
def test_this_machine_is_asked_directly_whatever_proxy_the_environment_names(
    proxied: pytest.MonkeyPatch, listen: str, asked: str, excepted: str | None
) -> None:
    """Networks in no_proxy mean nothing to Python; a proxy could not reach a loopback address anyway."""
    if excepted is not None:
        proxied.setenv("no_proxy", excepted)
    with listening(without_models, listen) as port:
        assert ask(f"http://{asked}:{port}", "/v1/state") == {"models": {}}


def test_https_on_this_machine_is_asked_directly_too(
    proxied: pytest.MonkeyPatch, port: int, tmp_path: Path
) -> None:
    proxied.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))

    assert ask(f"https://localhost:{port}", "/v1/state") == {"models": {}}


def test_every_other_host_is_asked_through_the_proxy(proxied: pytest.MonkeyPatch) -> None:
    with listening(without_models, "127.0.0.1") as port:
        proxied.setenv("http_proxy", f"http://127.0.0.1:{port}")

        assert ask("http://gateway.invalid:8081", "/v1/state") == {"models": {}}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("command", ["status", "compare"])
def test_an_error_names_the_proxy_that_was_used_and_not_its_password(
    proxied: pytest.MonkeyPatch, command: str, scheme: str
) -> None:
    url = f"{scheme}://gateway.invalid:8081"
    done = subprocess.run(
        [sys.executable, "-m", "router", command, "--url", url], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (3, "")
    proxy = f"the proxy http://***@{NOBODY} of the environment"
    assert done.stderr.startswith(f"no gateway answers at {url} through {proxy}: ")
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "with /v1/state: HTTP Error 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "what answers there is no canary-router"),
    ],
    ids=["502", "a page"],
)
def test_what_a_proxy_answers_itself_is_reported_as_coming_through_it(
    proxied: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        proxied.setenv("http_proxy", address)  # without a scheme, as curl takes it

        def reply() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(Unreachable) as refused:
            ask("http://gateway.invalid:8081", "/v1/state")
        thread.join()

    assert f"through the proxy http://{address} of the environment" in str(refused.value)
    assert said in str(refused.value)


def test_a_host_that_no_proxy_excepts_is_asked_directly_and_no_proxy_is_named(
    proxied: pytest.MonkeyPatch,
) -> None:
    proxied.setenv("no_proxy", ".invalid")

    with pytest.raises(Unreachable) as refused:
        ask("http://gateway.invalid:8081", "/v1/state")
    assert "proxy" not in str(refused.value)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (("0.0.0.0", 8081), "http://127.0.0.1:8081"),
        (("::", 8081), "http://[::1]:8081"),
        (("0:0:0:0:0:0:0:0", 8081), "http://[::1]:8081"),
        (("::1", 8081), "http://[::1]:8081"),
        (("10.1.2.3", 8081), "http://10.1.2.3:8081"),
        (("gateway.example", 8081), "http://gateway.example:8081"),
    ],
)
def test_a_gateway_that_listens_on_every_address_is_asked_by_loopback(
    listen: tuple[str, int], url: str
) -> None:
    assert own_url(listen, encrypted=False) == url
    assert own_url(listen, encrypted=True) == url.replace("http:", "https:")


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
