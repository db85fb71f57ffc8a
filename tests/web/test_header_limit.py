"""How long the headers of a request may be, and what who sends longer ones is answered."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager

import pytest

from router.core.events import HeadersRefused, Rejected
from router.core.outcomes import RefusalReason
from router.web.apps import traffic_app
from router.web.listeners import Listener
from tests.support.fakes import Facts
from tests.support.raw_http import VERSION, RawResponse, exchange, get, post
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port

KIB = 1 << 10
JSON = b"Content-Type: application/json\r\nX-Request-Key: user-1\r\n"


def up(site: Site, **server: float) -> AbstractAsyncContextManager[tuple[int, Listener]]:
    site.configure(server=server)
    return listening_on_a_port(traffic_app(site.gateway, observable=True))


async def answer(port: int, raw: bytes, until: bytes | None = None) -> RawResponse:
    return await asyncio.to_thread(exchange, port, raw, until=until)


def header(name: bytes, size: int) -> bytes:
    return name + b": " + b"a" * size + b"\r\n"


def body_of(response: RawResponse) -> dict[str, str]:
    document: dict[str, str] = json.loads(response.raw.partition(b"\r\n\r\n")[2])
    return document


def too_large(facts: Facts) -> int:
    return facts.of(Rejected).count(Rejected("__other__", RefusalReason.HEADERS_TOO_LARGE))


@pytest.mark.parametrize(
    "headers",
    [
        header(b"Cookie", 9_000),
        header(b"Authorization", 60 * KIB),
        b"".join(header(b"X-%d" % number, 7 * KIB) for number in range(8)),
    ],
    ids=["cookies of 9 000 bytes", "a token of 60 KiB", "eight of 7 KiB"],
)
async def test_long_headers_are_answered(site: Site, facts: Facts, headers: bytes) -> None:
    async with up(site) as (port, _):
        seen = await answer(port, get(headers=headers) + VERSION, until=b"3.17")
        assert seen.statuses == [200, 200]
    assert too_large(facts) == 0


OVER = {
    "one of 70 KiB": header(b"Cookie", 70 * KIB),
    "ten of 7 KiB": b"".join(header(b"X-%d" % number, 7 * KIB) for number in range(10)),
    "101 of one byte": b"X: a\r\n" * 101,
    "a name of 70 KiB": header(b"a" * 70 * KIB, 1),
}


@pytest.mark.parametrize("headers", OVER.values(), ids=OVER)
async def test_headers_over_the_limit_are_answered_431_counted_and_reported(
    site: Site, facts: Facts, headers: bytes
) -> None:
    """In HTTP/1.1, whole, and with an id to ask for; nothing is read after it."""
    async with up(site) as (port, _):
        seen = await answer(port, get(headers=headers) + VERSION)
        assert seen.statuses == [431]
        assert seen.closed
        assert seen.raw.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        for line in (b"\r\nServer: canary-router\r\n", b"\r\nConnection: close\r\n", b"\r\nX-Request-Id: "):
            assert line in seen.raw
        assert "64 KiB" in body_of(seen)["detail"]
        await until(lambda: facts.of(HeadersRefused) == [HeadersRefused(1, 64)])
    assert too_large(facts) == 1


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (b"/invocations", {"error_code", "message", "sqlstate", "error_class", "request_id"}),
        (
            b"/models/sentiment/invocations?x=1",
            {"error_code", "message", "sqlstate", "error_class", "request_id"},
        ),
        (b"/v2/models/sentiment/infer", {"error"}),
        (b"/metrics", {"detail"}),
    ],
)
@pytest.mark.parametrize("headers", [OVER["one of 70 KiB"], OVER["ten of 7 KiB"]], ids=["one", "many"])
async def test_the_answer_has_the_shape_of_what_was_asked_for(
    site: Site, path: bytes, shape: set[str], headers: bytes
) -> None:
    async with up(site) as (port, _):
        seen = await answer(port, post(JSON + headers + b"Content-Length: 2\r\n", b"{}", path))
        assert seen.statuses == [431]
        assert set(body_of(seen)) == shape


async def test_headers_that_never_end_are_refused_when_they_are_over_the_limit(site: Site) -> None:
    """Whatever the pieces that they come in."""
    async with up(site, header_limit_kib=16) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v2/models/sentiment/infer HTTP/1.1\r\nHost: a\r\n")
        sent = 0
        while sent < 18 * KIB:
            writer.write(header(b"X", 990))
            sent += 1_000
            await asyncio.sleep(0.002)
        seen = await asyncio.wait_for(reader.read(), 10)
        assert seen.startswith(b"HTTP/1.1 431 ")
        assert b'{"error":' in seen
        writer.close()


async def test_who_still_sends_gets_to_read_the_answer(site: Site) -> None:
    """A connection that is closed while bytes come is reset, and the answer lost with it."""
    async with up(site) as (port, _):
        for _ in range(20):
            seen = await answer(port, get(headers=header(b"Cookie", 2 << 20)))
            assert seen.statuses == [431]


async def test_the_limit_can_be_set_and_holds_for_connections_opened_from_then_on(site: Site) -> None:
    async with up(site, header_limit_kib=8) as (port, _):
        assert (await answer(port, get(headers=header(b"Cookie", 9_000)))).statuses == [431]
        site.configure(server={"header_limit_kib": 128})
        seen = await answer(port, get(headers=header(b"Cookie", 100 * KIB)), until=b"ok\n")
        assert seen.statuses == [200]


async def test_bodies_do_not_count(site: Site, facts: Facts) -> None:
    """Neither one that comes with its headers, nor the next headers behind it."""
    long = post(JSON + b"Content-Length: %d\r\n" % (300 * KIB), b" " * 300 * KIB)
    chunked = post(
        JSON + b"Transfer-Encoding: chunked\r\n", (b"8000\r\n" + b" " * 32 * KIB + b"\r\n") * 9 + b"0\r\n\r\n"
    )
    async with up(site) as (port, _):
        seen = await answer(
            port, (long + chunked + get(headers=header(b"Cookie", 9_000))) * 2 + VERSION, until=b"3.17"
        )
        assert seen.statuses == [200, 200, 200, 200, 200, 200, 200]
    assert too_large(facts) == 0


async def test_an_earlier_request_is_answered_before_the_refusal(site: Site) -> None:
    async with up(site) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get())
        assert await reader.readuntil(b"ok\n")
        writer.write(get(headers=OVER["ten of 7 KiB"]))
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01 noise", get(headers=b"XA\r\n"), post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")],
)
async def test_what_is_no_request_is_counted_too(site: Site, facts: Facts, raw: bytes) -> None:
    async with up(site) as (port, _):
        assert (await answer(port, raw)).raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert facts.of(Rejected) == [Rejected("__other__", RefusalReason.MALFORMED)]
    assert facts.of(HeadersRefused) == []
