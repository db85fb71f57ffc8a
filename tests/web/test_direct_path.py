"""Plain prediction requests that pass by the library, and others beside them on one connection."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage

from router.core.events import Answered, Rejected
from router.core.outcomes import RefusalReason
from router.protocol.messages import ScoringProtocol
from router.web.apps import traffic_app
from router.web.direct_path import DirectPath
from router.web.header_limit import HeaderLimit
from router.web.listeners import Listener
from tests.support.fakes import Facts
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port

MLFLOW, INFERENCE = ScoringProtocol.MLFLOW, ScoringProtocol.V2


def head(path: str = "/invocations", *lines: str, method: str = "POST", length: int | None = 2) -> bytes:
    sized = [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *sized, *lines, "", ""]).encode()


def message(raw: bytes) -> RawRequestMessage:
    """As the parser of a connection makes it."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop, None), loop, 1 << 16, auto_decompress=False)
    [(made, _)], _, _ = parser.feed_data(raw)
    return made


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/invocations", ("sentiment", MLFLOW)),
        ("/models/churn-2.b/invocations", ("churn-2.b", MLFLOW)),
        ("/v2/models/churn/infer", ("churn", INFERENCE)),
        ("/models/a%20b/invocations", None),
        ("/models//invocations", None),
        ("/models/churn/aliases/canary/invocations", None),
        ("/v2/models/churn/versions/3/infer", None),
        ("/invocations?key=1", None),
        ("/invocations/", None),
        ("/ping", None),
    ],
)
async def test_paths_of_a_models_split_are_taken_and_no_others(
    site: Site, path: str, target: tuple[str, ScoringProtocol] | None
) -> None:
    assert DirectPath(site.gateway).target(message(head(path) + b"{}")) == target


@pytest.mark.parametrize(
    "raw",
    [
        head(method="GET", length=None),
        head("/invocations", "Expect: 100-continue"),
        head("/invocations", "Transfer-Encoding: chunked", length=None),
        head("/invocations", "Connection: close"),
        head("/invocations", "Connection: upgrade", "Upgrade: websocket"),
        head("/invocations", "Upgrade: h2c"),
        head().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["GET", "100 Continue", "chunks", "close", "upgrade", "offer of another protocol", "HTTP/1.0"],
)
async def test_what_needs_more_of_http_is_left_to_the_library(site: Site, raw: bytes) -> None:
    assert DirectPath(site.gateway).target(message(raw)) is None


class Client:
    """One connection, and the answers that come on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener: Listener
    ) -> None:
        self._reader, self._writer = reader, writer
        self.listener = listener

    def send(self, raw: bytes) -> None:
        self._writer.write(raw)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, body and head of the next answer."""
        async with asyncio.timeout(20):
            top = await self._reader.readuntil(b"\r\n\r\n")
            length = int(top.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(top.split()[1]), await self._reader.readexactly(length), top

    def reset(self) -> None:
        self._writer.transport.abort()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(20):
            return await self._reader.read() == b""


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    async with listening_on_a_port(traffic_app(site.gateway, observable=True)) as (port, listener):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            yield Client(reader, writer, listener)


async def test_requests_sent_ahead_are_answered_in_their_order_whichever_way_they_go(client: Client) -> None:
    plain, probe = head() + b"{}", head("/livez", method="GET", length=None)
    odd = head("/invocations", "Transfer-Encoding: chunked", length=None) + b"2\r\n{}\r\n0\r\n\r\n"
    client.send(plain + plain + probe + odd + plain)

    answers = [await client.answer() for _ in range(5)]

    assert [status for status, _, _ in answers] == [200] * 5
    assert [body[:1] for _, body, _ in answers] == [b"v", b"v", answers[2][1][:1], b"v", b"v"]
    assert [b"X-Model-Version" in top for _, _, top in answers] == [True, True, False, True, True]


async def test_a_body_may_come_after_its_head_and_in_pieces(client: Client, facts: Facts) -> None:
    for _ in range(3):
        client.send(head(length=6))
        await asyncio.sleep(0.01)  # so that the head is read alone
        client.send(b"{ ")
        await asyncio.sleep(0.01)
        client.send(b"   }")
        assert (await client.answer())[0] == 200
    assert len(facts.of(Answered)) == 3


async def test_what_the_parser_has_read_it_is_not_given_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was, for every body: a twentieth of the time of a request."""
    fed: list[bytes] = []
    feed = HeaderLimit.feed_data

    def count(self: HeaderLimit, data: bytes) -> Any:
        fed.append(data)
        return feed(self, data)

    monkeypatch.setattr(HeaderLimit, "feed_data", count)
    for _ in range(3):
        client.send(head() + b"{}")
        assert (await client.answer())[0] == 200

    assert fed == [head() + b"{}"] * 3


async def test_a_body_larger_than_what_is_buffered_is_read_to_its_end(client: Client) -> None:
    """While it waits for room, it is not read; then what was held back is."""
    large = b"{" + b" " * (3 << 20) + b"}"
    client.send(head(length=len(large)) + large + head() + b"{}")

    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]


async def test_a_body_that_is_late_is_waited_for_as_long_as_the_settings_say(
    client: Client, site: Site
) -> None:
    site.configure(server={"body_timeout_seconds": 1.5})
    client.send(head(length=6) + b"{")

    assert (await client.answer())[0] == 408


async def test_a_body_over_the_limit_is_refused_before_it_is_read(client: Client, site: Site) -> None:
    site.configure(server={"body_limit_mib": 1})
    client.send(head(length=2 << 20) + b"{")

    status, _, top = await client.answer()

    assert (status, b"Connection: close" in top) == (413, True)


async def test_an_error_of_the_version_or_of_ours_leaves_the_connection_open(client: Client) -> None:
    client.send(head("/models/nobody/invocations") + b"{}")
    assert (await client.answer())[0] == 404
    client.send(head("/v2/models/nobody/infer") + b"{}")
    assert (await client.answer())[0] == 404
    client.send(head() + b"{}")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", ["/invocations", "/models/sentiment/invocations?a=1"])
async def test_a_bug_of_ours_is_an_answer_with_the_requests_id_and_is_counted(
    client: Client, facts: Facts, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """On the direct path, and as the library has it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("router.web.invocations.read_key", fail)
    client.send(head(path, "X-Request-Id: mine") + b"{}")

    status, body, top = await client.answer()

    assert (status, b'"INTERNAL_ERROR"' in body, b"X-Request-Id: mine" in top) == (500, True, True)
    assert facts.of(Rejected) == [Rejected("sentiment", RefusalReason.INTERNAL)]


async def test_the_last_answer_of_a_gateway_that_stops_closes_the_connection(
    client: Client, site: Site
) -> None:
    site.gateway.traffic.stopping = True
    client.send(head() + b"{}" + head() + b"{}")

    status, _, top = await client.answer()

    assert (status, b"Connection: close" in top) == (200, True)
    assert await client.is_closed()


async def test_a_client_that_ends_in_the_middle_of_a_body_leaves_nothing_behind(client: Client) -> None:
    """No task that waits for the rest, and none that failed."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
    client.send(head(length=6) + b"{")
    await until(lambda: any(connection.busy for connection in client.listener.connections._open))
    client.reset()
    await until(lambda: len(client.listener.connections) == 0)
    await until(lambda: not [task for task in asyncio.all_tasks() if "start" in repr(task.get_coro())])
    gc.collect()
    assert failures == []
