"""Connections of one listener: counted, limited, and closed when their client takes too long."""

import asyncio
import fcntl
import logging
import socket
import struct
import sys
import termios
from heapq import nsmallest
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from router.protocol.messages import ScoringProtocol
from router.serving.caller import Caller
from router.settings import ServerSettings, SettingsInForce
from router.web.responses import SERVER, SinglePacketResponse, has_too_much, plain_error
from router.web.safe_traceback import safe_traceback

_log = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
"""From a connection's first moment, or a request's first byte, to the end of the request's headers."""
SWEEP_SECONDS = 1.0
_SMALL_BODY_BYTES = 1 << 15
_BODY_FOLLOWS_SECONDS = 1.0
"""Many clients send head and body one after the other."""
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


Target = tuple[str, ScoringProtocol]
"""The model that a request asks, and in which protocol."""


class Direct(Protocol):
    """Answers plain requests, in place of the application."""

    def target(self, message: RawRequestMessage) -> Target | None:
        """What a request asks for; None where the application is to answer it."""

    async def answer(
        self, message: RawRequestMessage, payload: StreamReader, target: Target, caller: Caller
    ) -> web.StreamResponse:
        """The answer to one with a `target`, whose body is there; never raises."""


DIRECT_PATH: web.AppKey[Direct] = web.AppKey("direct_path")
"""What answers plain requests of an application; absent where it answers all itself."""


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

    async def start(self) -> None:
        """Answer one request after the other, until the connection ends.

        In place of the library's loop as long as all take the direct path; from the first other one on it is
        the library's. A small body that is a moment behind its head is waited for.
        """
        direct = self._connections.direct
        try:
            while direct is not None and not self._force_close:
                if not self._messages:
                    await self._next_message()
                message, payload = self._messages[0]
                if not isinstance(message, RawRequestMessage) or (target := direct.target(message)) is None:
                    break
                self.began()
                if not (payload.is_eof() or await _arrives(message, payload)):
                    break
                self._messages.popleft()
                self._message_taken()
                if not await self._answer(direct, message, payload, target):
                    self._task_handler = None
                    if self.transport is not None:
                        self.transport.close()
                    return
        except asyncio.CancelledError:
            self.force_close()
            raise
        except ConnectionError:  # the client is gone
            self.force_close()
            return
        await super().start()

    async def _next_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _message_taken(self) -> None:
        """There is room for one more of those that the client sent ahead."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _answer(
        self, direct: Direct, message: RawRequestMessage, payload: StreamReader, target: Target
    ) -> bool:
        """Answer one request. False when the connection is to be closed after it."""
        self._request_in_progress = True
        try:
            try:
                response = await direct.answer(message, payload, target, self.caller)
            finally:
                self.answered()
            if isinstance(response, SinglePacketResponse):
                response.send(self.transport)
                if self.transport is not None and has_too_much(self.transport):
                    await self._drain_helper()
                return bool(response.keep_alive)
            return await self._send_as_the_library(message, payload, response)
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)

    async def _send_as_the_library(
        self, message: RawRequestMessage, payload: StreamReader, response: web.StreamResponse
    ) -> bool:
        if self._request_factory is None or self._task_handler is None:
            raise ConnectionResetError("the client is gone")
        writer = StreamWriter(self, self._loop)
        request = self._request_factory(message, payload, self, writer, self._task_handler)
        sent, is_reset = await self.finish_response(request, response, None)
        return bool(sent.keep_alive) and not is_reset

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


async def _arrives(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Whether a small body that follows its head is there soon. Of a large one never: it is read in parts."""
    if int(message.headers.get("Content-Length", 0)) > _SMALL_BODY_BYTES:
        return False
    try:
        async with asyncio.timeout(_BODY_FOLLOWS_SECONDS):
            await payload.wait_eof()
    except TimeoutError:
        return False
    return True


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

    def __init__(
        self, server: web.Server, settings: SettingsInForce | None, limit: int, direct: Direct | None = None
    ) -> None:
        """`limit`: connections open at once; room for further ones is made by closing the slowest.

        Without `settings` those of `server` have their defaults. `direct` answers in place of the application
        what it has a target for.
        """
        self.direct = direct
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
