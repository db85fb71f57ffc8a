"""A prediction request from its headers to its answer: MLflow's `/invocations`, and V2's `infer`."""

import asyncio
import random
import re
from collections.abc import Awaitable
from time import perf_counter

from aiohttp import HttpVersion11, web

from router.core.events import Rejected, RequestSample
from router.core.ids import Alias
from router.core.outcomes import RefusalReason
from router.core.scores import OTHER
from router.core.split import Hashed, Key, bucket_of
from router.core.traits import TraitsWanted
from router.errors import (
    BinaryTensors,
    BodyTimeout,
    BodyUnreadable,
    ModelNotConfigured,
    NoDirectAccess,
    NotReady,
    RequestRefused,
    TooLarge,
)
from router.protocol.messages import Query, ScoringProtocol
from router.serving.dispatch import RequestResult
from router.settings import ModelSettings, ServerSettings, Settings
from router.web.connections import caller_of
from router.web.context import GATEWAY, REQUEST_ID, WebState
from router.web.incoming import IncomingRequest
from router.web.request_key import LONG_BYTES, MANY_BYTES, read_key
from router.web.responses import error_response, internal_error, result_response

_MLFLOW, _V2 = ScoringProtocol.MLFLOW, ScoringProtocol.V2
"""Under names of their own: an enumeration looks its members up, and these are asked for by every request."""
_NO_TRAITS = TraitsWanted.NEVER
_BINARY = "Inference-Header-Content-Length"

# The trace a request belongs to, by W3C Trace Context.
_TRACE_HEADER = "traceparent"
_VERSION_0 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_LATER = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]*)?", re.ASCII)
_LONGEST_TRACE = 512
"""Characters; a version that is yet to come may add some, and nobody needs more."""
_KEPT = 1
"""The flag `sampled`."""


async def invoke(request: web.Request) -> web.StreamResponse:
    """`POST /invocations`: the first model of the configuration."""
    gateway = request.app[GATEWAY]
    return await answer_request(gateway, incoming(request), gateway.first_model, None)


async def invoke_model(request: web.Request) -> web.StreamResponse:
    """`POST /models/{name}/invocations`."""
    return await answer_request(request.app[GATEWAY], incoming(request), request.match_info["name"], None)


async def invoke_alias(request: web.Request) -> web.StreamResponse:
    """`POST /models/{name}/aliases/{alias}/invocations`: straight to one alias, where that is allowed."""
    alias = Alias(request.match_info["alias"])
    return await answer_request(request.app[GATEWAY], incoming(request), request.match_info["name"], alias)


def incoming(request: web.Request) -> IncomingRequest:
    """What answering needs of a request that the library has read."""
    waits = request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11
    return IncomingRequest(
        request.headers,
        request.content,
        request[REQUEST_ID],
        caller_of(request),
        query=request.query,
        is_http11=request.version == HttpVersion11,
        writer=request.writer if waits else None,
    )


async def expect_later(_: web.Request) -> None:
    """100 Continue is sent when the body is about to be read, and not before."""


async def answer_request(
    gateway: WebState,
    request: IncomingRequest,
    model: str,
    direct: Alias | int | None,
    protocol: ScoringProtocol = _MLFLOW,
) -> web.StreamResponse:
    """Answer one prediction request; never raises.

    `direct`: the alias, or the number of the version, that it asks for.
    """
    with gateway.requests:
        try:
            try:
                in_force = gateway.settings.current
                settings = _allowed(in_force, request, model, direct, protocol)
                # What is there already is not awaited: a coroutine costs as much as three such lines.
                payload = request.payload
                is_whole = payload.is_eof() and request.writer is None
                body = payload.read_nowait() if is_whole else await _read_body(gateway, request)
                if len(body) > in_force.server.body_limit_bytes:
                    raise _too_large(in_force.server)
                read_at = perf_counter()
                result = await _predict(gateway, request, settings, model, direct, protocol, body)
            except RequestRefused as refused:
                return _refuse(gateway, request, model, protocol, refused)
            seconds = perf_counter() - read_at
            response = result_response(request, result, seconds, settings.model_error_status, protocol)
            trace_id = _trace_id(request) if _TRACE_HEADER in request.headers else ""
            gateway.recorder.record_answer(result.fact(response.status, seconds, trace_id))
            if _sampled(gateway):
                gateway.log_sample(_sample(request.request_id, result, response.status, seconds))
            return response
        except Exception as failure:  # noqa: BLE001 - a bug of ours must not drop the connection
            gateway.recorder.record(Rejected(_known(gateway, model), RefusalReason.INTERNAL))
            return internal_error(failure, request.request_id, protocol)


def _allowed(
    in_force: Settings,
    request: IncomingRequest,
    model: str,
    direct: Alias | int | None,
    protocol: ScoringProtocol,
) -> ModelSettings:
    """Settings of the model, once nothing in the path or the headers speaks against the request."""
    settings = in_force.models.get(model)
    if settings is None:
        raise ModelNotConfigured("no such registered model here")
    if direct is not None and not (
        settings.direct_access and (isinstance(direct, int) or direct in settings.aliases)
    ):
        raise NoDirectAccess("direct access is off for this model, or it has no such alias")
    if protocol is _V2 and _BINARY in request.headers:
        raise BinaryTensors(f"tensors are taken as JSON only: send no {_BINARY}, and no bytes after the JSON")
    return settings


async def _read_body(gateway: WebState, request: IncomingRequest) -> bytes:
    """A body that does not come with its head.

    Raises TooLarge, Overloaded, NotReady, BodyTimeout or BodyUnreadable.
    """
    server = gateway.settings.current.server
    limit = server.body_limit_bytes
    if request.content_length > limit:
        raise _too_large(server)  # before a byte more of it is buffered
    try:
        if request.writer is not None:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with gateway.requests.reading(server.body_timeout_seconds):
            body = await gateway.bodies.read(request.payload, limit)
    except TimeoutError:
        if gateway.traffic.stopping:
            raise NotReady("the gateway stops") from None
        raise BodyTimeout(f"the body took longer than {server.body_timeout_seconds:g} s") from None
    except (web.HTTPException, ValueError, OSError) as error:
        raise BodyUnreadable("the body could not be read") from error
    if body is None:
        raise _too_large(server)
    return body


def _too_large(server: ServerSettings) -> TooLarge:
    return TooLarge(f"the body is over {server.body_limit_mib:g} MiB")


def _predict(
    gateway: WebState,
    request: IncomingRequest,
    settings: ModelSettings,
    model: str,
    direct: Alias | int | None,
    protocol: ScoringProtocol,
    body: bytes,
) -> Awaitable[RequestResult]:
    """Let the version answer that is asked for, or the one that the request's key is given to."""
    v2 = protocol is _V2
    content_type = None if v2 else request.headers.get("Content-Type")
    query = Query(body, content_type, settings.max_rows, protocol, _NO_TRAITS, request.request_id)
    if isinstance(direct, int):
        return gateway.dispatcher.serve_version(model, direct, query, caller=request.caller)
    if direct is not None:
        return gateway.dispatcher.serve_direct(model, direct, query, caller=request.caller)
    if len(body) > MANY_BYTES:
        return _predict_long(gateway, request, settings, model, query)
    key, keyed = read_key(settings.key, request, body, always_json=v2)
    gateway.traffic.count(model, keyed=keyed)
    return gateway.dispatcher.serve(model, key, query, keyed=keyed, caller=request.caller)


async def _predict_long(
    gateway: WebState, request: IncomingRequest, settings: ModelSettings, model: str, query: Query
) -> RequestResult:
    """As `_predict`, with a body that takes long to be searched for its key, or to be hashed."""
    key: Key | None
    async with gateway.key_parse_lock.for_key_of(settings.key, query.body):
        key, keyed = read_key(settings.key, request, query.body, always_json=query.protocol is _V2)
    gateway.traffic.count(model, keyed=keyed)
    if isinstance(key, bytes) and len(key) > LONG_BYTES:
        key = Hashed(key, settings.salt, await asyncio.to_thread(bucket_of, settings.salt, key))
    return await gateway.dispatcher.serve(model, key, query, keyed=keyed, caller=request.caller)


def _refuse(
    gateway: WebState,
    request: IncomingRequest,
    model: str,
    protocol: ScoringProtocol,
    refused: RequestRefused,
) -> web.Response:
    """Count, and answer, what reached no version."""
    known = _known(gateway, model)
    gateway.recorder.record(Rejected(known, refused.reason))
    request_id = request.request_id
    response = error_response(refused, request_id, protocol)
    if _sampled(gateway):
        why, code = refused.reason, response.status
        sample = RequestSample(request_id, known, None, None, None, why, "rejected", code, None, 0)
        gateway.log_sample(sample)
    return response


def _known(gateway: WebState, model: str) -> str:
    """The model as a label's value: only names of the configuration may become one."""
    return model if model in gateway.settings.current.models else OTHER


def _sampled(gateway: WebState) -> bool:
    # Drawn, not computed from the request's id: its sender must not be able to choose what is logged.
    share = gateway.settings.current.log.sample_requests
    return bool(share) and random.random() < share  # noqa: S311


def _sample(request_id: str, result: RequestResult, code: int, seconds: float) -> RequestSample:
    by = result.answered_by
    return RequestSample(
        request_id,
        by.version.model,
        result.assigned.alias,
        by.alias,
        by.version,
        result.reason,
        result.outcome,
        code,
        seconds,
        result.rows,
    )


def _trace_id(request: IncomingRequest) -> str:
    sent = request.headers.getall(_TRACE_HEADER)
    return trace_id_of(sent[0]) if len(sent) == 1 else ""  # of two, one may be a stranger's


def trace_id_of(sent: str) -> str:
    """The trace id, 32 hexadecimal digits, or nothing.

    Nothing for a header that is not as W3C Trace Context says to the letter, and for a trace that its caller
    does not keep (the flag `sampled` is not set): whoever followed it would find nothing.
    """
    if len(sent) > _LONGEST_TRACE:
        return ""
    found = _VERSION_0.fullmatch(sent) if sent.startswith("00") else _LATER.fullmatch(sent)
    if found is None:
        return ""
    trace_id, parent_id, flags = found.groups()
    if not int(flags, 16) & _KEPT or not trace_id.strip("0") or not parent_id.strip("0"):
        return ""
    return trace_id
