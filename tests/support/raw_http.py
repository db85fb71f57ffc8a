"""Bytes to a gateway and bytes back, without an HTTP library that would make them right."""

import re
import socket
from dataclasses import dataclass

VERSION = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request whose answer shows that somebody read it."""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """All that came back on one connection."""

    raw: bytes
    closed: bool
    """True when the gateway closed the connection within the time."""

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.raw)]


def exchange(port: int, raw: bytes, seconds: float = 5.0, until: bytes | None = None) -> RawResponse:
    """Send `raw` on a connection of its own and read until it is closed, `until` came, or time is over."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        heard = b""
        try:
            connection.sendall(raw)
            while until is None or until not in heard:
                if not (chunk := connection.recv(65536)):
                    return RawResponse(heard, closed=True)
                heard += chunk
        except TimeoutError:
            return RawResponse(heard, closed=False)
        except ConnectionError:
            return RawResponse(heard, closed=True)
        return RawResponse(heard, closed=False)


def post(headers: bytes, body: bytes = b"", path: bytes = b"/invocations") -> bytes:
    """A POST whose framing is up to `headers`."""
    return b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n" + body


def get(path: bytes = b"/livez", headers: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with further `headers`."""
    return b"GET " + path + b" " + version + b"\r\nHost: a\r\n" + headers + b"\r\n"
