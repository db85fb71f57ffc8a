"""The two listeners: traffic, and admin."""

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from router.core.events import Rejected
from router.core.outcomes import RefusalReason
from router.core.scores import OTHER
from router.protocol.messages import ScoringProtocol
from router.web import admin, invocations, levers, observe, page
from router.web import v2 as inference
from router.web.admin import AdminToken, guard
from router.web.connections import DIRECT_PATH, OTHER_VERSION, HttpConnection
from router.web.context import GATEWAY, REQUEST_ID, WebState
from router.web.direct_path import DirectPath
from router.web.incoming import choose_request_id
from router.web.responses import inference_error, internal_error, plain_error, protocol_of, sign

_VERSIONS = (HttpVersion10, HttpVersion11)


def traffic_app(gateway: WebState, *, observable: bool) -> web.Application:
    """The product's listener. `observable` adds metrics, state and explanations."""
    app = _app(gateway)
    for path, handler in (
        ("/invocations", invocations.invoke),
        ("/models/{name:[^/]+}/invocations", invocations.invoke_model),
        ("/models/{name:[^/]+}/aliases/{alias}/invocations", invocations.invoke_alias),
        ("/v2/models/{name:[^/]+}/infer", inference.infer),
        ("/v2/models/{name:[^/]+}/versions/{version}/infer", inference.infer),
    ):
        # Whoever waits for 100 Continue hears 413 or 404 before the body is sent.
        app.router.add_post(path, handler, expect_handler=invocations.expect_later)
    app[DIRECT_PATH] = DirectPath(gateway)
    _add_inference(app)
    _add_health(app)
    if observable:
        _add_observation(app)
    return app


def admin_app(
    gateway: WebState, token: AdminToken | None = None, lower: AdminToken | None = None
) -> web.Application:
    """The operators' listener; without a `token` its verbs are for programs on this machine.

    The token `lower` opens those that only lower.
    """
    app = _app(gateway, guard(token, lower))
    app.router.add_post("/-/reload", admin.reload)
    app.router.add_post("/-/abort", levers.abort)
    app.router.add_post("/-/resume", levers.resume)
    app.router.add_post("/-/poll", levers.poll)
    app.router.add_post("/-/alertmanager", levers.alertmanager)
    app.router.add_post("/-/models/{name:[^/]+}/reset-breakers", admin.reset_breakers)
    _add_health(app)
    _add_observation(app, operators=True)
    return app


def _app(gateway: WebState, *guards: Middleware) -> web.Application:
    # The body limit is ours (`invocations`), because it changes with a reload; aiohttp's is off.
    app = web.Application(middlewares=[_identify, *guards], client_max_size=0)
    app[GATEWAY] = gateway
    return app


def _add_inference(app: web.Application) -> None:
    for path, handler in (
        ("/v2", inference.server),
        ("/v2/health/live", inference.live),
        ("/v2/health/ready", inference.ready),
        ("/v2/models/{name:[^/]+}", inference.model),
        ("/v2/models/{name:[^/]+}/versions/{version}", inference.model),
        ("/v2/models/{name:[^/]+}/ready", inference.model_ready),
        ("/v2/models/{name:[^/]+}/versions/{version}/ready", inference.model_ready),
    ):
        app.router.add_get(path, handler)


def _add_health(app: web.Application) -> None:
    app.router.add_get("/ping", observe.ping)
    app.router.add_get("/health", observe.ping)
    app.router.add_get("/version", observe.version)
    app.router.add_get("/livez", observe.livez)
    app.router.add_get("/readyz", observe.readyz)


def _add_observation(app: web.Application, *, operators: bool = False) -> None:
    """With `operators` as on their listener: the page has levers, and caps are shown as peers read them."""
    page.live_page(levers=operators)  # not in the first request: what can not be joined ends the start
    app.router.add_get("/", page.show_with_levers if operators else page.show)
    app.router.add_get("/metrics", observe.metrics)
    app.router.add_get("/v1/state", observe.state)
    app.router.add_get("/v1/compare", observe.compare)
    app.router.add_get("/v1/route", observe.route)
    app.router.add_get("/v1/plan", observe.plan)
    app.router.add_get("/v1/caps", levers.caps if operators else levers.caps_to_show)


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every request of the application."""
    return await _identified(request.app[GATEWAY], request, handler)


async def _identified(gateway: WebState, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request its id, and let its connection know when it begins and when its answer is ready."""
    connection = request.protocol if isinstance(request.protocol, HttpConnection) else None
    if connection is not None:
        connection.began()
        if request.version not in _VERSIONS:
            # The library would answer in the version that was asked for, and there is none to answer in.
            connection.refuse(OTHER_VERSION)
    request_id = request[REQUEST_ID] = choose_request_id(request.headers.get("X-Request-Id", ""))
    well_framed = _is_well_framed(request)
    try:
        response = await _answered(request, handler) if well_framed else _misframed(gateway, request)
    finally:
        if connection is not None:
            connection.answered()
    # What comes next on this connection is certainly the next request only where the body was read to its
    # end, and where the client does not speak of leaving HTTP/1.1.
    leaves = request.method == "CONNECT" or "Upgrade" in request.headers
    if gateway.traffic.stopping or not well_framed or leaves or not request.content.is_eof():
        response.force_close()
    sign(response, request_id)
    return response


def _misframed(gateway: WebState, request: web.Request) -> web.Response:
    gateway.recorder.record(Rejected(OTHER, RefusalReason.MALFORMED))
    return _error(request, 400, "Bad Request")


def _is_well_framed(request: web.Request) -> bool:
    """False for what others may see another end of: chunks in HTTP/1.0, codings on top of chunks."""
    codings = request.headers.getall("Transfer-Encoding", ())
    if not codings:
        return request.version in _VERSIONS
    return request.version == HttpVersion11 and [coding.strip().lower() for coding in codings] == ["chunked"]


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        return _error(request, 405, "Method Not Allowed", {"Allow": refused.headers["Allow"]})
    except web.HTTPNotFound:
        return await _elsewhere(request) or _error(request, 404, "Not Found")
    except web.HTTPException as refused:
        return _error(request, refused.status, refused.reason)
    except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is owed an answer
        # The last line of defence: a bug of ours must not drop the connection.
        return internal_error(failure, request[REQUEST_ID], protocol_of(request.rel_url.raw_path))


def _error(
    request: web.Request, status: int, reason: str, headers: dict[str, str] | None = None
) -> web.Response:
    protocol = protocol_of(request.rel_url.raw_path)
    error = inference_error if protocol is ScoringProtocol.V2 else plain_error
    return error(status, reason, headers)


async def _elsewhere(request: web.Request) -> web.Response | None:
    """307 when the path without its last slash is one of ours, as `mlflow models serve` answers."""
    path = request.rel_url.raw_path
    if len(path) < 2 or not path.endswith("/"):
        return None
    shorter = request.rel_url.with_path(path[:-1], encoded=True, keep_query=True)
    match = await request.app.router.resolve(request.clone(rel_url=shorter))
    if isinstance(match.http_exception, web.HTTPNotFound):
        return None
    return web.Response(status=307, headers={"Location": str(shorter)})
