"""The child's end of its socket: frames in, frames out, blocking."""

import socket
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from router.protocol.frames import Frame, FrameDecoder, encode_frame

_READ_BYTES = 1 << 18
_BUFFERS = 1024  # Linux takes no more in one call


class Channel:
    """A blocking stream socket that speaks frames. One thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = FrameDecoder()
        self._whole: deque[Frame] = deque()

    def receive(self) -> Frame | None:
        """The next frame; None when the other side is gone, whether it closed or was killed.

        Raises TornFrame when the bytes are no frame of ours.
        """
        return self._next(0)

    def arrived(self) -> Frame | None:
        """The next frame if it is here already, else None; it does not wait. Raises as `receive` does."""
        return self._next(socket.MSG_DONTWAIT)

    def send(self, header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> None:
        """Write one frame whole. Raises ConnectionError when the other side is gone."""
        parts = encode_frame(header, bodies)
        sent = self._sock.sendmsg(parts[:_BUFFERS])
        if sent == sum(map(len, parts)):
            return
        buffers = deque(memoryview(part) for part in parts)
        while True:
            while buffers and sent >= len(buffers[0]):
                sent -= len(buffers.popleft())
            if not buffers:
                return
            buffers[0] = buffers[0][sent:]
            sent = self._sock.sendmsg([*islice(buffers, _BUFFERS)])

    def _next(self, flags: int) -> Frame | None:
        while not self._whole:
            try:
                data = self._sock.recv(_READ_BYTES, flags)
            # A killed gateway with unread answers is a reset, not an end of file.
            except (BlockingIOError, ConnectionError):
                return None
            if not data:
                return None
            self._whole.extend(self._decoder.feed(data))
        return self._whole.popleft()
