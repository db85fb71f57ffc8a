"""Connections that end while a request waits: what is dropped, and what is counted."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from router.core.events import Answered, FellBack
from router.core.ids import CANARY, PRODUCTION
from router.protocol.messages import Answer, Batching, PredictStatus
from router.serving.pool.pool import Pool
from router.web.apps import traffic_app
from router.web.listeners import Listener
from tests.serving.conftest import V1, V2
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port

CLOSE, RESET, END_OF_FILE = "close", "reset", "end of file"
WAYS = pytest.mark.parametrize("way", [CLOSE, RESET, END_OF_FILE])
ONE_BY_ONE = Batching(merges=False, why="a fake")


@pytest.fixture
def world() -> FakeWorld:
    """One request at a time per version, answered when the test says so."""
    return FakeWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}}, held=True, batching=ONE_BY_ONE)


def post(key: str = "user-1", body: bytes = b"{}") -> bytes:
    head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Request-Key: {key}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def hang_up(client: socket.socket, way: str) -> None:
    if way == END_OF_FILE:
        client.shutdown(socket.SHUT_WR)  # as `nc -N` does, which still reads
        return
    if way == RESET:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Clients:
    """Connections to one listener, and what its production version does for them."""

    def __init__(self, port: int, up: Listener, site: Site, world: FakeWorld, facts: Facts) -> None:
        self._port, self._site = port, site
        self.up, self.world, self.facts = up, world, facts
        self._open: list[socket.socket] = []

    async def send(self, data: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port))
        self._open.append(client)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, data)
        return client

    async def occupy(self) -> socket.socket:
        """A request that keeps production's only worker busy."""
        client = await self.send(post(body=b"ahead"))
        await until(lambda: self.predicted == [b"ahead"])
        return client

    async def answer(self, client: socket.socket) -> bytes:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(client, 1 << 16)

    @property
    def pool(self) -> Pool:
        return self._site.gateway.models.managers["sentiment"].harnesses[V1].pool

    @property
    def predicted(self) -> list[bytes]:
        return [query.body for frame in self.world.alive(V1)[0].frames for query in frame]

    @property
    def outcomes(self) -> list[tuple[str, int]]:
        return [(reported.outcome, reported.code) for reported in self.facts.of(Answered)]

    @property
    def unread(self) -> int:
        """Connections that nothing is read from at this moment."""
        transports = [one.transport for one in self.up.connections._open]
        return sum(one is not None and not one.is_reading() for one in transports)

    @property
    def in_flight(self) -> int:
        return sum(self._site.gateway.dispatcher.in_flight.values())

    def close(self) -> None:
        for client in self._open:
            client.close()


@pytest.fixture
async def clients(site: Site, world: FakeWorld, facts: Facts) -> AsyncIterator[Clients]:
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, up):
        with closing(Clients(port, up, site, world, facts)) as clients:
            yield clients


@WAYS
async def test_what_waits_leaves_the_queue_when_its_connection_ends(clients: Clients, way: str) -> None:
    await clients.occupy()
    gone = [await clients.send(post(body=b"gone")) for _ in range(5)]
    await until(lambda: clients.pool.queued == 5)
    last = await clients.send(post(body=b"last"))
    await until(lambda: clients.pool.queued == 6)
    for client in gone:
        hang_up(client, way)
    await until(lambda: clients.pool.queued == 1)
    await until(lambda: clients.in_flight == 2)
    assert clients.outcomes == [("abandoned", 499)] * 5

    clients.world.held = False
    clients.world.alive(V1)[0].release_all()
    assert (await clients.answer(last)).startswith(b"HTTP/1.1 200")
    await until(lambda: clients.in_flight == clients.pool.leases == 0)
    assert clients.predicted == [b"ahead", b"last"]


@WAYS
async def test_what_runs_already_runs_on_and_counts_as_abandoned(clients: Clients, way: str) -> None:
    hang_up(await clients.occupy(), way)
    await until(lambda: clients.outcomes == [("abandoned", 499)])
    assert (clients.in_flight, clients.pool.leases) == (0, 1), "its worker is still at it"
    clients.world.alive(V1)[0].release_all()
    assert clients.pool.leases == 0


@WAYS
async def test_requests_that_are_pipelined_behind_one_that_waits_are_dropped_with_it(
    clients: Clients, way: str
) -> None:
    await clients.occupy()
    gone = await clients.send(post(body=b"first") + post(body=b"second") + post(body=b"third"))
    await until(lambda: clients.pool.queued == 1)
    hang_up(gone, way)
    await until(lambda: clients.pool.queued == 0)
    clients.world.held = False
    clients.world.alive(V1)[0].release_all()
    await until(lambda: clients.in_flight == clients.pool.leases == 0)
    assert clients.predicted == [b"ahead"]


@WAYS
@pytest.mark.parametrize(
    "behind", [post(body=b"p") * 100, post(body=bytes(540 << 10))], ids=["many", "large"]
)
async def test_the_end_is_seen_behind_more_than_is_read_ahead(
    clients: Clients, way: str, behind: bytes
) -> None:
    """Nothing is read while a request waits and what came behind it fills the buffers."""
    await clients.occupy()
    gone = await clients.send(post(body=b"first") + behind)
    await until(lambda: clients.pool.queued == 1)
    await until(lambda: clients.unread == 1)
    clients.up.connections.sweep()
    assert clients.pool.queued == 1, "its client is still there"
    hang_up(gone, way)

    def swept() -> bool:
        clients.up.connections.sweep()
        return clients.pool.queued == 0

    await until(swept)
    clients.world.held = False
    clients.world.alive(V1)[0].release_all()
    await until(lambda: clients.in_flight == clients.pool.leases == 0)
    assert clients.predicted == [b"ahead"]


@WAYS
async def test_a_canary_that_fails_after_its_caller_hung_up_is_not_answered_by_production(
    clients: Clients, way: str
) -> None:
    world = clients.world
    world.answers[V2] = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
    gone = await clients.send(post("user-2"))
    await until(lambda: world.alive(V2)[0].frames)
    hang_up(gone, way)
    await until(lambda: clients.outcomes == [("abandoned", 499)])
    world.alive(V2)[0].release_all()
    await asyncio.sleep(0)

    assert clients.facts.of(FellBack) == []
    assert clients.predicted == []
    assert clients.in_flight == 0


async def test_a_connection_that_goes_on_has_its_next_request_answered(clients: Clients) -> None:
    """A caller that was answered waits for nothing until it asks again."""
    clients.world.held = False
    client = await clients.send(post())
    assert (await clients.answer(client)).startswith(b"HTTP/1.1 200")
    await asyncio.get_running_loop().sock_sendall(client, post())
    assert (await clients.answer(client)).startswith(b"HTTP/1.1 200")
    client.close()
    await until(lambda: len(clients.up.connections) == 0)
    assert clients.outcomes == [("ok", 200)] * 2
