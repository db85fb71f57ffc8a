"""`/invocations`: MLflow's scoring protocol in front of the split."""

import random
from time import perf_counter

from aiohttp import HttpVersion11, web

from router.core.ids import Alias
from router.core.labels import OTHER
from router.core.request_events import Answered, Rejected, Sampled
from router.core.routing import Reason
from router.core.traceparent import HEADER, trace_id_of
from router.errors import ModelNotConfigured, NotReady, RequestRefused
from router.protocol.messages import Answer, PredictStatus, Query, ScoringProtocol
from router.serving.dispatch import RequestResult
from router.settings import ServerSettings
from router.web.connections import caller_of
from router.web.context import GATEWAY, REQUEST_ID, WebState
from router.web.fast_response import SinglePacketResponse, fits
from router.web.request_key import hashed_if_long, read_key
from router.web.responses import (
    SERVER,
    BinaryTensors,
    BodyTimeout,
    BodyUnreadable,
    NoDirectAccess,
    TooLarge,
    answer_response,
    error_response,
)

_BINARY = "Inference-Header-Content-Length"


async def invoke(gateway: WebState, request: web.Request) -> web.StreamResponse:
    """`POST /invocations`: the first model of the configuration."""
    return await answer_request(gateway, request, next(iter(gateway.settings.current.models)), None)


async def invoke_first(request: web.Request) -> web.StreamResponse:
    """As `invoke`, found through the application."""
    return await invoke(request.app[GATEWAY], request)


async def invoke_model(request: web.Request) -> web.StreamResponse:
    """`POST /models/{name}/invocations`."""
    return await answer_request(request.app[GATEWAY], request, request.match_info["name"], None)


async def invoke_alias(request: web.Request) -> web.StreamResponse:
    """`POST /models/{name}/aliases/{alias}/invocations`: straight to one alias, where that is allowed."""
    alias = Alias(request.match_info["alias"])
    return await answer_request(request.app[GATEWAY], request, request.match_info["name"], alias)


async def expect_later(_: web.Request) -> None:
    """100 Continue is sent when the body is about to be read, and not before."""


async def answer_request(
    gateway: WebState,
    request: web.Request,
    model: str,
    direct: Alias | int | None,
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW,
) -> web.StreamResponse:
    """Answer one prediction request. `direct`: the alias, or the number of the version, that it asks for."""
    with gateway.requests:
        return await _answer(gateway, request, model, direct, protocol)


async def _answer(
    gateway: WebState,
    request: web.Request,
    model: str,
    direct: Alias | int | None,
    protocol: ScoringProtocol,
) -> web.StreamResponse:
    request_id = request[REQUEST_ID]
    caller = caller_of(request)
    try:
        settings = gateway.settings.current.models.get(model)
        if settings is None:
            raise ModelNotConfigured("no such registered model here", reason="unknown_model")
        if direct is not None and not (
            settings.direct_access and (isinstance(direct, int) or direct in settings.aliases)
        ):
            raise NoDirectAccess(
                "direct access is off for this model, or it has no such alias", reason="unknown_model"
            )
        v2 = protocol is ScoringProtocol.V2
        if v2 and _BINARY in request.headers:
            raise BinaryTensors(
                f"tensors are taken as JSON only: send no {_BINARY}, and no bytes after the JSON",
                reason="invalid_body",
            )
        body = await _read_body(gateway, request)
        read_at = perf_counter()
        media_type = None if v2 else request.headers.get("Content-Type")
        query = Query(body, media_type, settings.max_rows, protocol)
        if isinstance(direct, int):
            served = await gateway.dispatcher.serve_version(model, direct, query, caller=caller)
        elif direct is not None:
            served = await gateway.dispatcher.serve_direct(model, direct, query, caller=caller)
        else:
            async with gateway.turns.for_key_of(settings.key, body):
                key, keyed = read_key(settings.key, request, body, always_json=v2)
            gateway.traffic.count(model, keyed=keyed)
            routed_by = await hashed_if_long(settings.salt, key)
            served = await gateway.dispatcher.serve(model, routed_by, query, keyed=keyed, caller=caller)
    except RequestRefused as refused:
        # Only names of the configuration may become label values.
        known = model if model in gateway.settings.current.models else OTHER
        gateway.recorder.record(Rejected(known, refused.reason))
        refusal = error_response(refused, request_id, protocol)
        if _is_drawn(gateway):
            why, code = refused.reason, refusal.status
            gateway.tell_sampled(Sampled(request_id, known, None, None, None, why, "rejected", code, None, 0))
        return refusal
    seconds = perf_counter() - read_at
    response = _response(
        request, served, settings.model_error_status, protocol, _explanation(served, seconds)
    )
    rows = served.result.rows if isinstance(served.result, Answer) else 0
    given = served.given
    trace_id = _trace_id(request) if HEADER in request.headers else ""
    gateway.recorder.record(
        Answered(
            model,
            given.alias,
            given.version,
            served.outcome,
            response.status,
            seconds,
            rows,
            given.reason,
            given.bucket,
            served.fault,
            served.excused,
            served.mark,
            served.call,
            trace_id=trace_id,
        )
    )
    if _is_drawn(gateway):
        by, why = served.answered, _reason(served)
        names = (request_id, model, given.alias, by.alias, by.version)
        gateway.tell_sampled(Sampled(*names, why, served.outcome, response.status, seconds, rows))
    return response


def _trace_id(request: web.Request) -> str:
    sent = request.headers.getall(HEADER)
    return trace_id_of(sent[0]) if len(sent) == 1 else ""  # of two, one may be a stranger's


def _is_drawn(gateway: WebState) -> bool:
    # Drawn, not computed from the request's id: its sender must not be able to choose what is logged.
    share = gateway.settings.current.log.sample_requests
    return bool(share) and random.random() < share  # noqa: S311


def _reason(served: RequestResult) -> Reason:
    return Reason.FALLBACK if served.answered is not served.given else served.given.reason


async def _read_body(gateway: WebState, request: web.Request) -> bytes:
    server = gateway.settings.current.server
    limit = int(server.body_limit_mib * (1 << 20))
    if (request.content_length or 0) > limit:
        raise _too_large(server)  # before a byte of it is buffered
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks: list[bytes] = []
    size = 0
    try:
        if request.content.is_eof():  # it came with its headers, as small bodies do
            body = request.content.read_nowait()
            if len(body) > limit:
                raise _too_large(server)
            return body
        async with gateway.requests.reading(server.body_timeout_seconds):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise _too_large(server)
                chunks.append(chunk)
    except TimeoutError:
        if gateway.traffic.stopping:
            raise NotReady("the gateway stops", reason="not_ready") from None
        limit_seconds = server.body_timeout_seconds
        raise BodyTimeout(f"the body took longer than {limit_seconds:g} s", reason="invalid_body") from None
    except (web.HTTPException, ValueError, OSError) as error:
        raise BodyUnreadable("the body could not be read", reason="invalid_body") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(server: ServerSettings) -> TooLarge:
    return TooLarge(f"the body is over {server.body_limit_mib:g} MiB", reason="too_large")


def _response(
    request: web.Request,
    served: RequestResult,
    model_error_status: int,
    protocol: ScoringProtocol,
    explanation: dict[str, str],
) -> web.StreamResponse:
    answer, request_id = served.result, request[REQUEST_ID]
    if not isinstance(answer, Answer):
        response = error_response(answer, request_id, protocol)
    elif answer.verdict is PredictStatus.OK and fits(request, answer.body):
        signature = {"Server": SERVER, "X-Request-Id": request_id}
        headers = {"Content-Type": answer.content_type, **explanation, **signature}
        return SinglePacketResponse(headers, answer.body)
    else:
        response = answer_response(answer, request_id, model_error_status, protocol)
    response.headers.update(explanation)
    return response


def _explanation(served: RequestResult, seconds: float) -> dict[str, str]:
    """Headers that say who answered, whom the key was given, and why."""
    given, answered = served.given, served.answered
    predict = served.result.predict_seconds if isinstance(served.result, Answer) else 0.0
    headers = {
        "X-Model-Name": answered.version.model,
        "X-Model-Version": str(answered.version.number),
        "X-Model-Alias": answered.alias,
        "X-Route-Alias": given.alias,
        "X-Route-Reason": _reason(served),
    }
    if given.bucket is not None:
        headers["X-Route-Bucket"] = str(given.bucket)
    headers["Server-Timing"] = f"total;dur={seconds * 1e3:.2f}, predict;dur={predict * 1e3:.2f}"
    return headers
