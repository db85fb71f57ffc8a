"""Verbs that change things; only the admin listener has them."""

from aiohttp import web

from router.errors import ConfigRefused
from router.web.answers import config_refused, document
from router.web.context import GATEWAY


async def reload(request: web.Request) -> web.Response:
    """`POST /-/reload`: 200 with the digest and the changes, or 422 with every error."""
    try:
        reloaded = await request.app[GATEWAY].reload()
    except ConfigRefused as refused:
        return config_refused(refused)
    return document({"digest": reloaded.digest, "changes": list(reloaded.changes)})
