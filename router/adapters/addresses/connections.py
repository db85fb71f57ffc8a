"""Connections to one address: so many at once, each used for so long, with the headers of a file."""

import asyncio
import re
from collections.abc import Callable, Mapping

from router.adapters.http.client import HttpAnswer, HttpClient
from router.errors import OutboundFailed
from router.processes.disk import DiskThreads
from router.processes.small_files import open_at_once
from router.settings.where import AddressSettings

IDLE_SECONDS = 3.0
"""How long a connection is kept without a request: uvicorn, by which MLflow and MLServer answer, ends one
after 5 s (KServe's after 65 s), and a POST that meets such an end is lost, for it is never sent twice."""
_LONGEST_FILE = 16_384
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)[ \t]*")
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "x-request-id"}

_in_headers_thread = DiskThreads().run
"""Threads of their own: each request reads its file, and must not wait behind names that are looked up."""


class Connections:
    """Asks one address, until it is closed. `ask` may be called at any time, also side by side."""

    def __init__(self, settings: AddressSettings, most_bytes: Callable[[], int]) -> None:
        """`most_bytes`: of one answer, read at each use."""
        self._settings = settings
        self._most_bytes = most_bytes
        self._client: HttpClient | None = None
        self._renewed_at = float("-inf")
        self._under_way: dict[HttpClient, int] = {}
        """Requests of each client that has some."""
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpAnswer:
        """One request, once: it is not sent again, whatever becomes of it. Raises OutboundFailed.

        Cancelling it closes its connection.
        """
        file = self._settings.headers_file
        own = {} if file is None else await _headers(file, seconds)
        client = self._current()
        self._under_way[client] = self._under_way.get(client, 0) + 1
        try:
            return await client.ask(
                method,
                url,
                seconds=seconds,
                headers={**own, **(headers or {})},
                body=body,
                most_bytes=self._most_bytes(),
            )
        finally:
            if client in self._under_way:  # else all was closed meanwhile
                self._under_way[client] -= 1
                self._let_go(client)

    async def close(self) -> None:
        """End every connection now."""
        clients = {*self._under_way, *([self._client] if self._client is not None else [])}
        self._client, self._under_way = None, {}
        await asyncio.gather(*(client.close() for client in clients), *self._closing)

    def _current(self) -> HttpClient:
        """One with young connections: a Service spreads connections over its pods, and not requests."""
        now = asyncio.get_running_loop().time()
        if self._client is None or now - self._renewed_at >= self._settings.connection_seconds:
            former, most = self._client, self._settings.connections
            self._client = HttpClient(
                connections=most, per_host=most, kept_seconds=IDLE_SECONDS, proxy=self._settings.proxy
            )
            self._renewed_at = now
            if former is not None:
                self._let_go(former)
        return self._client

    def _let_go(self, client: HttpClient) -> None:
        if self._under_way.get(client):
            return
        self._under_way.pop(client, None)
        if client is not self._client:
            closing = asyncio.get_running_loop().create_task(client.close(), name="close connections")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _headers(path: str, seconds: float | None) -> dict[str, str]:
    try:
        async with asyncio.timeout(seconds):
            return await _in_headers_thread(read_headers, path)
    except TimeoutError:
        raise OutboundFailed(f"headers_file was not read within {seconds:g} s") from None


def read_headers(path: str) -> dict[str, str]:
    """The headers in the file at `path`, one a line. Raises OutboundFailed, which quotes nothing of it."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            content = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise OutboundFailed(f"headers_file can not be read: {error.strerror}") from None
    if len(content) > _LONGEST_FILE:
        raise OutboundFailed(f"headers_file is longer than {_LONGEST_FILE} bytes")
    headers: dict[str, str] = {}
    for number, line in enumerate(content.decode("latin-1").splitlines(), 1):
        if not line.strip():
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise OutboundFailed(f"line {number} of headers_file is no `Name: value`")
        if found[1].lower() in _OURS:
            raise OutboundFailed(f"line {number} of headers_file names a header that is set here")
        headers[found[1]] = found[2]
    return headers
