"""A good answer, written in one piece: the library's own way costs as much as routing the request."""

from collections.abc import Mapping

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time

MOST_BYTES = 1 << 16
"""A longer body is better not copied, and its client may be slow: the library waits for it."""
_GO_ON, _CLOSE = b"\r\n", b"Connection: close\r\n\r\n"


class SinglePacketResponse(web.StreamResponse):
    """200 with a small body. Of a response, aiohttp asks for no more than what is here."""

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        # Not the library's: it makes a dictionary of headers, to be written again in `prepare`.
        self._told = headers
        self._whole_body = body
        self._request: web.BaseRequest | None = None
        self._closes = False

    @property
    def status(self) -> int:
        """Always 200."""
        return 200

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on after it."""
        return not self._closes

    def force_close(self) -> None:
        """Close the connection after it."""
        self._closes = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Remember who asked."""
        self._request = request
        if not request.keep_alive:
            self._closes = True

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all of it. Raises ConnectionResetError when the client is gone."""
        transport = self._request.transport if self._request is not None else None
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        told = "".join([f"{name}: {value}\r\n" for name, value in self._told.items()])
        start = (
            f"HTTP/1.1 200 OK\r\n{told}Content-Length: {len(self._whole_body)}\r\n"
            f"Date: {rfc822_formatted_time()}\r\n"
        )
        end = _CLOSE if self._closes else _GO_ON
        transport.write(b"".join((start.encode(), end, self._whole_body)))
        if self._request is not None and transport.get_write_buffer_size() > MOST_BYTES:
            await self._request.writer.drain()  # who asks and does not read is not asked for more


def fits(request: web.BaseRequest, body: bytes) -> bool:
    """Whether a good answer with `body` may be written so."""
    return len(body) <= MOST_BYTES and request.version == HttpVersion11
