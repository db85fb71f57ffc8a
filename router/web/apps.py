"""The two listeners: traffic, and admin."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from router.web import admin, invocations, observe
from router.web.answers import internal_error, plain_error
from router.web.context import GATEWAY, REQUEST_ID, Gateway

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_GOOD_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def traffic_app(gateway: Gateway, *, observable: bool) -> web.Application:
    """The product's listener. `observable` adds metrics, state and explanations."""
    app = _app(gateway)
    app.router.add_post("/invocations", invocations.invoke_first)
    app.router.add_post("/models/{name}/invocations", invocations.invoke_model)
    app.router.add_post("/models/{name}/aliases/{alias}/invocations", invocations.invoke_alias)
    _add_health(app)
    if observable:
        _add_observation(app)
    return app


def admin_app(gateway: Gateway) -> web.Application:
    """The operators' listener."""
    app = _app(gateway)
    app.router.add_post("/-/reload", admin.reload)
    _add_health(app)
    _add_observation(app)
    return app


def _app(gateway: Gateway) -> web.Application:
    # The body limit is ours (`invocations`), because it changes with a reload; aiohttp's is off.
    app = web.Application(middlewares=[_identify], client_max_size=0)
    app[GATEWAY] = gateway
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
    """Name every request, and sign every answer."""
    gateway = request.app[GATEWAY]
    sent = request.headers.get("X-Request-Id", "")
    request_id = sent if _GOOD_REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    request[REQUEST_ID] = request_id
    response = await _answered(request, handler)
    response.headers["Server"] = "canary-router"
    response.headers["X-Request-Id"] = request_id
    if gateway.stopping:
        response.force_close()
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        return plain_error(405, "Method Not Allowed", {"Allow": refused.headers["Allow"]})
    except web.HTTPException as refused:
        return plain_error(refused.status, refused.reason)
    except Exception:  # noqa: BLE001 - whatever it is, the caller is owed an answer
        # The last line of defence: a bug of ours must not drop the connection.
        _log.exception("request failed", extra={"request_id": request[REQUEST_ID]})
        return internal_error(request[REQUEST_ID])
