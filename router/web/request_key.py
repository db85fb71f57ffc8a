"""Reads the key a request is routed by."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from time import perf_counter

from router.core.keys import MAX_JSON_BYTES, KeyKind, KeySource, cookie_key, json_key, text_key
from router.core.routing import MissingKey
from router.errors import KeyMissing, Overloaded
from router.web.incoming import IncomingRequest

LONG_BYTES = 1 << 18
"""A longer body is hashed in a thread: 64 MiB take over 40 ms, in which nobody else would be served."""
MANY_BYTES = 1 << 16
"""Longer JSON bodies are searched for their key one at a time: a megabyte of it can take 50 ms."""
_MOST_IN_LINE = 128
"""Each holds its body, a megabyte at most."""
_GARBAGE_BYTES = 1 << 14


class KeyParseLock:
    """Who holds the event loop for long takes turns, and leaves it to everybody else for as long."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._in_line = 0

    def for_key_of(self, source: KeySource, body: bytes) -> AbstractAsyncContextManager[None]:
        """What `read_key` is to be called in. Raises Overloaded where too many wait already."""
        is_searched = source.kind is KeyKind.JSON and MANY_BYTES < len(body) <= MAX_JSON_BYTES
        return self._one() if is_searched else nullcontext()

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[None]:
        if self._in_line >= _MOST_IN_LINE:
            raise Overloaded("too many long bodies wait to be searched for their key")
        self._in_line += 1
        try:
            async with self._turn:
                began_at = perf_counter()
                try:
                    yield
                finally:
                    await asyncio.sleep(perf_counter() - began_at)
        finally:
            self._in_line -= 1


def read_key(
    source: KeySource, request: IncomingRequest, body: bytes, *, always_json: bool = False
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
            raise KeyMissing(f"the request carries no key ({source.kind} {source.name})")


def _sent_key(source: KeySource, request: IncomingRequest, body: bytes, *, always_json: bool) -> str | None:
    match source.kind:
        case KeyKind.HEADER:
            return text_key(request.headers.getall(source.name, ()))
        case KeyKind.COOKIE:
            return cookie_key(request.headers.getall("Cookie", ()), source.name)
        case KeyKind.QUERY:
            return text_key(request.query.getall(source.name, ()))
        case KeyKind.JSON:
            is_json = always_json or request.content_type in ("application/json", "application/octet-stream")
            return _json_key(body, source) if is_json else None


def _json_key(body: bytes, source: KeySource) -> str | None:
    # A hostile megabyte makes hundreds of thousands of lists; looking each time for garbage among them is
    # most of what it costs. (A thread would not help: the parser holds the interpreter's lock.)
    pause = len(body) > _GARBAGE_BYTES and gc.isenabled()
    if pause:
        gc.disable()
    try:
        return json_key(body, source.path)
    finally:
        if pause:
            gc.enable()
