"""HTTP status codes, bodies and headers of answers: decided here and nowhere else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from math import ceil
from typing import Any

import orjson
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from router.core.ids import Alias
from router.core.routing import Reason
from router.errors import (
    BinaryTensors,
    BodyTimeout,
    BodyUnreadable,
    CallerGone,
    ConfigRefused,
    DeadlineExceeded,
    HeadersTooLarge,
    KeyMissing,
    ModelNotConfigured,
    NoDirectAccess,
    NotReady,
    Overloaded,
    RequestRefused,
    TooLarge,
    VersionNotServed,
    VersionUnloaded,
    WorkerDied,
)
from router.protocol.messages import Answer, PredictStatus, ScoringProtocol
from router.serving.dispatch import RequestResult
from router.web.incoming import IncomingRequest
from router.web.safe_traceback import safe_traceback

_log = logging.getLogger(__name__)

SERVER = "canary-router"
"""The Server header of every answer: neither a version nor a library."""
LEAST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1, 300

# MLflow's error codes with the SQL state and class its own exceptions carry (3.17).
_BAD_REQUEST = ("BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE")
_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "XXM00", "CLIENT_INTERNAL_ERROR")
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "KAM00", "RESOURCE_NOT_FOUND")
_DEADLINE = ("DEADLINE_EXCEEDED", "XXM00", "CLIENT_INTERNAL_ERROR")
_INTERNAL = ("INTERNAL_ERROR", "XXM00", "CLIENT_INTERNAL_ERROR")

_BY_ERROR: dict[type[RequestRefused], tuple[int, tuple[str, str, str]]] = {
    KeyMissing: (400, _BAD_REQUEST),
    BinaryTensors: (400, _BAD_REQUEST),
    BodyUnreadable: (400, _BAD_REQUEST),
    NoDirectAccess: (404, _NOT_FOUND),
    ModelNotConfigured: (404, _NOT_FOUND),
    VersionNotServed: (404, _NOT_FOUND),
    BodyTimeout: (408, _BAD_REQUEST),
    TooLarge: (413, _BAD_REQUEST),
    HeadersTooLarge: (431, _BAD_REQUEST),
    NotReady: (503, _UNAVAILABLE),
    Overloaded: (503, _UNAVAILABLE),
    WorkerDied: (503, _UNAVAILABLE),
    VersionUnloaded: (503, _UNAVAILABLE),
    DeadlineExceeded: (504, _DEADLINE),
    CallerGone: (499, _BAD_REQUEST),  # for metrics and the log: there is nobody to read it
}

MEDIA_TYPE = "application/json"
MOST_BYTES = 1 << 16
"""A longer body is better not copied, and its client may be slow: the library waits for it."""
_GO_ON, _CLOSE = b"\r\n", b"Connection: close\r\n\r\n"
_OK = PredictStatus.OK
"""Under a name of its own: an enumeration looks its members up, and every request asks."""


def error_response(
    error: RequestRefused, request_id: str, protocol: ScoringProtocol = ScoringProtocol.MLFLOW
) -> web.Response:
    """The answer to a request that no version answered, in the shape of its protocol."""
    status, (code, state, class_) = _BY_ERROR.get(type(error), (500, _INTERNAL))
    if protocol is ScoringProtocol.V2:
        response = inference_error(status, str(error))
    else:
        response = mlflow_error(status, code, state, class_, str(error), request_id)
    if status == 503:
        response.headers["Retry-After"] = retry_after(error.retry_after)
    return response


def retry_after(seconds: float | None) -> str:
    """The header's value: whole seconds from 1 to 300; 1 where nothing is known."""
    return str(min(max(ceil(seconds or 0.0), LEAST_RETRY_SECONDS), MOST_RETRY_SECONDS))


def internal_error(failure: Exception, request_id: str, protocol: ScoringProtocol) -> web.Response:
    """The answer when our own code failed; what happened goes to the log."""
    _log.error("request %s failed: %s", request_id, safe_traceback(failure))
    message = "the gateway failed to answer; see its log"
    if protocol is ScoringProtocol.V2:
        return inference_error(500, message)
    return mlflow_error(500, *_INTERNAL, message, request_id)


def inference_error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error in the shape of the Open Inference Protocol."""
    body = orjson.dumps({"error": message})
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers=headers)


def mlflow_error(
    status: int, code: str, state: str, class_: str, message: str, request_id: str
) -> web.Response:
    """An error in MLflow's shape, with the request's id."""
    body = {
        "error_code": code,
        "message": message,
        "sqlstate": state,
        "error_class": class_,
        "request_id": request_id,
    }
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE)


def answer_response(
    answer: Answer,
    request_id: str,
    model_error_status: int,
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW,
) -> web.Response:
    """A version's own answer as HTTP. `model_error_status` is of MLflow's protocol; the other has 500."""
    if answer.predict_status is _OK:
        return web.Response(body=answer.body, headers={"Content-Type": answer.content_type})
    if protocol is ScoringProtocol.V2 or answer.as_is:
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )
    status, body = answer.status, answer.body
    if answer.content_type == MEDIA_TYPE:
        error = orjson.loads(body)
        if answer.predict_status is PredictStatus.MODEL_ERROR and status == 500 and not answer.keeps_status:
            # MLflow answers 400 when a model raises; a team may need that while it migrates.
            status = model_error_status
            if status == 400:
                error["error_code"], error["sqlstate"], error["error_class"] = _BAD_REQUEST
        body = orjson.dumps({**error, "request_id": request_id})
    return web.Response(status=status, body=body, headers={"Content-Type": answer.content_type})


def result_response(
    request: IncomingRequest,
    result: RequestResult,
    seconds: float,
    model_error_status: int,
    protocol: ScoringProtocol,
) -> web.StreamResponse:
    """The answer to a request that a version was chosen for, `seconds` after it was read.

    Its headers name who answered, whom the key was given, and why.
    """
    given, by, answer, request_id = result.assigned, result.answered_by, result.result, request.request_id
    route = by.version.model, by.version.number, by.alias, given.alias, result.reason
    predict_seconds = answer.predict_seconds if isinstance(answer, Answer) else 0.0
    timing = f"total;dur={seconds * 1e3:.2f}, predict;dur={predict_seconds * 1e3:.2f}"
    if not isinstance(answer, Answer):
        response = error_response(answer, request_id, protocol)
    elif answer.predict_status is _OK and len(answer.body) <= MOST_BYTES and request.is_http11:
        bucket = "" if given.bucket is None else f"X-Route-Bucket: {given.bucket}\r\n"
        lines = (
            f"{_route_lines(answer.content_type, *route)}{bucket}"
            f"Server-Timing: {timing}\r\nServer: {SERVER}\r\nX-Request-Id: {request_id}\r\n"
        )
        return SinglePacketResponse(lines, answer.body)
    else:
        response = answer_response(answer, request_id, model_error_status, protocol)
    response.headers.update(_route_headers(*route))
    if given.bucket is not None:
        response.headers["X-Route-Bucket"] = str(given.bucket)
    response.headers["Server-Timing"] = timing
    return response


def _route_headers(model: str, version: int, alias: Alias, given: Alias, reason: Reason) -> dict[str, str]:
    """Who answered, whom the key was given, and why."""
    return {
        "X-Model-Name": model,
        "X-Model-Version": str(version),
        "X-Model-Alias": alias,
        "X-Route-Alias": given,
        "X-Route-Reason": reason,
    }


@lru_cache(maxsize=1024)
def _route_lines(
    content_type: str, model: str, version: int, alias: Alias, given: Alias, reason: Reason
) -> str:
    """The same as it is written, which few answers have each for themselves."""
    return _lines({"Content-Type": content_type, **_route_headers(model, version, alias, given, reason)})


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def headers_response(path: str, limit_kib: int, request_id: str) -> web.Response:
    """431, in the shape of what was asked for at `path`."""
    error = HeadersTooLarge(f"the request line and headers are over {limit_kib} KiB, or there are too many")
    bare = path.partition("?")[0]
    protocol = protocol_of(bare)
    if protocol is ScoringProtocol.V2 or bare.endswith("/invocations"):
        return error_response(error, request_id, protocol)
    return plain_error(431, str(error))


def protocol_of(path: str) -> ScoringProtocol:
    """Whose errors a path without its query answers with, also where nothing is."""
    return ScoringProtocol.V2 if path == "/v2" or path.startswith("/v2/") else ScoringProtocol.MLFLOW


def plain_error(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """404, 405 and the like for paths, as `mlflow models serve` answers them."""
    body = orjson.dumps({"detail": detail})
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers=headers)


def config_refused(error: ConfigRefused) -> web.Response:
    """422 with every problem."""
    return document({"errors": error.problems}, status=422)


def document(body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON document for people and programs on call."""
    data = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=data, content_type=MEDIA_TYPE)


class SinglePacketResponse(web.StreamResponse):
    """200 with a small body, written at once: the library's own way costs as much as routing the request.

    Of a response, aiohttp asks for no more than what is here.
    """

    _status, _status_line = 200, "HTTP/1.1 200 OK"

    def __init__(self, lines: str, body: bytes) -> None:
        """`lines`: its headers as they are written, but for those that any answer has."""
        # Not the library's: it makes a dictionary of headers, to be written again in `prepare`.
        self._lines = lines
        self._whole_body = body
        self._request: web.BaseRequest | None = None
        self._closes = False

    @property
    def status(self) -> int:
        """200, but in a `FinalResponse`."""
        return self._status

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on after it."""
        return not self._closes

    def force_close(self) -> None:
        """Close the connection after it."""
        self._closes = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Remember who asked."""
        self._request = request
        if not request.keep_alive:
            self._closes = True

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all of it. Raises ConnectionResetError when the client is gone."""
        transport = self._request.transport if self._request is not None else None
        self.send(transport)
        if self._request is not None and transport is not None and has_too_much(transport):
            await self._request.writer.drain()

    def send(self, transport: asyncio.Transport | asyncio.WriteTransport | None) -> None:
        """Write all of it at once. Raises ConnectionResetError when the client is gone."""
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        start = (
            f"{self._status_line}\r\n{self._lines}Content-Length: {len(self._whole_body)}\r\n"
            f"Date: {rfc822_formatted_time()}\r\n"
        )
        end = _CLOSE if self._closes else _GO_ON
        transport.write(b"".join((start.encode(), end, self._whole_body)))


class FinalResponse(SinglePacketResponse):
    """The answer to what could not be read to its end; the connection is closed after it."""

    def __init__(self, response: web.Response, linger: Callable[[], Awaitable[None]]) -> None:
        """`response`: what it says. `linger` waits until its client may have read it."""
        body = response.body
        assert isinstance(body, bytes)  # an error's document
        super().__init__(_lines(response.headers), body)
        self._status = response.status
        # In the version that is spoken here: that of the request is perhaps not known.
        self._status_line = f"HTTP/1.1 {response.status} {response.reason}"
        self._closes = True
        self._linger = linger

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all of it, and wait. Raises ConnectionResetError when the client is gone."""
        await super().write_eof()
        await self._linger()


def has_too_much(transport: asyncio.WriteTransport) -> bool:
    """Whether a client left so much unread that its next request has to wait."""
    return transport.get_write_buffer_size() > MOST_BYTES


def sign(response: web.StreamResponse, request_id: str) -> None:
    """Say who answers, and which request."""
    if not isinstance(response, SinglePacketResponse):  # which is signed as it is made
        response.headers["Server"] = SERVER
        response.headers["X-Request-Id"] = request_id
