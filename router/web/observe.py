"""What operators and probes read: health, readiness, metrics, state and explanations."""

from aiohttp import web

from router.core.ids import PRODUCTION
from router.core.routing import assign
from router.core.split import hashed
from router.settings.mappings import read_percent
from router.web.context import GATEWAY, WebState
from router.web.responses import MEDIA_TYPE, document, plain_error


async def ping(request: web.Request) -> web.Response:
    """`GET /ping`, `/health`: 200 when `/readyz` is, as `mlflow models serve` answers it."""
    return _mlflow_line(b"\n", 200 if request.app[GATEWAY].ready else 503)


async def version(request: web.Request) -> web.Response:
    """`GET /version`: MLflow's version, bare."""
    return _mlflow_line(request.app[GATEWAY].mlflow_version.encode(), 200)


async def livez(_: web.Request) -> web.Response:
    """`GET /livez`: the loop turns."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`; `?verbose` lists the models."""
    gateway = request.app[GATEWAY]
    status = 200 if gateway.ready else 503
    lines = ["ready" if gateway.ready else "stopping" if gateway.traffic.stopping else "not ready"]
    if "verbose" in request.query:
        lines += [_readiness_line(name, gateway) for name in gateway.models.managers]
    return web.Response(status=status, text="\n".join(lines) + "\n")


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: Prometheus text or OpenMetrics, by the Accept header."""
    accept = request.headers.get("Accept", "")
    body, content_type = request.app[GATEWAY].metrics(accept, request.query.getall("name[]", []))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def state(request: web.Request) -> web.Response:
    """`GET /v1/state`: what is aspired, bound, split and wrong."""
    return document(request.app[GATEWAY].state())


async def compare(request: web.Request) -> web.Response:
    """`GET /v1/compare[?model=]`: how each alias stands against production, and how sure that is."""
    gateway, model = request.app[GATEWAY], request.query.get("model")
    if model is not None and model not in gateway.models.managers:
        return plain_error(404, "no such registered model here")
    return document(gateway.compare(model))


async def plan(request: web.Request) -> web.Response:
    """`GET /v1/plan?model=&share=`: what it would do to give the canary so many percent."""
    gateway = request.app[GATEWAY]
    model = request.query.get("model", gateway.first_model)
    if model not in gateway.models.managers:
        return plain_error(404, "no such registered model here")
    if (share := request.query.get("share")) is None:
        return plain_error(400, "say which share, in percent: /v1/plan?model=NAME&share=PERCENT")
    try:
        return document(gateway.plan(model, read_percent(share)))
    except ValueError as error:
        return plain_error(400, f"share {error}")


async def route(request: web.Request) -> web.Response:
    """`GET /v1/route?model=&key=`: which alias a key gets now, and why."""
    gateway = request.app[GATEWAY]
    model = request.query.get("model", gateway.first_model)
    key = request.query.get("key")
    routes = gateway.models.table.models.get(model)
    if routes is None:
        return plain_error(404, "no such registered model here")
    if not key:
        # An empty key counts as missing in a request, so there is nothing to explain about it.
        return plain_error(400, "say which key: /v1/route?model=NAME&key=KEY")
    assignment = assign(routes, key)
    bucket, digest = hashed(routes.salt, key)
    owner = routes.pins.aliases.get(digest) or routes.configured_split.alias_of(bucket)
    if assignment is None:
        decision = {"alias": None, "version": None, "bucket": bucket, "reason": "not_ready"}
    else:
        decision = {
            "alias": assignment.alias,
            "version": assignment.version.number,
            "bucket": assignment.bucket,
            "reason": assignment.reason,
        }
    configured = routes.configured_split.percentages()
    return document({"model": model, **decision, "owner": owner, "salt": routes.salt, "split": configured})


def _readiness_line(name: str, gateway: WebState) -> str:
    manager = gateway.models.managers[name]
    if (bound := manager.bound.get(PRODUCTION)) is None:
        return f"[-] {name} production is not bound"
    if not manager.can_answer:
        return f"[-] {name} production is version {bound.number}, which has no worker"
    return f"[+] {name} production is version {bound.number}"


def _mlflow_line(body: bytes, status: int) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": MEDIA_TYPE})
