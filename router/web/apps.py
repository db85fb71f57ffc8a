"""The two listeners: traffic, and admin."""

import logging
import re
import secrets
from collections.abc import Callable

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from router.web import admin, invocations, observe
from router.web.answers import SERVER, internal_error, plain_error
from router.web.auth import guard
from router.web.connections import OTHER_VERSION, Connection
from router.web.context import GATEWAY, REQUEST_ID, Gateway
from router.web.unquoted import unquoted

_log = logging.getLogger(__name__)

_VERSIONS = (HttpVersion10, HttpVersion11)
_GOOD_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def traffic_app(gateway: Gateway, *, observable: bool) -> web.Application:
    """The product's listener. `observable` adds metrics, state and explanations."""
    app = _app(gateway)
    for path, handler in (
        ("/invocations", invocations.invoke_first),
        ("/models/{name}/invocations", invocations.invoke_model),
        ("/models/{name}/aliases/{alias}/invocations", invocations.invoke_alias),
    ):
        # Whoever waits for 100 Continue hears 413 or 404 before the body is sent.
        app.router.add_post(path, handler, expect_handler=invocations.expect_later)
    _add_health(app)
    if observable:
        _add_observation(app)
    return app


def admin_app(gateway: Gateway, read_token: Callable[[], bytes] | None = None) -> web.Application:
    """The operators' listener; `read_token` as in `guard`."""
    app = _app(gateway, guard(read_token))
    app.router.add_post("/-/reload", admin.reload)
    _add_health(app)
    _add_observation(app)
    return app


def _app(gateway: Gateway, *guards: Middleware) -> web.Application:
    # The body limit is ours (`invocations`), because it changes with a reload; aiohttp's is off.
    app = web.Application(middlewares=[_identify, *guards], client_max_size=0)
    app[GATEWAY] = gateway
    app.on_response_prepare.append(_sign)
    return app


def _add_health(app: web.Application) -> None:
    app.router.add_get("/ping", observe.ping)
    app.router.add_get("/health", observe.ping)
    app.router.add_get("/version", observe.version)
    app.router.add_get("/livez", observe.livez)
    app.router.add_get("/readyz", observe.readyz)


def _add_observation(app: web.Application) -> None:
    app.router.add_get("/metrics", observe.metrics)
    app.router.add_get("/v1/state", observe.state)
    app.router.add_get("/v1/route", observe.route)


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name every request, and tell its connection when it begins and when its answer is ready."""
    connection = request.protocol if isinstance(request.protocol, Connection) else None
    if connection is not None:
        connection.began()
        if request.version not in _VERSIONS:
            # The library would answer in the version that was asked for, and there is none to answer in.
            connection.refuse(OTHER_VERSION)
    sent = request.headers.get("X-Request-Id", "")
    request_id = sent if _GOOD_REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    request[REQUEST_ID] = request_id
    try:
        response = await _answered(request, handler)
    finally:
        if connection is not None:
            connection.answered()
    if request.app[GATEWAY].stopping or not _may_go_on(request):
        response.force_close()
    return response


def _well_framed(request: web.Request) -> bool:
    """False for what others may see another end of: chunks in HTTP/1.0, codings on top of chunks."""
    codings = request.headers.getall("Transfer-Encoding", ())
    if not codings:
        return request.version in _VERSIONS
    return request.version == HttpVersion11 and [coding.strip().lower() for coding in codings] == ["chunked"]


def _may_go_on(request: web.Request) -> bool:
    """True when what comes next on this connection is certainly the next request.

    Not after a body that was not read to its end, nor where the client speaks of leaving HTTP/1.1.
    """
    leaves = request.method == "CONNECT" or "Upgrade" in request.headers
    return _well_framed(request) and not leaves and request.content.is_eof()


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER
    response.headers["X-Request-Id"] = request.get(REQUEST_ID) or secrets.token_hex(8)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _well_framed(request):
        return plain_error(400, "Bad Request")
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        return plain_error(405, "Method Not Allowed", {"Allow": refused.headers["Allow"]})
    except web.HTTPNotFound:
        return await _elsewhere(request) or plain_error(404, "Not Found")
    except web.HTTPException as refused:
        return plain_error(refused.status, refused.reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is owed an answer
        # The last line of defence: a bug of ours must not drop the connection.
        _log.error("request %s failed: %s", request[REQUEST_ID], unquoted(error))
        return internal_error(request[REQUEST_ID])


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
