"""Sockets and TLS, and how a listener starts and stops."""

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import http_parser, web

from router.errors import ConfigRefused, SlowParser
from router.settings import TlsSettings
from router.web.connections import DIRECT_PATH, SWEEP_SECONDS, Connections
from router.web.context import GATEWAY

BACKLOG = 1024
MOST_CONNECTIONS = 4096
"""Of one listener at once, where the process may open enough descriptors."""
HANDSHAKE_SECONDS = 10.0
_DESCRIPTORS = 16_384
_CUT_SECONDS = 0.25
"""For what is under way when a listener is cut; whoever wants to wait does so before."""


class Listener:
    """One listening socket and the connections that came in through it."""

    def __init__(self, connections: Connections, server: asyncio.Server) -> None:
        self.connections = connections
        self._server = server

    def refuse_more(self) -> None:
        """Close the listening socket; connections stay."""
        self._server.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening; port 0 lets the system choose. OSError names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return bound


def require_compiled_parser() -> None:
    """Raises SlowParser when requests would be parsed by aiohttp's pure-Python code.

    The compiled parser refuses ambiguous messages; the advisories about smuggling are about the other one.
    """
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise SlowParser(
            "aiohttp runs without its compiled HTTP parser, and the other one is neither safe nor fast:"
            " unset AIOHTTP_NO_EXTENSIONS, or install aiohttp from a wheel"
        )


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as it may, up to 16 384."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """Connections that one listener may hold, with half of the descriptors left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


@asynccontextmanager
async def listening(
    app: web.Application, bound: socket.socket, *, limit: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """Serve `app` on `bound`; at the end every connection is closed."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_CUT_SECONDS)
    await runner.setup()
    assert runner.server is not None  # setup made it
    settings = app[GATEWAY].settings if GATEWAY in app else None
    connections = Connections(runner.server, settings, limit, app.get(DIRECT_PATH))
    server = await loop.create_server(
        connections,
        sock=bound,
        backlog=BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
    )
    sweeping = loop.create_task(_sweep(connections), name="sweep connections")
    try:
        yield Listener(connections, server)
    finally:
        sweeping.cancel()
        server.close()
        await runner.cleanup()


async def _sweep(connections: Connections) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        connections.sweep()


class Certificate:
    """A certificate and its key. `context` goes to the listener; handshakes use what was read last."""

    def __init__(self, section: str, files: TlsSettings) -> None:
        """`section` is the configuration's name for it. Raises ConfigRefused when it can not be used."""
        self._section = section
        self._files = files
        self._newest = self.context = self.read()
        # Asked at each handshake, also of clients that name no server: connections that are open keep theirs.
        # A second certificate in the same context would stay beside the first, if its key is of another kind.
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """The certificate as it is in its files now; blocks. Raises ConfigRefused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        files = self._files
        try:
            # An encrypted key would otherwise be asked for on the terminal.
            context.load_cert_chain(files.certificate_file, files.key_file, password=_no_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise ConfigRefused(
                [f"{self._section}: the certificate or its key can not be used: {why}"]
            ) from None
        return context

    def use(self, context: ssl.SSLContext) -> None:
        """Let the next handshakes use what `read` returned."""
        self._newest = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase")
