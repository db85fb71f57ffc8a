"""Reads the key a request is routed by."""

from aiohttp import web

from router.core.keys import KeyKind, KeySource, json_key, text_key
from router.core.routing import MissingKey
from router.errors import KeyMissing


def read_key(source: KeySource, request: web.Request, body: bytes) -> tuple[str | bytes | None, bool]:
    """Key to hash, and True when the caller sent it.

    Without a sent key: the body's bytes (an exact share, without stickiness), or None for production.
    Raises KeyMissing when the configuration rejects such requests; the message never holds the key.
    """
    if (sent := _sent_key(source, request, body)) is not None:
        return sent, True
    match source.missing:
        case MissingKey.BODY:
            return body, False
        case MissingKey.PRODUCTION:
            return None, False
        case MissingKey.REJECT:
            raise KeyMissing(f"the request carries no key ({source.kind} {source.name})", reason="no_key")


def _sent_key(source: KeySource, request: web.Request, body: bytes) -> str | None:
    match source.kind:
        case KeyKind.HEADER:
            return text_key(request.headers.getall(source.name, ()))
        case KeyKind.COOKIE:
            cookie = request.cookies.get(source.name)
            return text_key([cookie] if cookie is not None else [])
        case KeyKind.QUERY:
            return text_key(request.query.getall(source.name, ()))
        case KeyKind.JSON:
            is_json = request.content_type in ("application/json", "application/octet-stream")
            return json_key(body, source.path) if is_json else None
