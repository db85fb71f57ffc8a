"""Connections of one listener: counted, limited, and closed when their client takes too long."""

import asyncio
import logging
import socket
import sys
from contextlib import suppress
from heapq import nsmallest
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from router.core.events import AnswersCut, HeadersRefused, Rejected
from router.core.outcomes import CutReason, RefusalReason
from router.core.scores import OTHER
from router.protocol.messages import ScoringProtocol
from router.serving.caller import Caller
from router.settings import ServerSettings
from router.web import tcp
from router.web.context import WebState
from router.web.deliveries import LARGE_BYTES, Client, Deliveries, LargeBody
from router.web.header_limit import MOST_HEADERS, HeaderLimit, HeadersOverLimit
from router.web.incoming import choose_request_id
from router.web.repeats import Repeats
from router.web.responses import (
    FinalResponse,
    SinglePacketResponse,
    has_too_much,
    headers_response,
    plain_error,
    sign,
)
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

_LINGER_SECONDS = 2.0
_ENDING = b"Server: canary-router\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" + _ENDING
OTHER_VERSION = b"HTTP/1.1 400 Bad Request\r\n" + _ENDING
_DEFAULTS = ServerSettings()
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
        limit = connections.server.header_limit_kib << 10
        settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,  # MLflow does none, and a bomb must not be unpacked here
            "keepalive_timeout": _KEPT_ALIVE_BY_US,
            "max_line_size": limit,
            "max_field_size": limit,
            "max_headers": MOST_HEADERS,
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._parser: Any = HeaderLimit(self._parser, limit)
        self.busy = False
        """True from the end of a request's headers until its answer is ready to be sent."""
        self.deadline = 0.0
        """Loop time at which it is closed unless it is busy."""
        self.caller = Caller()
        """Whoever waits for the answers on it."""
        self._connections = connections
        self._between_requests = False
        self._closed: asyncio.Future[None] | None = None
        """Done when it is closed; made where somebody waits for that."""

    @property
    def unsent_bytes(self) -> int:
        """What the client has not taken yet, apart from what the kernel holds."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def has_unread(self) -> bool:
        """Whether its client has not acknowledged all that was written."""
        accepted = self._socket
        return self.unsent_bytes > 0 or (accepted is not None and tcp.has_unacknowledged(accepted))

    @property
    def acknowledged_bytes(self) -> int:
        """What its client has acknowledged since it connected.

        Where the system does not say, it falls below zero by what is unsent, and rises as that is taken.
        """
        accepted = self._socket
        acknowledged = tcp.acknowledged_bytes(accepted) if accepted is not None else None
        return -self.unsent_bytes if acknowledged is None else acknowledged

    @property
    def _socket(self) -> socket.socket | None:
        """None when it is closed; under TLS a moment before `connection_lost` says so."""
        accepted: socket.socket | None = None
        if self.transport is not None:
            accepted = self.transport.get_extra_info("socket")
        return accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.deadline = self._connections.clock + HEADER_SECONDS
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, or was sent away."""
        self._connections.discard(self)
        self.caller.hang_up()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # the library's base says None, asyncio bool
        """The client sends no more, which counts as hanging up: a client that is gone looks the same.

        The transport closes itself then, but only after what was written before is sent; True: it is to stay
        open, for an answer is being written.
        """
        self.caller.hang_up()
        can_stay = self.transport is not None and self.transport.can_write_eof()  # not under TLS
        if not (can_stay and self._connections.deliveries.is_writing(self)):
            return False
        self.close()  # when it is written
        return True

    def look_for_end(self) -> None:
        """Hang up when the client did while nothing was read: what it sent ahead fills the buffers."""
        transport = self.transport
        if transport is None or transport.is_closing() or transport.is_reading():
            return
        if not tcp.is_open(transport.get_extra_info("socket")):
            self.caller.hang_up()
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._between_requests:
            self._between_requests = False
            self.deadline = self._connections.clock + HEADER_SECONDS
        super().data_received(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As the library's, which calls it for every body: what was held back, if anything, is read now."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

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
                if not await self._answer(direct, message, payload, target) or self._close:
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
        if self._manager is not None:  # else it was lost meanwhile
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
        if self._messages:
            self._connections.asked_ahead.add(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As the library's; of a large answer its client takes as long as it needs."""
        if isinstance(resp, web.Response):
            body = resp.body
            if isinstance(body, bytes) and len(body) > LARGE_BYTES:
                resp.body = LargeBody(body, self, self._connections.deliveries)
        return await super().finish_response(request, resp, start_time)

    def keep(self) -> None:
        """Its client takes a large answer, or has taken all of it: it is idle from now on, and no sooner."""
        if self._between_requests:
            self.deadline = self._connections.idle_deadline()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """400 for what is no HTTP, without a word from or about the parser, and 431 for too long headers; the
        connection is closed."""
        if not isinstance(exc, HttpProcessingError):
            self.log_exception("answering failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        request_id = choose_request_id("")
        if isinstance(exc, HeadersOverLimit):
            response = self._connections.refuse_headers(exc.path, request_id)
        elif isinstance(exc, HttpProcessingError):
            response = self._connections.refuse_malformed()
        else:
            response = plain_error(500, "Internal Server Error")
        sign(response, request_id)
        self.answered()
        return FinalResponse(response, self._linger)

    async def _linger(self) -> None:
        """Give the client time to read the last answer: closed while it still sends, it would get a reset."""
        transport = self.transport
        if transport is None or not transport.can_write_eof():  # TLS says by itself that this was the end
            return
        transport.write_eof()
        self._closed = self._loop.create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._closed

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

    def drop(self, *, overdue: bool) -> bool:
        """Close it now. What its client would not read is thrown away; False where there is none of that.

        Who is not `overdue` may not have acknowledged an answer yet: what the kernel has of it is not taken
        back.
        """
        if self.transport is None:
            return False
        if not self.unsent_bytes and not (overdue and self.has_unread):
            self.force_close()
            return False
        # A reset: else the kernel would keep on offering the rest, on a connection that nobody owns.
        if (accepted := self._socket) is not None:
            tcp.reset_at_close(accepted)
        self.transport.abort()
        return True


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


def caller_of(request: web.BaseRequest) -> Caller:
    """Who waits for the answer to `request`."""
    connection = request.protocol
    return connection.caller if isinstance(connection, HttpConnection) else Caller()


class Connections:
    """Makes a protocol for each connection of a listener, and sends the slow ones away."""

    def __init__(
        self, server: web.Server, gateway: WebState | None, limit: int, direct: Direct | None = None
    ) -> None:
        """`limit`: connections open at once; room for further ones is made by closing the slowest.

        Without a `gateway` its settings are the defaults, and nobody hears of what is refused or cut off.
        `direct` answers in place of the application what it has a target for.
        """
        self.direct = direct
        self._server = server
        self._gateway = gateway
        self._limit = limit
        self._cut, self._headers_refused = Repeats(), Repeats()
        self._loop = asyncio.get_running_loop()
        self._open: set[HttpConnection] = set()
        self.clock = self._loop.time()
        """Loop time as of the last sweep: exact enough for the deadlines of headers, and free to read."""
        self.deliveries = Deliveries(self)
        self.asked_ahead: set[HttpConnection] = set()
        """Those that sent requests before they had their answers: more than one of these may be unread."""

    def __call__(self) -> HttpConnection:
        """A protocol for one more connection."""
        return HttpConnection(self, self._server)

    def idle_deadline(self) -> float:
        """Loop time at which a connection whose answer is ready now has been idle for too long.

        Not by the last sweep: a balancer that keeps connections a little shorter must never be the later one.
        """
        return self._loop.time() + self.server.idle_seconds

    @property
    def server(self) -> ServerSettings:
        """Settings in force now."""
        return self._gateway.settings.current.server if self._gateway is not None else _DEFAULTS

    def __len__(self) -> int:
        """Connections open now."""
        return len(self._open)

    def add(self, connection: HttpConnection) -> None:
        """Count `connection`; beyond the limit those nearest to their deadline go, or it if all are busy."""
        if len(self._open) >= self._limit:
            waiting = (one for one in self._open if not one.busy)
            for slow in nsmallest(_EVICTED_AT_ONCE, waiting, key=lambda one: one.deadline):
                self._drop(slow, CutReason.TOO_MANY_CONNECTIONS)
                self.discard(slow)
        if len(self._open) < self._limit:
            self._open.add(connection)
        else:
            self._reject(RefusalReason.OVERLOADED)
            self._loop.call_soon(connection.refuse, NO_ROOM)

    def discard(self, connection: HttpConnection) -> None:
        """Count `connection` no longer."""
        self._open.discard(connection)
        self.asked_ahead.discard(connection)
        self.deliveries.forget(connection)

    def sweep(self) -> None:
        """Close what is past its deadline, and what its client closed unseen."""
        self.clock = now = self._loop.time()
        for connection in [one for one in self._open if one.busy or one.deadline < now]:
            if connection.busy:
                connection.look_for_end()
            elif connection not in self.deliveries:
                self._drop(connection, CutReason.TOO_SLOW)
        for connection in [one for one in self.asked_ahead if not one.busy]:
            self.asked_ahead.remove(connection)
            self.deliveries.watch(connection)
        self.deliveries.sweep(now)
        self._report(now)

    def cut(self, client: Client, reason: CutReason) -> None:
        """For the deliveries: close a connection in the middle of its answer."""
        assert isinstance(client, HttpConnection)
        self._drop(client, reason)

    def refuse_headers(self, path: str, request_id: str) -> web.Response:
        """What answers headers that are too long; counted."""
        self._reject(RefusalReason.HEADERS_TOO_LARGE)
        self._headers_refused.add("")
        return headers_response(path, self.server.header_limit_kib, request_id)

    def refuse_malformed(self) -> web.Response:
        """What answers bytes that are no request; counted."""
        self._reject(RefusalReason.MALFORMED)
        return plain_error(400, "Bad Request")

    @property
    def busy(self) -> int:
        """Requests under way."""
        return sum(one.busy for one in self._open)

    @property
    def unread(self) -> int:
        """Connections with an answer that its client has not taken."""
        return sum(not one.busy and self._is_unread(one) for one in self._open)

    def pending(self) -> bool:
        """True while a request is under way, or an answer not yet taken."""
        return any(one.busy or self._is_unread(one) for one in self._open)

    def _is_unread(self, connection: HttpConnection) -> bool:
        # Under TLS the last part of a large answer is in a buffer that does not count as the transport's.
        return bool(connection.unsent_bytes) or (connection in self.deliveries and connection.has_unread)

    def _drop(self, connection: HttpConnection, reason: CutReason) -> None:
        overdue = reason is not CutReason.TOO_MANY_CONNECTIONS or connection.deadline < self.clock
        if connection.drop(overdue=overdue):
            self._cut.add(reason)

    def _reject(self, reason: RefusalReason) -> None:
        if self._gateway is not None:
            self._gateway.recorder.record(Rejected(OTHER, reason))

    def _report(self, now: float) -> None:
        if self._gateway is None:
            return
        for reason, answers in self._cut.take(now).items():
            self._gateway.recorder.record(AnswersCut(CutReason(reason), answers))
        for requests in self._headers_refused.take(now).values():
            self._gateway.recorder.record(HeadersRefused(requests, self.server.header_limit_kib))
