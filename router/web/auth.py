"""Who may use the admin listener's verbs: holders of the token; without one, programs on this machine."""

import asyncio
import hmac
import logging
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from router.errors import ConfigRefused
from router.settings import is_loopback
from router.web.responses import plain_error

_log = logging.getLogger(__name__)

_SAFE = ("GET", "HEAD")
_CHALLENGE = 'Bearer realm="canary-router admin"'


def guard(read_token: Callable[[], bytes] | None) -> Middleware:
    """Middleware of the admin listener. `read_token` may block and raise ConfigRefused; None: there is none.

    Reading needs no token. Every method but GET and HEAD does, and no GET changes anything.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _local_only(request) if read_token is None else await _token_only(request, read_token)
        return refusal or await handler(request)

    return guarded


async def _token_only(request: web.Request, read_token: Callable[[], bytes]) -> web.Response | None:
    if request.method in _SAFE:
        return None
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent.strip():
        return _unauthorized("this takes the admin token: Authorization: Bearer …", _CHALLENGE)
    try:
        token = await asyncio.to_thread(read_token)
    except ConfigRefused as refused:
        # A token that is gone opens nothing.
        _log.warning("the admin token is unusable: %s", refused)
        return _unauthorized("the gateway has no usable admin token; see its log", _CHALLENGE)
    # Digests have one length, so that neither the content nor the length of the token shows in the time.
    offered = sha256(sent.strip().encode("utf-8", "surrogateescape")).digest()
    if not hmac.compare_digest(offered, sha256(token).digest()):
        _log.warning("an admin verb was refused: wrong token")
        return _unauthorized("this is not the admin token", f'{_CHALLENGE}, error="invalid_token"')
    return None


def _unauthorized(detail: str, challenge: str) -> web.Response:
    return plain_error(401, detail, {"WWW-Authenticate": challenge})


def _local_only(request: web.Request) -> web.Response | None:
    """403 for what a web page makes an operator's browser send: another origin, or a name that is not ours.

    A page can let its own name point to 127.0.0.1; the browser then sends that name as Host.
    """
    hosts = request.headers.getall("Host", ())
    if not all(_is_local(host) for host in hosts):
        return plain_error(403, "the admin listener has no token and answers to localhost only")
    if request.method in _SAFE:
        return None
    origins = request.headers.getall("Origin", ())
    own = {f"{request.scheme}://{host}".lower() for host in hosts}
    site = request.headers.get("Sec-Fetch-Site", "none")
    if any(origin.lower() not in own for origin in origins) or site not in ("none", "same-origin"):
        return plain_error(403, "a page of another origin may not do this")
    return None


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:  # brackets without an address in them
        return False
    return name is not None and is_loopback(name) and "@" not in host
