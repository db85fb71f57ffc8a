"""The Open Inference Protocol V2, over REST, in front of the split: health, metadata and `infer`."""

import re
from typing import Any

import orjson
from aiohttp import web

from router import __version__
from router.core.ids import PRODUCTION, VersionId
from router.errors import ModelNotConfigured, NoDirectAccess, NotReady, RequestRefused, VersionNotServed
from router.protocol.messages import ScoringProtocol
from router.protocol.v2_documents import IS_NOT, model_metadata, model_readiness
from router.serving.manager import ModelManager
from router.web.context import GATEWAY, REQUEST_ID, WebState
from router.web.invocations import answer_request, incoming
from router.web.responses import MEDIA_TYPE, SERVER, error_response

_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


async def server(_: web.Request) -> web.Response:
    """`GET /v2`: name and version of this server; it has no extensions."""
    return _json({"name": SERVER, "version": __version__, "extensions": []})


async def live(_: web.Request) -> web.Response:
    """`GET /v2/health/live`: the loop turns."""
    return _json({"live": True})


async def ready(request: web.Request) -> web.Response:
    """`GET /v2/health/ready`: 200 when `/readyz` is, else 400."""
    answer = request.app[GATEWAY].ready
    return _json({"ready": answer}, 200 if answer else IS_NOT)


async def model_ready(request: web.Request) -> web.Response:
    """`GET /v2/models/{name}[/versions/{version}]/ready`: 200 when requests are answered, else 400."""
    try:
        manager, number = _asked(request)
        answer = manager.serves(number) if number is not None else manager.can_answer
    except VersionNotServed:
        answer = False
    except RequestRefused as refused:
        return _refused(request, refused)
    return _json(model_readiness(request.match_info["name"], ready=answer), 200 if answer else IS_NOT)


async def model(request: web.Request) -> web.Response:
    """`GET /v2/models/{name}[/versions/{version}]`: what production, or that version, takes and answers."""
    try:
        manager, version = _asked(request)
        version = version or manager.bound.get(PRODUCTION)
        harness = manager.harnesses.get(version) if version else None
        if harness is None or harness.info is None:
            raise NotReady(
                f"{manager.model} has no production version that is loaded",
                retry_after=manager.seconds_until_load,
            )
    except RequestRefused as refused:
        return _refused(request, refused)
    return _json(
        model_metadata(
            manager.model,
            {v.number for v in manager.bound.values()},
            harness.info.inputs,
            harness.info.outputs,
        )
    )


async def infer(request: web.Request) -> web.StreamResponse:
    """`POST /v2/models/{name}[/versions/{version}]/infer`: through the split, or straight to one version."""
    number = _number(request)
    name = request.match_info["name"]
    return await answer_request(request.app[GATEWAY], incoming(request), name, number, ScoringProtocol.V2)


def _asked(request: web.Request) -> tuple[ModelManager, VersionId | None]:
    """The model of the path, and its version where the path has one and an alias serves it.

    Raises ModelNotConfigured, NoDirectAccess or VersionNotServed.
    """
    gateway: WebState = request.app[GATEWAY]
    name = request.match_info["name"]
    manager, settings = gateway.models.managers.get(name), gateway.settings.current.models.get(name)
    if manager is None or settings is None:
        raise ModelNotConfigured("no such registered model here")
    number = _number(request)
    if number is None:
        return manager, None
    if not settings.direct_access:
        raise NoDirectAccess("direct access is off for this model")
    version = VersionId(name, number)
    if version not in manager.bound.values():
        raise VersionNotServed(f"{name} serves no version of that number")
    return manager, version


def _number(request: web.Request) -> int | None:
    text = request.match_info.get("version")
    if text is None:
        return None
    return int(text) if _NUMBER.fullmatch(text) else 0  # no version has the number 0


def _refused(request: web.Request, refused: RequestRefused) -> web.Response:
    return error_response(refused, request[REQUEST_ID], ScoringProtocol.V2)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE)
