"""Listeners in every mode: with uvloop and without, plain and encrypted."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop
from aiohttp import ClientSession, TCPConnector, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from router.errors import ConfigRefused
from router.settings import TlsSettings
from router.web.listeners import Certificate
from tests.web.conftest import listening_on_a_port

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def write_certificate(directory: Path, name: str, *, elliptic: bool = True) -> TlsSettings:
    """A self-made certificate for localhost whose subject is `name`; always in the same two files."""
    key = ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "tls.crt").write_bytes(made.public_bytes(pem))
    (directory / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return TlsSettings(certificate_file=str(directory / "tls.crt"), key_file=str(directory / "tls.key"))


async def subject(port: int) -> str:
    """Whom the server says it is, in a handshake of its own."""
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=careless)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    [name] = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def app_that_prints_its_socket(reported: list[int]) -> web.Application:
    async def look(request: web.Request) -> web.Response:
        assert request.transport is not None
        accepted = request.transport.get_extra_info("socket")
        reported.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", look)
    return app


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("loop", LOOPS)
def test_small_answers_are_sent_at_once_in_every_listening_mode(
    loop: str, encrypted: bool, tmp_path: Path
) -> None:
    """Nagle's algorithm would hold back the second part of an answer for 40 ms."""
    reported: list[int] = []

    async def main() -> None:
        tls = Certificate("server.tls", write_certificate(tmp_path, "a")).context if encrypted else None
        async with (
            listening_on_a_port(app_that_prints_its_socket(reported), tls=tls) as (port, up),
            ClientSession(connector=TCPConnector(ssl=False)) as session,
        ):
            async with session.get(f"http{'s' if encrypted else ''}://127.0.0.1:{port}/") as answer:
                assert (answer.status, answer.version) == (200, (1, 1))
            assert len(up.connections) == 1

    run(loop, main)
    assert reported
    assert all(reported)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_new_certificate_is_used_at_once_and_no_connection_is_dropped(loop: str, tmp_path: Path) -> None:
    """Also when the new key is of another kind, and a certificate that can not be used changes nothing."""

    async def main() -> None:
        files = write_certificate(tmp_path, "old", elliptic=False)
        certificate = Certificate("server.tls", files)
        async with (
            listening_on_a_port(app_that_prints_its_socket([]), tls=certificate.context) as (port, up),
            ClientSession(f"https://127.0.0.1:{port}", connector=TCPConnector(ssl=False, limit=1)) as session,
        ):
            async with session.get("/") as answer:
                assert answer.status == 200
            assert await subject(port) == "old"
            write_certificate(tmp_path, "new")
            certificate.use(certificate.read())
            assert await subject(port) == "new"
            (tmp_path / "tls.key").write_text("torn")
            with pytest.raises(ConfigRefused, match=r"^server\.tls: "):
                certificate.read()
            assert await subject(port) == "new"
            async with session.get("/") as answer:  # on the connection it had before
                assert answer.status == 200
            assert up.connections

    run(loop, main)


def test_a_certificate_that_can_not_be_used_is_reported_and_no_passphrase_is_asked_for(
    tmp_path: Path,
) -> None:
    files = write_certificate(tmp_path, "a")
    key = serialization.load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    (tmp_path / "tls.key").write_bytes(encrypted)
    with pytest.raises(ConfigRefused, match="without a passphrase"):
        Certificate("server.tls", files)
    (tmp_path / "tls.crt").unlink()
    with pytest.raises(ConfigRefused, match="No such file"):
        Certificate("server.tls", files)


def run(loop: str, main: Callable[[], Coroutine[object, object, None]]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
