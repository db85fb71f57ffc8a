"""The live page in front of documents that a test writes; it is served by the gateway's own handler."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from router.web import page
from tests.page.documents import Document, compare, state


@dataclass
class Canned:
    """What the next request gets. `silent`: connections are cut."""

    url: str = ""
    state: Document = field(default_factory=state)
    compare: Document | None = field(default_factory=compare)
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """As at the start."""
        self.state, self.compare, self.silent, self.asked = state(), compare(), False, []


@contextmanager
def canned_gateway() -> Iterator[Canned]:
    """A server in a thread of its own."""
    canned = Canned()
    ready, stop = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        canned.asked.append(request.path)
        if canned.silent:
            assert request.transport is not None
            request.transport.abort()
        document = canned.state if request.path.endswith("/v1/state") else canned.compare
        return (
            web.json_response(document)
            if document is not None
            else web.json_response({"detail": "Not Found"}, status=404)
        )

    async def serve() -> None:
        app = web.Application()
        for path in ("", "/behind/a-proxy"):
            app.router.add_get(f"{path}/", page.show)
            app.router.add_get(f"{path}/v1/state", answer)
            app.router.add_get(f"{path}/v1/compare", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        canned.url = f"http://{host}:{port}"
        ready.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield canned
    finally:
        stop.set()
        thread.join(10)
