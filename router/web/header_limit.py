"""The bound of a request's headers in all, which the library's parser has for each of them alone."""

from collections.abc import Sequence
from typing import Any, Protocol

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

MOST_HEADERS = 100
_TOO_MANY = "Too many headers received"
"""What the library's parser says then; it has no type of its own."""
_LINE_END_BYTES = 4
"""Of a header besides its name and value."""
_TARGET_BYTES = 512
"""Of the request line, as many as show what is asked for."""

Fed = tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]
"""Requests whose headers are complete, whether the client leaves HTTP, and what it sent after that."""


class HeadersOverLimit(HttpProcessingError):
    """A request's headers are longer, or more, than they may be."""

    def __init__(self, path: str) -> None:
        """`path`: what was asked for, as far as that is known; perhaps empty."""
        super().__init__(code=431, message="headers over the limit")
        self.path = path


class Parser(Protocol):
    """The library's."""

    def feed_data(self, data: bytes, /) -> Fed:
        """Bytes of a request, or of several. Raises HttpProcessingError."""


class HeaderLimit:
    """Stands in for the parser of one connection. After its first error it reads nothing more.

    The bound is kept to the byte for headers that come with the request's first bytes, and elsewhere to one
    reading of the socket: what a request before it left in the same reading is not known.
    """

    def __init__(self, parser: Any, limit: int) -> None:
        """`parser` is the library's; `limit` in bytes, of the request line and the headers."""
        self._parser: Parser = parser
        self._limit = limit
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request whose headers came to their end."""
        self._begun = b""
        """The first bytes of headers that are not complete."""
        self._bytes = 0
        """Of these headers, so far."""
        self._failed = False
        # The library asks the parser of a connection for these, too.
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.set_upgraded = parser.set_upgraded

    def feed_data(self, data: bytes) -> Fed:
        """As the library's. Raises HeadersOverLimit besides."""
        if self._failed:
            return (), False, b""
        in_body = not self._body.is_eof()
        try:
            fed = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._failed = True
            if not in_body and _is_about_size(error) and self._are_headers_too_long(data):
                raise HeadersOverLimit(_path_of(self._begun or data)) from None
            raise
        requests = fed[0]
        if requests:
            if self._bytes + len(data) > self._limit:
                for request, _ in requests:
                    self._check(request)
            self._body, self._bytes, self._begun = requests[-1][1], 0, b""
        elif not in_body:
            if not self._bytes:
                self._begun = data[:_TARGET_BYTES]
            self._bytes += len(data)
            if self._bytes > self._limit:
                self._failed = True
                raise HeadersOverLimit(_path_of(self._begun))
        return fed

    def _are_headers_too_long(self, data: bytes) -> bool:
        """Whether what the library's parser found too long in `data` is the headers, and no trailers."""
        end = data.find(b"\r\n\r\n")
        if self._begun or end < 0:
            return True
        return end > self._limit or data.count(b"\r\n", 0, end) > MOST_HEADERS

    def _check(self, request: RawRequestMessage) -> None:
        headers = sum(len(name) + len(value) + _LINE_END_BYTES for name, value in request.raw_headers)
        if len(request.path) + headers > self._limit:
            self._failed = True
            raise HeadersOverLimit(request.path)


def _is_about_size(error: HttpProcessingError) -> bool:
    return isinstance(error, LineTooLong) or (type(error) is BadHttpMessage and error.args == (_TOO_MANY,))


def _path_of(begun: bytes) -> str:
    """The target of a request line that may be cut."""
    words = begun[:_TARGET_BYTES].lstrip(b"\r\n").split(b" ", 2)
    return words[1].decode("ascii", "replace") if len(words) > 1 else ""
