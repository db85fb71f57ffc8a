"""How long a gateway that is asked to stop goes on, and what it reports of what it did not wait for."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from router.app.run import GracefulShutdown
from router.core.events import ShutdownCutShort
from router.web.apps import traffic_app
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port
from tests.web.test_deliveries import asked, contexts, read  # noqa: F401 - a fixture, found by name

MUCH = 8 << 20
REQUEST = b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Request-Key: user-1\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def up(
    site: Site, tls: ssl.SSLContext | None = None, **server: float
) -> AsyncIterator[tuple[GracefulShutdown, int]]:
    """The end of a gateway with these settings, and its port; `/much` answers 8 MiB."""

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(MUCH))

    site.configure(server=server)
    app = traffic_app(site.gateway, observable=True)
    app.router.add_get("/much", much)
    async with listening_on_a_port(app, tls=tls) as (port, listener):
        yield GracefulShutdown(site.gateway, listener), port


async def is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return True


async def test_the_port_stays_open_for_the_least_time_though_nobody_sends(site: Site, slack: float) -> None:
    loop = asyncio.get_running_loop()
    async with up(site, drain_seconds=60.0, min_drain_seconds=3.0) as (shutdown, port):
        shutdown.start(waits_for_balancers=True)
        began_at, drain = loop.time(), loop.create_task(shutdown.drain())
        while await is_listening(port):
            await asyncio.sleep(0.05)
        assert 3.0 <= loop.time() - began_at < 4.0 * slack
        await drain


async def test_the_least_time_is_bounded_by_the_whole_time(site: Site, slack: float) -> None:
    loop = asyncio.get_running_loop()
    async with up(site, drain_seconds=1.0, min_drain_seconds=600.0) as (shutdown, port):
        began_at = loop.time()
        shutdown.start(waits_for_balancers=True)
        await shutdown.drain()
        assert loop.time() - began_at < 1.0 * slack
        assert not await is_listening(port)


@pytest.mark.parametrize("waits", [True, False])
async def test_an_abort_waits_for_no_balancer(site: Site, slack: float, waits: bool) -> None:
    loop = asyncio.get_running_loop()
    async with up(site, drain_seconds=600.0, min_drain_seconds=600.0) as (shutdown, _):
        began_at = loop.time()
        shutdown.start(waits_for_balancers=waits)
        drain = loop.create_task(shutdown.drain())
        await asyncio.sleep(0.05)
        shutdown.abort()
        await drain
        assert loop.time() - began_at < 1.0 * slack


async def test_what_a_shutdown_did_not_wait_for_is_reported(
    site: Site, world: FakeWorld, facts: Facts, slack: float
) -> None:
    """They get 503, and whoever reads the log knows how many they were."""
    world.held = True
    async with up(site, drain_seconds=1.0) as (shutdown, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await until(lambda: bool(world.workers[0].frames))
        await shutdown.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
    [left] = facts.of(ShutdownCutShort)
    assert (left.requests, left.unread) == (1, 0)
    assert 0.5 < left.seconds < 1.0 * slack


async def test_a_body_that_is_still_on_its_way_at_the_end_of_the_drain_is_answered_503(site: Site) -> None:
    async with up(site, drain_seconds=1.0) as (shutdown, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.replace(b"Content-Length: 2", b"Content-Length: 1000"))
        await until(lambda: bool(site.gateway.requests.under_way))
        await shutdown.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()


async def test_a_shutdown_that_waited_for_everybody_reports_nothing(site: Site, facts: Facts) -> None:
    async with up(site, drain_seconds=1.0) as (shutdown, _):
        await shutdown.drain()
    assert facts.of(ShutdownCutShort) == []


async def test_a_shutdown_waits_for_who_reads_a_large_answer_slowly(
    site: Site,
    facts: Facts,
    contexts: tuple[ssl.SSLContext | None, ...],  # noqa: F811 - the fixture, by its name
) -> None:
    """Whole, also what TLS keeps where the transport does not count it."""
    async with up(site, contexts[0], drain_seconds=30.0) as (shutdown, port):
        one = await asyncio.to_thread(asked, port, contexts[1])
        reading = asyncio.create_task(asyncio.to_thread(read, one, MUCH, 0.02))
        await shutdown.drain()
    assert await reading == MUCH
    assert facts.of(ShutdownCutShort) == []


async def test_a_shutdown_reports_who_did_not_read(site: Site, facts: Facts) -> None:
    async with up(site, drain_seconds=1.0) as (shutdown, port):
        one = await asyncio.to_thread(asked, port)
        await until(lambda: shutdown._listener.connections.unread == 1)
        await shutdown.drain()
        one.close()
    assert [(left.requests, left.unread) for left in facts.of(ShutdownCutShort)] == [(0, 1)]
