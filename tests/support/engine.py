"""A stand-in for an engine that serves one version elsewhere, and misbehaves as a test asks it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Headers = Mapping[str, str]
_HEADERS = {
    "binary": {"Inference-Header-Content-Length": "2"},
    "packed": {"Content-Type": "application/json", "Content-Encoding": "gzip"},
}


class Engine:
    """Answers on a port of its own, in the event loop of the test. Tests change its attributes."""

    def __init__(self, name: str = "m", version: int = 1) -> None:
        self.name, self.version = name, version
        self.ready = True
        self.tells: dict[str, Any] | None = {"name": name, "versions": [str(version)]}
        """What its metadata says; None: it has none."""
        self.manner = "well"
        """How it answers requests: well, late, half, endless, redirect, reset, binary, packed, no length,
        or a status such as 400."""
        self.answers = True
        """False: requests are held until it is True again; see `release`."""
        self.body: dict[str, Any] = {
            "outputs": [{"name": "p", "shape": [1], "datatype": "FP64", "data": [0.5]}]
        }
        self.asked: list[tuple[str, Headers, bytes]] = []
        """Path, headers and body of every POST."""
        self.probes = 0
        self.probes_answered = True
        self.closed_early = 0
        """Requests whose connection was closed before they were answered."""
        self.connections: set[int] = set()
        """Ports that POSTs came from."""
        self.port = 0
        self._released = asyncio.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def release(self) -> None:
        """Answer what is held, and all that comes."""
        self.answers = True
        self._released.set()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Engine"]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", self._infer)
        app.router.add_get("/{path:.*}", self._probe)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        self.probes += 1
        if not self.probes_answered:
            await asyncio.sleep(60)
        if request.path.endswith(("/ready", "/ping")):
            return web.Response(status=200 if self.ready else 503)
        if self.tells is None:
            return web.Response(status=404)
        return web.json_response(self.tells)

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.copy(), await request.read()))
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        try:
            if not self.answers:
                await self._released.wait()
            return await self._answer(request)
        except asyncio.CancelledError:
            self.closed_early += 1
            raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.manner.isdecimal():
            return web.json_response({"error": "no"}, status=int(self.manner))
        if self.manner == "redirect":
            return web.Response(status=307, headers={"Location": "/v2/models/other/infer"})
        if self.manner in _HEADERS:
            return web.Response(body=b"{}\0\0", headers=_HEADERS[self.manner])
        if self.manner == "no length":
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(self.body).encode()[:-5])
            request.transport.close()
        if self.manner == "late":
            await asyncio.sleep(60)
        if self.manner == "reset":
            assert request.transport is not None
            request.transport.abort()
        if self.manner in ("half", "endless"):
            response = web.StreamResponse()
            if self.manner == "half":
                response.content_length = 1000
            await response.prepare(request)
            await response.write(b'{"outputs": [')
            while self.manner == "endless":
                await response.write(b" " * 65536)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=json.dumps(self.body).encode(), content_type="application/json")
