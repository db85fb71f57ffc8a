"""Sockets, and how a listener starts and stops."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from router.web.context import GATEWAY

KEEPALIVE_SECONDS = 75.0
BACKLOG = 1024
QUIET_SECONDS = 1.0
"""A connection that stays silent for so long after the listener closed is not in the middle of anything."""
_LOOK_SECONDS = 0.05


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening; port 0 lets the system choose. OSError names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return bound


@asynccontextmanager
async def listening(
    app: web.Application, bound: socket.socket, drain_seconds: Callable[[], float]
) -> AsyncIterator[None]:
    """Serve `app` on `bound`; at the end answer what has arrived, for `drain_seconds` at most."""
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        auto_decompress=False,  # MLflow does none, and a bomb must not be unpacked here
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=_LOOK_SECONDS,  # the draining is done before it counts
    )
    await runner.setup()
    site = web.SockSite(runner, bound, backlog=BACKLOG)
    await site.start()
    try:
        yield
    finally:
        app[GATEWAY].stopping = True  # from now on every answer closes its connection
        await site.stop()
        await _drain(runner, app[GATEWAY].busy, drain_seconds())
        await runner.cleanup()


async def _drain(runner: web.AppRunner, busy: Callable[[], bool], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    quiet_since = loop.time()
    # A client may have sent a request on a kept-alive connection that we have not read yet: it is answered,
    # and the connection closes; only connections that stay silent are cut.
    while runner.server is not None and runner.server.connections and loop.time() < ends_at:
        if busy():
            quiet_since = loop.time()
        elif loop.time() - quiet_since > QUIET_SECONDS:
            return
        await asyncio.sleep(_LOOK_SECONDS)
