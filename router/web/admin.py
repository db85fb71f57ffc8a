"""The admin listener: verbs that change things, and who may use them.

Holders of the token may; without one, programs on this machine. A second token may do nothing but lower the
shares of canaries: whatever watches a gateway needs no more.
"""

import hmac
import logging
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from router.core.signature import exchange_key
from router.errors import CapUnknown, ConfigRefused, ModelNotConfigured
from router.processes.disk import in_disk_thread
from router.processes.small_files import open_at_once
from router.settings import FleetSettings, ServerSettings, is_loopback
from router.web.context import GATEWAY, REQUEST_ID
from router.web.responses import config_refused, document, error_response, plain_error

_log = logging.getLogger(__name__)

_SAFE = ("GET", "HEAD")
LOWERING = ("/-/abort", "/-/alertmanager")
"""Paths of the verbs that only lower."""
EXCHANGE = "/-/evidence"
"""Path at which other gateways ask: they send no token, and sign."""
_CHALLENGE = 'Bearer realm="canary-router admin"'
VARIABLE = "CANARY_ROUTER_SERVER__ADMIN_TOKEN"
SHORTEST, LONGEST = 16, 4096
"""Bytes of a token: what is shorter can be guessed, what is longer is another file."""


class AdminToken:
    """Reads the token anew each time it is asked for, so that a rotated file counts at once."""

    def __init__(self, file: str | None, value: str | None, key: str = "server.admin_token_file") -> None:
        """`value` stands over `file`, which the configuration names as `key`. Raises ConfigRefused when there
        is no usable token now."""
        self._file = file
        self._value = value
        self._key = key
        self.read()

    def read(self) -> bytes:
        """The token as it is now; blocks for a small file. Raises ConfigRefused, never with the token."""
        if self._value is not None:
            return _checked(self._value.encode("utf-8", "surrogateescape"), VARIABLE)
        assert self._file is not None  # one of the two is there
        try:
            with open(self._file, "rb", opener=open_at_once) as file:
                raw = file.read(LONGEST + 1)
        except OSError as error:
            raise ConfigRefused([f"{self._key}: can not be read: {error.strerror}"]) from None
        return _checked(raw, self._key)


def admin_token(server: ServerSettings, environ: Mapping[str, str]) -> AdminToken | None:
    """The token that is configured; None without one, which only a loopback address may be.

    Raises ConfigRefused when the token is unusable, or missing where others can reach the admin address.
    """
    value = environ.get(VARIABLE)
    if value is not None or server.admin_token_file is not None:
        return AdminToken(server.admin_token_file, value)
    if not server.admin_is_local:
        sentence = (
            f"server.admin: others can reach {server.admin[0]}, so its verbs take a token: put one in a file"
            f" and name it in server.admin_token_file, set {VARIABLE}, or choose a loopback address"
        )
        raise ConfigRefused([sentence])
    return None


def lower_token(server: ServerSettings, admin: AdminToken | None) -> AdminToken | None:
    """The token that may only lower, where one is configured. Raises ConfigRefused when it is unusable, or
    would give away, or be worth, as much as the `admin` one."""
    if server.lower_token_file is None:
        return None
    key = "server.lower_token_file"
    token = AdminToken(server.lower_token_file, None, key)
    if admin is None:
        sentence = f"{key}: goes with an admin token: without one, every program on this machine may do all"
        raise ConfigRefused([sentence])
    if token.read() == admin.read():
        raise ConfigRefused([f"{key}: holds the admin token, which may do all; it needs one of its own"])
    return token


class ExchangeKey:
    """By which gateways of one fleet sign what they exchange: that of the admin token as it is now."""

    def __init__(self, token: AdminToken) -> None:
        self._token = token

    async def read(self) -> bytes:
        """The key. Raises ConfigRefused."""
        return exchange_key(await in_disk_thread(self._token.read))


def fleet_key(fleet: FleetSettings, admin: AdminToken | None) -> ExchangeKey | None:
    """That of the `admin` token. Raises ConfigRefused where there is none, and `fleet` has peers."""
    if admin is not None:
        return ExchangeKey(admin)
    if fleet.peers:
        sentence = (
            "fleet.peers: gateways sign what they exchange with their admin token, and there is none: put one"
            f" in a file and name it in server.admin_token_file, or set {VARIABLE}, the same at all of them"
        )
        raise ConfigRefused([sentence])
    return None


def _checked(raw: bytes, origin: str) -> bytes:
    token = raw.strip()
    if not SHORTEST <= len(token) <= LONGEST or len(token.split()) != 1:
        raise ConfigRefused(
            [f"{origin}: must hold one token of {SHORTEST} to {LONGEST} bytes without spaces"]
        )
    return token


async def reload(request: web.Request) -> web.Response:
    """`POST /-/reload`: 200 with the digest and the changes, or 422 with every error."""
    try:
        reloaded = await request.app[GATEWAY].reload()
    except ConfigRefused as refused:
        return config_refused(refused)
    return document({"digest": reloaded.digest, "changes": list(reloaded.changes)})


async def reset_breakers(request: web.Request) -> web.Response:
    """`POST /-/models/{name}/reset-breakers`: its canaries have their shares back, and are judged anew.

    It answers once that is written, or can not be.
    """
    name = request.match_info["name"]
    caps = request.app[GATEWAY].caps
    try:
        caps.reset_breakers(name)
    except CapUnknown:
        return error_response(ModelNotConfigured("no such registered model here"), request[REQUEST_ID])
    await caps.settled()
    return document({"model": name})


def guard(token: AdminToken | None, lower: AdminToken | None = None) -> Middleware:
    """Middleware of the admin listener. `lower` opens the verbs that only lower, and nothing else.

    Reading needs no token. Every method but GET and HEAD does, and no GET changes anything. What other
    gateways ask is signed, and changes nothing either.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = _path_of_route(request)
        if path == EXCHANGE:
            refusal = None
        elif token is None:
            refusal = _local_only(request)
        else:
            refusal = await _token_only(request, token, lower if path in LOWERING else None)
        return refusal or await handler(request)

    return guarded


def _path_of_route(request: web.Request) -> str | None:
    # Of the route that was found: the path may be spelled in many ways.
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


async def _token_only(
    request: web.Request, admin: AdminToken, lower: AdminToken | None
) -> web.Response | None:
    """None where the request carries one of the tokens, or needs none."""
    if request.method in _SAFE:
        return None
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent.strip():
        return _unauthorized("this takes the admin token: Authorization: Bearer …", _CHALLENGE)
    # Digests have one length, so that neither the content nor the length of the token shows in the time.
    offered = sha256(sent.strip().encode("utf-8", "surrogateescape")).digest()
    unusable = 0
    expected = (admin,) if lower is None else (admin, lower)
    for one in expected:
        try:
            token = await in_disk_thread(one.read)
        except ConfigRefused as refused:
            # A token that is gone opens nothing.
            _log.warning("a token is unusable: %s", refused)
            unusable += 1
            continue
        if hmac.compare_digest(offered, sha256(token).digest()):
            return None
    if unusable == len(expected):
        return _unauthorized("the gateway has no usable admin token; see its log", _CHALLENGE)
    _log.warning("an admin verb was refused: wrong token")
    return _unauthorized("this is not the admin token", f'{_CHALLENGE}, error="invalid_token"')


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
