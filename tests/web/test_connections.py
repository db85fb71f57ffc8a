"""How long clients may take, and how many there may be."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web

from router.core.events import Rejected
from router.core.outcomes import RefusalReason
from router.web import connections
from router.web.apps import traffic_app
from router.web.connections import HttpConnection
from router.web.listeners import Listener
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port

GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


Connect = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects, and sends the first bytes."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(port: int, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(first)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def read_all(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        pass


def oldest(up: Listener) -> HttpConnection:
    return min(up.connections._open, key=lambda one: one.deadline)


async def swept(up: Listener, seconds: float) -> None:
    """As if `seconds` had passed since a sweep."""
    up.connections.sweep()
    for one in up.connections._open:
        one.deadline -= seconds
    for delivery in up.connections.deliveries._by_client.values():
        delivery._period_ends_at -= seconds
    up.connections.sweep()
    await asyncio.sleep(0)


async def test_headers_that_drip_have_ten_seconds_and_a_byte_more_gains_no_time(
    site: Site, connect: Connect
) -> None:
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        reader, writer = await connect(port, GET)
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        writer.write(GET[:5])
        await until(lambda: oldest(up).deadline < up.connections.clock + connections.HEADER_SECONDS + 1)
        given = oldest(up).deadline
        writer.write(GET[5:9])
        await asyncio.sleep(0.05)
        assert oldest(up).deadline == given
        await swept(up, connections.HEADER_SECONDS - 1)
        assert len(up.connections) == 1
        await swept(up, 2)
        assert await reader.read() == b""


async def test_a_connection_that_never_speaks_has_ten_seconds(site: Site, connect: Connect) -> None:
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        reader, _ = await connect(port)
        await until(lambda: len(up.connections) == 1)
        await swept(up, connections.HEADER_SECONDS + 1)
        assert await reader.read() == b""


async def test_an_idle_connection_is_kept_for_idle_seconds(site: Site, connect: Connect) -> None:
    idle_seconds = site.gateway.settings.current.server.idle_seconds
    assert idle_seconds > 60  # what most load balancers keep theirs for
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        reader, writer = await connect(port, GET)
        await reader.readuntil(b"ok\n")
        await swept(up, idle_seconds - 0.5)
        writer.write(GET)
        await reader.readuntil(b"ok\n")
        await asyncio.sleep(0.1)  # an acknowledgement may take 40 ms; in a minute nobody is that slow
        await swept(up, idle_seconds + 0.5)
        assert await reader.read() == b""


async def test_idle_seconds_are_counted_from_the_answer_and_not_from_the_last_sweep(
    site: Site, connect: Connect
) -> None:
    """A changed setting counts from the next answer on."""
    loop = asyncio.get_running_loop()
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        for idle_seconds in (75.0, 600.0):
            site.configure(server={"idle_seconds": idle_seconds})
            up.connections.clock = loop.time() - 0.9
            asked_at = loop.time()
            reader, _ = await connect(port, GET)
            await reader.readuntil(b"ok\n")
            kept = max(up.connections._open, key=lambda one: one.deadline)
            assert asked_at + idle_seconds <= kept.deadline <= loop.time() + idle_seconds


async def test_a_request_may_take_as_long_as_it_takes(site: Site, world: FakeWorld, connect: Connect) -> None:
    """Its own deadlines end it; no sweep does."""
    world.held = True
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        reader, _ = await connect(
            port,
            b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Request-Key: user-1\r\nContent-Length: 2\r\n\r\n{}",
        )
        await until(lambda: any(one.busy for one in up.connections._open) and world.workers[0].frames)
        await swept(up, 3600)
        world.workers[0].release()
        assert (await reader.readuntil(b"v1")).startswith(b"HTTP/1.1 200")


async def test_an_answer_that_nobody_reads_is_thrown_away_with_its_connection(site: Site) -> None:
    """Closing alone would wait for the reader for ever; nor does a second answer pile up on the first."""

    async def much(_: web.Request) -> web.Response:
        made.append(1)
        return web.Response(body=bytes(8 << 20))

    made: list[int] = []
    app = traffic_app(site.gateway, observable=True)
    app.router.add_get("/much", much)
    async with listening_on_a_port(app) as (port, up):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n" * 30)
        await until(lambda: up.connections.pending() and oldest(up).unsent_bytes)
        await asyncio.sleep(0.1)
        assert len(made) == 1
        await swept(up, site.gateway.settings.current.server.idle_seconds + 1)
        await until(lambda: len(up.connections) == 0)
        with sock, pytest.raises(ConnectionResetError):
            read_all(sock)


async def test_beyond_the_limit_the_slowest_make_room_and_the_busy_stay(
    site: Site, world: FakeWorld, connect: Connect
) -> None:
    world.held = True
    request = b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Request-Key: user-1\r\nContent-Length: 2\r\n\r\n{}"
    async with listening_on_a_port(traffic_app(site.gateway, observable=True), limit=3) as (port, up):
        busy = [await connect(port, request) for _ in range(2)]
        await until(lambda: sum(one.busy for one in up.connections._open) == 2)
        silent, _ = await connect(port)
        await until(lambda: len(up.connections) == 3)
        good, _ = await connect(port, GET)
        assert (await good.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        assert await silent.read() == b""
        world.held = False
        world.workers[0].release_all()
        for reader, _ in busy:
            assert (await reader.readuntil(b"v1")).startswith(b"HTTP/1.1 200")


async def test_when_all_are_busy_a_newcomer_is_asked_to_come_back_and_counted(
    site: Site, world: FakeWorld, facts: Facts, connect: Connect
) -> None:
    world.held = True
    request = b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Request-Key: user-1\r\nContent-Length: 2\r\n\r\n{}"
    async with listening_on_a_port(traffic_app(site.gateway, observable=True), limit=1) as (port, up):
        first, _ = await connect(port, request)
        await until(lambda: any(one.busy for one in up.connections._open))
        newcomer, _ = await connect(port)
        reported = await newcomer.read()
        assert reported.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in reported
        assert facts.of(Rejected) == [Rejected("__other__", RefusalReason.OVERLOADED)]
        world.workers[0].release()
        assert (await first.readuntil(b"v1")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [10, 1 << 18, (1 << 18) + 1, 3 << 20])
async def test_a_body_that_is_hashed_in_a_thread_gets_the_bucket_it_would_get_here(
    traffic: Any, site: Site, size: int
) -> None:
    from router.core.split import bucket_of

    body = b"x" * size
    answer = await traffic.post("/invocations", data=BytesIO(body))
    assert answer.headers["X-Route-Bucket"] == str(bucket_of("sentiment", body))


async def test_a_salt_that_changes_while_a_body_is_hashed_counts() -> None:
    from router.core.split import Hashed, bucket_of

    key = Hashed(b"user-1", "sentiment", bucket_of("sentiment", b"user-1"))
    assert bucket_of("sentiment", key) == 62121
    assert bucket_of("other", key) == bucket_of("other", b"user-1")
