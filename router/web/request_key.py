"""Reads the key a request is routed by."""

import asyncio
import gc

from aiohttp import web

from router.core.keys import KeyKind, KeySource, json_key, text_key
from router.core.routing import MissingKey
from router.core.split import Hashed, Key, bucket_of
from router.errors import KeyMissing

LONG_BYTES = 1 << 18
"""A longer body is hashed in a thread: 64 MiB take over 40 ms, in which nobody else would be served."""


async def hashed_if_long(salt: str, key: str | bytes | None) -> Key | None:
    """`key`, with its bucket computed when that takes long."""
    if isinstance(key, bytes) and len(key) > LONG_BYTES:
        return Hashed(key, salt, await asyncio.to_thread(bucket_of, salt, key))
    return key


def read_key(
    source: KeySource, request: web.Request, body: bytes, *, always_json: bool = False
) -> tuple[str | bytes | None, bool]:
    """Key to hash, and True when the caller sent it. `always_json`: whatever its Content-Type says.

    Without a sent key: the body's bytes (an exact share, without stickiness), or None for production.
    Raises KeyMissing when the configuration rejects such requests; the message never holds the key.
    """
    if (sent := _sent_key(source, request, body, always_json=always_json)) is not None:
        return sent, True
    match source.missing:
        case MissingKey.BODY:
            return body, False
        case MissingKey.PRODUCTION:
            return None, False
        case MissingKey.REJECT:
            raise KeyMissing(f"the request carries no key ({source.kind} {source.name})", reason="no_key")


def _sent_key(source: KeySource, request: web.Request, body: bytes, *, always_json: bool) -> str | None:
    match source.kind:
        case KeyKind.HEADER:
            return text_key(request.headers.getall(source.name, ()))
        case KeyKind.COOKIE:
            cookie = request.cookies.get(source.name)
            return text_key([cookie] if cookie is not None else [])
        case KeyKind.QUERY:
            return text_key(request.query.getall(source.name, ()))
        case KeyKind.JSON:
            is_json = always_json or request.content_type in ("application/json", "application/octet-stream")
            return _json_key(body, source) if is_json else None


def _json_key(body: bytes, source: KeySource) -> str | None:
    # A hostile megabyte makes hundreds of thousands of lists; looking each time for garbage among them is
    # most of what it costs. (A thread would not help: the parser holds the interpreter's lock.)
    pause = len(body) > LONG_BYTES and gc.isenabled()
    if pause:
        gc.disable()
    try:
        return json_key(body, source.path)
    finally:
        if pause:
            gc.enable()
