"""Connections of one listener: counted, limited, and closed when their client takes too long."""

import asyncio
import fcntl
import logging
import socket
import struct
import sys
import termios
from heapq import nsmallest
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from router.serving.caller import Caller
from router.settings import ServerSettings, SettingsInForce
from router.web.responses import SERVER, plain_error
from router.web.safe_traceback import safe_traceback

_log = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
"""From a connection's first moment, or a request's first byte, to the end of the request's headers."""
SWEEP_SECONDS = 1.0
_EVICTED_AT_ONCE = 64
"""Room for new connections is made for several at a time: a flood must not cost a search each."""

# Headers longer or more numerous than these are refused by the parser, before they are kept.
_MAX_LINE_BYTES = 8190
_MAX_HEADERS = 100
_ENDING = b"Server: canary-router\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" + _ENDING
OTHER_VERSION = b"HTTP/1.1 400 Bad Request\r\n" + _ENDING
_DEFAULTS = ServerSettings()
_ESTABLISHED = 1  # the kernel's number of the state in which both sides are open
_AT_ONCE = struct.pack("ii", 1, 0)
_KEPT_ALIVE_BY_US = 86_400.0  # the sweep closes idle connections long before the library's own timer would


class HttpConnection(web.RequestHandler):
    """One client's connection. Between requests it has a deadline; within one, the request has its own."""

    def __init__(self, connections: "Connections", server: web.Server) -> None:
        settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,  # MLflow does none, and a bomb must not be unpacked here
            "keepalive_timeout": _KEPT_ALIVE_BY_US,
            "max_line_size": _MAX_LINE_BYTES,
            "max_field_size": _MAX_LINE_BYTES,
            "max_headers": _MAX_HEADERS,
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self.busy = False
        """True from the end of a request's headers until its answer is ready to be sent."""
        self.deadline = 0.0
        """Loop time at which it is closed unless it is busy."""
        self.caller = Caller()
        """Whoever waits for the answers on it."""
        self._connections = connections
        self._between_requests = False

    @property
    def unsent_bytes(self) -> int:
        """What the client has not taken yet, apart from what the kernel holds."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.deadline = self._connections.clock + HEADER_SECONDS
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, or was sent away."""
        self._connections.discard(self)
        self.caller.hang_up()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The client sends no more, which counts as hanging up: a client that is gone looks the same.

        The transport closes itself then, but only after what was written before is sent.
        """
        self.caller.hang_up()

    def look_for_end(self) -> None:
        """Hang up when the client did while nothing was read: what it sent ahead fills the buffers."""
        transport = self.transport
        if transport is None or transport.is_closing() or transport.is_reading():
            return
        if not _is_open(transport.get_extra_info("socket")):
            self.caller.hang_up()
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._between_requests:
            self._between_requests = False
            self.deadline = self._connections.clock + HEADER_SECONDS
        super().data_received(data)

    def began(self) -> None:
        """The headers of a request are complete."""
        self.busy = True
        self._between_requests = False

    def answered(self) -> None:
        """Its answer is ready to be sent."""
        self.busy = False
        self._between_requests = True
        self.deadline = self._connections.idle_deadline()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """400 for what is no HTTP, without a word from or about the parser; the connection is closed."""
        if not isinstance(exc, HttpProcessingError):
            self.log_exception("answering failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        status = 400 if isinstance(exc, HttpProcessingError) else status
        reason = "Bad Request" if status == 400 else "Internal Server Error"
        response = plain_error(status, reason, {"Server": SERVER})
        response.force_close()
        self.answered()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """One line in place of the library's, which quotes the bytes that it could not read."""
        error = kw.get("exc_info")
        if not isinstance(error, BaseException):
            error = sys.exception()
        _log.error("a connection failed: %s", safe_traceback(error))

    def refuse(self, answer: bytes) -> None:
        """Send `answer`, a whole HTTP message, and close."""
        if self.transport is not None:
            self.transport.write(answer)
        self.force_close()

    def drop(self) -> None:
        """Close it now. What its client would not read is thrown away."""
        if self.transport is None:
            return
        accepted = self.transport.get_extra_info("socket")
        # Who is sent away early may not have acknowledged an answer yet: it is not taken back.
        overdue = self.deadline < self._connections.clock
        if not self.unsent_bytes and not (overdue and _held_by_kernel(accepted)):
            self.force_close()
            return
        # A reset: else the kernel would keep on offering the rest, on a connection that nobody owns.
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


def _held_by_kernel(accepted: socket.socket) -> bool:
    """True when the client has not acknowledged all that was sent to it."""
    (count,) = struct.unpack("i", fcntl.ioctl(accepted.fileno(), termios.TIOCOUTQ, bytes(4)))
    return bool(count)


def _is_open(accepted: socket.socket) -> bool:
    """False when the client closed its side, or reset the connection; known on Linux only."""
    if sys.platform != "linux":
        return True
    return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def caller_of(request: web.BaseRequest) -> Caller:
    """Who waits for the answer to `request`."""
    connection = request.protocol
    return connection.caller if isinstance(connection, HttpConnection) else Caller()


class Connections:
    """Makes a protocol for each connection of a listener, and sends the slow ones away."""

    def __init__(self, server: web.Server, settings: SettingsInForce | None, limit: int) -> None:
        """`limit`: connections open at once; room for further ones is made by closing the slowest.

        Without `settings` those of `server` have their defaults.
        """
        self._server = server
        self._settings = settings
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._open: set[HttpConnection] = set()
        self.clock = self._loop.time()
        """Loop time as of the last sweep: exact enough for the deadlines of headers, and free to read."""

    def __call__(self) -> HttpConnection:
        """A protocol for one more connection."""
        return HttpConnection(self, self._server)

    def idle_deadline(self) -> float:
        """Loop time at which a connection whose answer is ready now has been idle for too long.

        Not by the last sweep: a balancer that keeps connections a little shorter must never be the later one.
        """
        server = self._settings.current.server if self._settings is not None else _DEFAULTS
        return self._loop.time() + server.idle_seconds

    def __len__(self) -> int:
        """Connections open now."""
        return len(self._open)

    def add(self, connection: HttpConnection) -> None:
        """Count `connection`; beyond the limit those nearest to their deadline go, or it if all are busy."""
        if len(self._open) >= self._limit:
            waiting = (one for one in self._open if not one.busy)
            for slow in nsmallest(_EVICTED_AT_ONCE, waiting, key=lambda one: one.deadline):
                slow.drop()
                self.discard(slow)
        if len(self._open) < self._limit:
            self._open.add(connection)
        else:
            self._loop.call_soon(connection.refuse, NO_ROOM)

    def discard(self, connection: HttpConnection) -> None:
        """Count `connection` no longer."""
        self._open.discard(connection)

    def sweep(self) -> None:
        """Close what is past its deadline, and what its client closed unseen."""
        self.clock = now = self._loop.time()
        for connection in [one for one in self._open if one.busy or one.deadline < now]:
            if connection.busy:
                connection.look_for_end()
            else:
                connection.drop()

    def pending(self) -> bool:
        """True while a request is under way, or an answer not yet taken."""
        return any(one.busy or one.unsent_bytes for one in self._open)
