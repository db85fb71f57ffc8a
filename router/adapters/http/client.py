"""One HTTP client for whatever the gateway asks of others by itself; the only module that knows aiohttp's.

It follows no redirect, asks through no proxy unless it is made for that, keeps no cookies and unpacks
nothing. Certificates are checked with the system's authorities (`SSL_CERT_FILE`). What goes wrong is said
without the address.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLCertVerificationError, SSLError
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from router.errors import OutboundFailed, OutboundTimeout
from router.processes.disk import DiskThreads

MOST_CONNECTIONS = 32
_CONNECTIONS_PER_HOST = 4
_KEPT_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
"""Until there is a connection, and as long for its TLS."""
_CHUNK = 1 << 16
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

in_outbound_thread = DiskThreads().run
"""As `in_disk_thread`, for a look-up of a name, or a read of a file with a secret.

In threads of its own: where a name server or a file system hangs, nothing else waits behind it, nor does the
exit.
"""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What another server answered."""

    status: int
    headers: Mapping[str, str]
    """By name, in any case of letters."""
    body: bytes
    """Empty when none was asked for."""

    @property
    def phrase(self) -> str:
        """The status in words, such as `503 Service Unavailable`."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)


class HttpClient:
    """Asks other servers, until it is closed."""

    def __init__(
        self,
        *,
        connections: int = MOST_CONNECTIONS,
        per_host: int = _CONNECTIONS_PER_HOST,
        kept_seconds: float = _KEPT_SECONDS,
        proxy: bool = False,
    ) -> None:
        """`kept_seconds`: how long an idle connection is kept for the next request. `proxy`: the proxies of
        the environment are used."""
        self._limits = connections, per_host
        self._kept_seconds = kept_seconds
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        seconds: float | None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        most_bytes: int = 0,
        server_name: str | None = None,
    ) -> HttpAnswer:
        """The answer, whatever its status, with a body of `most_bytes` at most; 0: the body is not read.

        `seconds` bound all of it; None: only the time until there is a connection is bounded. `server_name`
        is what the certificate has to name, where that is not the host of `url`. Raises OutboundFailed; of it
        OutboundTimeout.
        """
        try:
            async with self._open_session().request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=_proxy_of(url) if self._proxy else None,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS),
                server_hostname=server_name,
            ) as response:
                # A body that is not read is not waited for either: its connection ends with this block.
                content = await _read(response, most_bytes) if most_bytes else b""
                return HttpAnswer(response.status, response.headers, content)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            kind = OutboundTimeout if isinstance(error, asyncio.TimeoutError) else OutboundFailed
            raise kind(_sentence(error, seconds or _CONNECT_SECONDS)) from None

    async def close(self) -> None:
        """End every connection."""
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connections, per_host = self._limits
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    resolver=_Resolver(),
                    family=socket.AF_UNSPEC,
                    limit=connections,
                    limit_per_host=per_host,
                    keepalive_timeout=self._kept_seconds,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "canary-router", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._session


async def look_up(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[tuple[int, str]]:
    """Address family and address of each address of `host`, each once. Raises OSError."""
    try:
        found = await in_outbound_thread(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
    except UnicodeError:  # such as a part of over 63 letters
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return list(dict.fromkeys((int(kind), str(address[0])) for kind, _, _, _, address in found))


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for `url`.

    aiohttp's `trust_env` would also send what ~/.netrc holds.
    """
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


class _Resolver(AbstractResolver):
    """Looks names up in threads that nobody joins at the exit; aiohttp's own are joined."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC)
            for kind, address in await look_up(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Connector(aiohttp.TCPConnector):
    """Uses no connection again on which something came while nothing was asked.

    It would be taken for the answer to the next request: a server that ends an idle connection may send 408
    first, and one that answers twice would give one caller what another one asked for.
    """

    async def _get(self, *of_request: Any) -> Any:
        while (kept := await super()._get(*of_request)) is not None:
            if kept.protocol is None or not kept.protocol.should_close:
                break
            kept.close()
        return kept


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > most_bytes:
            response.close()
            raise OutboundFailed(f"its answer is larger than {most_bytes >> 10} KiB")
    return bytes(content)


def _sentence(error: Exception, seconds: float) -> str:
    """Why nothing came of it. Texts of these errors name the address, so none is quoted."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name could not be looked up"
    if isinstance(error, aiohttp.InvalidURL):
        return "its address is not valid"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, SSLCertVerificationError):
        # What is behind the comma is the name that the certificate lacks.
        return f"its certificate is not trusted: {cause.verify_message.partition(',')[0]}"
    if isinstance(cause, SSLError):
        return f"TLS failed: {cause.reason or type(cause).__name__}"
    if isinstance(cause, OSError) and cause.errno:
        return f"it can not be reached: {os.strerror(cause.errno)}"
    return f"it did not answer as HTTP: {type(error).__name__}"
