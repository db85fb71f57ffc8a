"""A kept-alive connection that sends prepared requests: small, so that the client is not what is measured."""

import asyncio
from collections.abc import Callable
from typing import cast

_REOPEN_SECONDS = 0.05


class Connection(asyncio.Protocol):
    """One request at a time; opens again by itself when it is lost."""

    def __init__(self, host: str, port: int, on_free: Callable[["Connection"], None]) -> None:
        """`on_free` is called when it can take a request: after `open`, each answer and each loss."""
        self._host, self._port, self._on_free = host, port, on_free
        self._transport: asyncio.Transport | None = None
        self._reported: Callable[[int], None] | None = None
        self._received = bytearray()
        self._reopening: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """False from a loss until it is open again."""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self) -> None:
        """Connect, however often it takes; until `close`."""
        while not self._closed:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
            except OSError:
                await asyncio.sleep(_REOPEN_SECONDS)
            else:
                self._on_free(self)
                return

    def ask(self, request: bytes, reported: Callable[[int], None]) -> None:
        """Send; `reported` gets the status once the answer is whole, 0 when the connection is lost before."""
        assert self._transport is not None
        self._reported = reported
        self._transport.write(request)

    def close(self) -> None:
        """End, also in the middle of a request."""
        self._closed = True
        if self._reopening is not None:
            self._reopening.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._received.clear()

    def data_received(self, data: bytes) -> None:
        """asyncio: a part of an answer."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._received[:head_end]).lower()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if not length:  # every server here sends the length; one that does not is not understood
            assert self._transport is not None
            self._transport.abort()
        elif len(self._received) >= head_end + 4 + int(length):
            self._received.clear()
            self._report(int(head[9:12]))
            self._on_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is closed."""
        self._report(0)
        if not self._closed:
            self._reopening = asyncio.get_running_loop().create_task(self.open())

    def _report(self, status: int) -> None:
        reported, self._reported = self._reported, None
        if reported is not None:
            reported(status)
