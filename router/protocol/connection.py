"""The gateway's end of a child's socket: frames, and calls that wait for their answer."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from router.errors import ChildLost, ChildTimeout
from router.protocol.frames import Frame, FrameDecoder, FrameLimits, TornFrame, encode_frame
from router.protocol.messages import WireRefused

_ID = "id"
_JOINED_BYTES = 1 << 16
"""Copying so much costs less than handing over each buffer."""


class ChildConnection(asyncio.Protocol):
    """One stream socket, never blocking. What is sent after the other side is gone is dropped."""

    def __init__(self) -> None:
        self.on_frame: Callable[[Frame], None] = lambda _frame: None
        """Called with every frame that answers no call. Raises WireRefused to close the socket."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called once, when the other side is gone and all it sent has been handed out."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the other side is gone; its callbacks run after `on_lost`."""
        self.refused = ""
        """What the other side sent that no child of ours sends; empty when it sent nothing of the kind."""
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder()
        self._calls: dict[int, asyncio.Future[Frame]] = {}
        self._ids = itertools.count(1)

    @property
    def connected(self) -> bool:
        """True once there is a transport, which then owns the socket."""
        return self._transport is not None

    def limit(self, limits: FrameLimits) -> None:
        """From the next frame on, refuse larger ones before they are buffered."""
        self._decoder.limits = limits

    def send(self, header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> None:
        """Write one frame; nothing happens when the other side is gone."""
        if self._transport is not None and not self.lost.done():
            buffers = encode_frame(header, bodies)
            if sum(map(len, buffers)) <= _JOINED_BYTES:
                self._transport.write(b"".join(buffers))
            else:
                self._transport.writelines(buffers)

    async def call(
        self, header: Mapping[str, Any], bodies: Sequence[bytes] = (), *, timeout_seconds: float
    ) -> Frame:
        """Send a frame with an `id` of its own and wait for the frame with the same one.

        Raises ChildTimeout after `timeout_seconds`, ChildLost when the other side is gone before it answers.
        """
        if self.lost.done():
            raise ChildLost("its socket is closed")
        number = next(self._ids)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self.send({**header, _ID: number}, bodies)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError:
            raise ChildTimeout(f"no answer within {timeout_seconds:g} s") from None
        finally:
            self._calls.pop(number, None)

    def abort(self) -> None:
        """Close at once, with whatever is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is ready."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: more bytes."""
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except (TornFrame, WireRefused) as error:
            self.refused = str(error)
            self.abort()  # nothing after this can be trusted; whoever owns the child ends it

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: end of file, a reset, or our own abort."""
        self.lost.set_result(None)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ChildLost("it ended before it answered"))
        self.on_lost()

    def _take(self, frame: Frame) -> None:
        number = frame.header.get(_ID)
        answer = self._calls.pop(number, None) if type(number) is int else None
        if answer is None:
            self.on_frame(frame)
        elif not answer.done():
            answer.set_result(frame)
