"""Verbs that change things; only the admin listener has them."""

from aiohttp import web

from router.errors import ConfigRefused, ModelNotConfigured
from router.web.context import GATEWAY, REQUEST_ID
from router.web.responses import config_refused, document, error_response


async def reload(request: web.Request) -> web.Response:
    """`POST /-/reload`: 200 with the digest and the changes, or 422 with every error."""
    try:
        reloaded = await request.app[GATEWAY].reload()
    except ConfigRefused as refused:
        return config_refused(refused)
    return document({"digest": reloaded.digest, "changes": list(reloaded.changes)})


async def reset_breakers(request: web.Request) -> web.Response:
    """`POST /-/models/{name}/reset-breakers`: its canaries have their shares back, and are judged anew."""
    name = request.match_info["name"]
    manager = request.app[GATEWAY].fleet.managers.get(name)
    if manager is None:
        return error_response(ModelNotConfigured("no such registered model here"), request[REQUEST_ID])
    manager.reset_breakers()
    return document({"model": name})
