"""Large answers: who takes them slowly gets all, and who hardly takes them is cut off."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from msgspec.structs import replace

from router.core.events import AnswersCut
from router.core.outcomes import CutReason
from router.settings import Settings, SettingsInForce
from router.web.apps import traffic_app
from router.web.context import WebState
from router.web.deliveries import LARGE_BYTES, Delivery
from router.web.listeners import Certificate, Listener
from router.web.repeats import REPORT_SECONDS, Repeats
from tests.serving.conftest import V1, V2
from tests.support.fakes import Facts, FakeWorld, ok
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port
from tests.web.test_listeners import LOOPS, write_certificate

MIB = 1 << 20
GET = b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n"
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on each kind of loop: their transports buffer differently."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main)

    return run


@pytest.fixture(params=[False, True], ids=["HTTP", "TLS"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext | None, ...]:
    """The server's and the client's; None without TLS."""
    if not request.param:
        return None, None
    files = write_certificate(tmp_path, "a")
    return Certificate("server.tls", files).context, ssl.create_default_context(cafile=files.certificate_file)


PLAIN = (None, None)


def up(
    facts: Facts, *, size: int, tls: ssl.SSLContext | None = None, limit: int = 100, **server: float
) -> AbstractAsyncContextManager[tuple[int, Listener]]:
    """A gateway that answers `/much` with so many bytes."""

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(size))

    nothing = cast(Any, None)
    settings = Settings.model_validate({"models": {"sentiment": {}}, "server": server})
    parts = {part.name: nothing for part in fields(WebState) if _is_required(part)}
    gateway = WebState(**{**parts, "recorder": facts, "settings": SettingsInForce(settings)})
    app = traffic_app(gateway, observable=False)
    app.router.add_get("/much", much)
    return listening_on_a_port(app, limit=limit, tls=tls)


def _is_required(part: Field[Any]) -> bool:
    return part.default is MISSING and part.default_factory is MISSING


def connected(port: int) -> socket.socket:
    """A connection for which the kernel keeps little."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LARGE_BYTES)
    one.settimeout(30)
    one.connect(("127.0.0.1", port))
    return one


def asked(port: int, tls: ssl.SSLContext | None = None, times: int = 1) -> socket.socket:
    """A connection that asked for much."""
    plain = connected(port)
    one = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
    one.sendall(GET * times)
    return one


def read(one: socket.socket, size: int, pause: float = 0.0) -> int:
    """Bytes of the body that came, 64 KiB at a time; fewer than `size` where the connection was closed."""
    taken = b""
    with one, suppress(ConnectionResetError, ssl.SSLError):
        while len(taken.partition(b"\r\n\r\n")[2]) < size and (piece := one.recv(LARGE_BYTES)):
            taken += piece
            time.sleep(pause * len(piece) / LARGE_BYTES)
    return len(taken.partition(b"\r\n\r\n")[2])


def test_who_takes_an_answer_slowly_gets_all_of_it(
    run: Run, facts: Facts, contexts: tuple[ssl.SSLContext | None, ...]
) -> None:
    """8 MiB at 64 KiB each 50 ms take three times as long as a connection may be idle."""

    async def main() -> None:
        async with up(facts, size=8 * MIB, tls=contexts[0], idle_seconds=2.0) as (port, _):
            began_at = time.monotonic()
            one = await asyncio.to_thread(asked, port, contexts[1])
            assert await asyncio.to_thread(read, one, 8 * MIB, 0.05) == 8 * MIB
            assert time.monotonic() - began_at > 6

    run(main())
    assert facts.of(AnswersCut) == []


def test_who_takes_nothing_any_more_is_cut_off_counted_and_reported(
    run: Run, facts: Facts, contexts: tuple[ssl.SSLContext | None, ...], slack: float
) -> None:
    async def main() -> None:
        async with up(facts, size=8 * MIB, tls=contexts[0], idle_seconds=0.5) as (port, listener):
            one = await asyncio.to_thread(asked, port, contexts[1])
            await until(lambda: listener.connections.deliveries.held_bytes == 8 * MIB, 5 * slack)
            await until(lambda: len(listener.connections) == 0, 10 * slack)
            assert listener.connections.deliveries.held_bytes == 0
            assert await asyncio.to_thread(read, one, 8 * MIB) < 8 * MIB
            await until(lambda: facts.of(AnswersCut) == [AnswersCut(CutReason.TOO_SLOW, 1)], 5 * slack)

    run(main())


def test_small_answers_that_nobody_reads_have_the_same_time(run: Run, facts: Facts, slack: float) -> None:
    """A client that asks ahead, and does not read: what waits for it is more than one answer."""

    async def main() -> None:
        async with up(facts, size=60_000, idle_seconds=0.5) as (port, listener):
            one = await asyncio.to_thread(asked, port, times=30)
            await until(lambda: len(listener.connections) == 1, 5 * slack)
            await until(lambda: len(listener.connections) == 0, 10 * slack)
            one.close()
            await until(lambda: facts.of(AnswersCut) == [AnswersCut(CutReason.TOO_SLOW, 1)], 5 * slack)

    run(main())


def test_what_waits_for_clients_is_bounded_in_all_and_the_fast_are_spared(
    run: Run, facts: Facts, slack: float
) -> None:
    """Of eight clients that read nothing, those go that are too many; who reads gets all."""

    async def main() -> None:
        async with up(facts, size=8 * MIB, unsent_answers_mib=33) as (port, listener):
            deliveries = listener.connections.deliveries
            silent = [await asyncio.to_thread(asked, port) for _ in range(8)]
            reads = await asyncio.to_thread(asked, port)
            assert await asyncio.to_thread(read, reads, 8 * MIB) == 8 * MIB
            await until(lambda: deliveries.held_bytes == 4 * 8 * MIB, 10 * slack)
            for one in silent:
                one.close()
            await until(lambda: sum(cut.answers for cut in facts.of(AnswersCut)) > 0, 5 * slack)
            assert {cut.reason for cut in facts.of(AnswersCut)} == {CutReason.TOO_MANY_BYTES}

    run(main())


def test_one_answer_larger_than_the_bound_is_delivered(run: Run, facts: Facts) -> None:
    async def main() -> None:
        async with up(facts, size=4 * MIB, unsent_answers_mib=1) as (port, _):
            one = await asyncio.to_thread(asked, port)
            assert await asyncio.to_thread(read, one, 4 * MIB, 0.05) == 4 * MIB

    run(main())
    assert facts.of(AnswersCut) == []


def test_a_client_that_sends_no_more_gets_the_answer_that_is_being_written(run: Run, facts: Facts) -> None:
    async def main() -> None:
        async with up(facts, size=8 * MIB) as (port, listener):
            one = await asyncio.to_thread(asked, port)
            await until(lambda: listener.connections.deliveries.held_bytes > 0)
            one.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(read, one, 8 * MIB) == 8 * MIB
            await until(lambda: len(listener.connections) == 0)

    run(main())


def test_a_connection_is_idle_from_the_moment_its_large_answer_was_taken(
    run: Run, facts: Facts, slack: float
) -> None:
    """Not from when the answer was ready, which may be minutes ago."""

    async def main() -> None:
        async with up(facts, size=4 * MIB, idle_seconds=2.0) as (port, listener):
            one = await asyncio.to_thread(asked, port)
            kept = one.dup()
            assert await asyncio.to_thread(read, one, 4 * MIB, 0.05) == 4 * MIB
            taken_at = time.monotonic()
            await until(lambda: len(listener.connections) == 0, 10 * slack)
            assert time.monotonic() - taken_at > 1.9
            kept.close()

    run(main())
    assert facts.of(AnswersCut) == []


async def test_a_versions_large_answer_is_delivered_like_any_other(
    site: Site, world: FakeWorld, facts: Facts
) -> None:
    """Plain requests pass by the library; what is large of their answers does not."""
    for version in (V1, V2):
        world.answers[version] = replace(ok(version), body=bytes(8 * MIB))
    site.configure(server={"idle_seconds": 1.0})
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, listener):
        one = await asyncio.to_thread(connected, port)
        one.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
        await until(lambda: listener.connections.deliveries.held_bytes == 8 * MIB)
        assert await asyncio.to_thread(read, one, 8 * MIB, 0.02) == 8 * MIB
    assert facts.of(AnswersCut) == []


async def test_who_takes_an_answer_is_sent_away_after_who_idles(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a newcomer needs a place, and the answer was ready long before the other one's."""
    monkeypatch.setattr("router.web.connections._EVICTED_AT_ONCE", 1)
    async with up(facts, size=8 * MIB, limit=2) as (port, listener):
        connections = listener.connections
        reader = await asyncio.to_thread(asked, port)
        await until(lambda: connections.deliveries.held_bytes > 0)
        [reading] = connections._open
        reading.deadline -= 60  # as if it had read for a minute
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        idle_writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        await idle_reader.readuntil(b"ok\n")
        connections.sweep()
        _, newcomer = await asyncio.open_connection("127.0.0.1", port)
        assert await idle_reader.read() == b""
        assert reading in connections._open
        for writer in (idle_writer, newcomer):
            writer.close()
        reader.close()


@pytest.mark.parametrize(
    ("taken", "cut"),
    [
        ([0, LARGE_BYTES, 2 * LARGE_BYTES, 3 * LARGE_BYTES], [False] * 4),
        ([0, LARGE_BYTES - 1], [False, True]),
        ([0, 5 * LARGE_BYTES, 5 * LARGE_BYTES], [False, False, True]),
    ],
    ids=["as much as it has to", "a byte less", "much, and then nothing"],
)
def test_in_each_period_64_kib_are_to_be_taken(taken: list[int], cut: list[bool]) -> None:
    delivery = Delivery(8 * MIB)
    for number, (acknowledged, expected) in enumerate(zip(taken, cut, strict=True)):
        assert delivery.is_due(75.0 * number)
        assert delivery.took_too_little(acknowledged, 75.0 * number, 75.0) is expected
        assert not delivery.is_due(75.0 * number + 74.9) or expected


def test_what_repeats_is_reported_at_once_and_then_once_a_minute() -> None:
    repeats = Repeats()
    assert repeats.take(0.0) == {}
    repeats.add("a")
    assert repeats.take(1.0) == {"a": 1}
    for _ in range(3):
        repeats.add("a")
    repeats.add("b")
    assert repeats.take(1.0 + REPORT_SECONDS / 2) == {}
    assert repeats.take(1.0 + REPORT_SECONDS) == {"a": 3, "b": 1}
    assert repeats.take(1000.0) == {}
