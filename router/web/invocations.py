"""`/invocations`: MLflow's scoring protocol in front of the split."""

from time import perf_counter

from aiohttp import HttpVersion11, web

from router.core.ids import Alias
from router.core.request_events import Answered, Rejected
from router.core.routing import Reason
from router.core.work import Answer, Query
from router.errors import ModelNotConfigured, NotReady, RequestRefused
from router.serving.dispatch import Served
from router.web.answers import (
    BodyTimeout,
    BodyUnreadable,
    NoDirectAccess,
    TooLarge,
    answer_response,
    error_response,
)
from router.web.context import GATEWAY, REQUEST_ID, Gateway
from router.web.request_key import hashed_if_long, read_key


async def invoke_first(request: web.Request) -> web.Response:
    """`POST /invocations`: the first model of the configuration."""
    gateway = request.app[GATEWAY]
    return await _invoke(gateway, request, next(iter(gateway.settings().models)), None)


async def invoke_model(request: web.Request) -> web.Response:
    """`POST /models/{name}/invocations`."""
    return await _invoke(request.app[GATEWAY], request, request.match_info["name"], None)


async def invoke_alias(request: web.Request) -> web.Response:
    """`POST /models/{name}/aliases/{alias}/invocations`: straight to one alias, where that is allowed."""
    alias = Alias(request.match_info["alias"])
    return await _invoke(request.app[GATEWAY], request, request.match_info["name"], alias)


async def expect_later(_: web.Request) -> None:
    """100 Continue is sent when the body is about to be read, and not before."""


async def _invoke(gateway: Gateway, request: web.Request, model: str, direct: Alias | None) -> web.Response:
    with gateway.requests.counted():
        return await _answer(gateway, request, model, direct)


async def _answer(gateway: Gateway, request: web.Request, model: str, direct: Alias | None) -> web.Response:
    request_id = request[REQUEST_ID]
    try:
        settings = gateway.settings().models.get(model)
        if settings is None:
            raise ModelNotConfigured("no such registered model here", reason="unknown_model")
        if direct is not None and not (settings.direct_access and direct in settings.aliases):
            raise NoDirectAccess(
                "direct access is off for this model, or it has no such alias", reason="unknown_model"
            )
        body = await _read_body(gateway, request)
        read_at = perf_counter()
        query = Query(body, request.headers.get("Content-Type"))
        if direct is not None:
            served = await gateway.dispatcher.serve_direct(model, direct, query)
        else:
            async with gateway.turns.for_key_of(settings.key, body):
                key, keyed = read_key(settings.key, request, body)
            gateway.received[model] = gateway.received.get(model, 0) + 1
            if not keyed:
                gateway.keyless[model] = gateway.keyless.get(model, 0) + 1
            routed_by = await hashed_if_long(settings.salt, key)
            served = await gateway.dispatcher.serve(model, routed_by, query, keyed=keyed)
    except RequestRefused as refused:
        # Only names of the configuration may become label values.
        known = model if model in gateway.settings().models else "__other__"
        gateway.recorder.record(Rejected(known, refused.reason))
        return error_response(refused, request_id)
    seconds = perf_counter() - read_at
    response = _response(served, request_id, settings.model_error_status)
    _explain(response, served, seconds)
    rows = served.result.rows if isinstance(served.result, Answer) else 0
    given = served.given
    gateway.recorder.record(
        Answered(model, given.alias, given.version, served.outcome, response.status, seconds, rows)
    )
    return response


async def _read_body(gateway: Gateway, request: web.Request) -> bytes:
    server = gateway.settings().server
    limit = int(server.body_limit_mib * (1 << 20))
    too_large = TooLarge(f"the body is over {server.body_limit_mib:g} MiB", reason="too_large")
    if (request.content_length or 0) > limit:
        raise too_large  # before a byte of it is buffered
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks: list[bytes] = []
    size = 0
    try:
        async with gateway.requests.reading(server.body_timeout_seconds):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        if gateway.stopping:
            raise NotReady("the gateway stops", reason="not_ready") from None
        limit_seconds = server.body_timeout_seconds
        raise BodyTimeout(f"the body took longer than {limit_seconds:g} s", reason="invalid_body") from None
    except (web.HTTPException, ValueError, OSError) as error:
        raise BodyUnreadable("the body could not be read", reason="invalid_body") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _response(served: Served, request_id: str, model_error_status: int) -> web.Response:
    if isinstance(served.result, Answer):
        return answer_response(served.result, request_id, model_error_status)
    return error_response(served.result, request_id)


def _explain(response: web.Response, served: Served, seconds: float) -> None:
    """Say who answered, whom the key was given, and why."""
    given, answered = served.given, served.answered
    headers = response.headers
    headers["X-Model-Name"] = answered.version.model
    headers["X-Model-Version"] = str(answered.version.number)
    headers["X-Model-Alias"] = answered.alias
    headers["X-Route-Alias"] = given.alias
    headers["X-Route-Reason"] = Reason.FALLBACK if answered is not given else given.reason
    if given.bucket is not None:
        headers["X-Route-Bucket"] = str(given.bucket)
    predict = served.result.predict_seconds if isinstance(served.result, Answer) else 0.0
    headers["Server-Timing"] = f"total;dur={seconds * 1e3:.2f}, predict;dur={predict * 1e3:.2f}"
