"""What answering needs of a prediction request, whichever way it came."""

import asyncio
import random
import re

from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDictProxy, MultiDict, MultiMapping

from router.errors import Overloaded
from router.serving.caller import Caller

MOST_HELD_BYTES = 256 << 20
"""Of bodies that are being read, in all; or as many as `TIMES_THE_LONGEST` hold, where that is more."""
TIMES_THE_LONGEST = 4
SHORT_BYTES = 1 << 16
"""So much of each body is not counted: as many as there may be connections hold that much again."""
_NO_QUERY: MultiMapping[str] = MultiDict()
_UNSAID = "application/octet-stream"
_GOOD_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class IncomingRequest:
    """The head of one request, and the stream that its body comes in.

    The library's own request knows more, and takes several times as long to make and to ask.
    """

    __slots__ = ("caller", "headers", "is_http11", "payload", "query", "request_id", "writer")

    def __init__(
        self,
        headers: CIMultiDictProxy[str],
        payload: StreamReader,
        request_id: str,
        caller: Caller,
        *,
        query: MultiMapping[str] = _NO_QUERY,
        is_http11: bool = True,
        writer: AbstractStreamWriter | None = None,
    ) -> None:
        """`writer`: where 100 Continue is written; None where the caller does not wait for it."""
        self.headers = headers
        self.payload = payload
        self.request_id = request_id
        self.caller = caller
        self.query = query
        self.is_http11 = is_http11
        self.writer = writer

    @property
    def content_type(self) -> str:
        """Its media type without parameters, in lower case; `application/octet-stream` where that is none.

        As the library has it, but not by the library, which parses the whole header as that of an e-mail:
        64 KiB of parameters would hold the event loop for twenty seconds.
        """
        media_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return media_type if media_type.count("/") == 1 else _UNSAID

    @property
    def content_length(self) -> int:
        """Bytes that its body is said to have; 0 where its head does not say."""
        return int(self.headers.get("Content-Length", 0))


def choose_request_id(sent: str) -> str:
    """The id that a caller sent, where it is one; else a new one of 16 hexadecimal digits."""
    return sent if sent and _GOOD_REQUEST_ID.fullmatch(sent) else f"{random.getrandbits(64):016x}"


async def read_whole(content: StreamReader, most_bytes: int) -> bytes | None:
    """All that comes in; None, and the rest unread, where that is more than `most_bytes`. A body alone."""
    return await BodiesUnderWay().read(content, most_bytes)


class BodiesUnderWay:
    """Reads bodies, and bounds what those hold together that have not come to their end.

    Beyond the bound those end that began first, for who is slow would else keep out who is not.
    """

    def __init__(self) -> None:
        self.held = 0
        """Bytes that have come of them, of each without its first `SHORT_BYTES`."""
        self._long: dict[asyncio.Timeout, int] = {}
        """Of those that are longer, how many more they hold; in the order in which they became so."""

    async def read(self, content: StreamReader, most_bytes: int) -> bytes | None:
        """One of them, as `read_whole`. Raises Overloaded where it is ended."""
        chunks: list[bytes] = []
        size = 0
        most_held = max(MOST_HELD_BYTES, TIMES_THE_LONGEST * most_bytes)
        try:
            async with asyncio.timeout(None) as ended:
                try:
                    async for chunk in content.iter_any():
                        size += len(chunk)
                        if size > most_bytes:
                            return None
                        chunks.append(chunk)
                        if size > SHORT_BYTES:
                            self._hold(ended, size - SHORT_BYTES, most_held)
                finally:
                    self._release(ended)
        except TimeoutError:
            if ended.expired():
                raise Overloaded("too many long bodies are on their way, and this one began first") from None
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, one: asyncio.Timeout, size: int, most_held: int) -> None:
        if one.when() is not None:
            return  # it ends at its next pause
        self.held += size - self._long.get(one, 0)
        self._long[one] = size
        while self.held > most_held:
            first = next(iter(self._long))
            self._release(first)
            first.reschedule(0.0)

    def _release(self, one: asyncio.Timeout) -> None:
        self.held -= self._long.pop(one, 0)
