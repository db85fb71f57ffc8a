"""The client that asks other servers: bounded in everything, and silent about addresses."""

import asyncio
import base64
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from router.adapters.http import client as module
from router.adapters.http.client import HttpClient
from router.errors import OutboundFailed
from router.processes.disk import DiskThreads
from tests.support.ports import free_port
from tests.web.test_listeners import write_certificate

SECRET = "T024/B077/secret"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server whose every path is answered by `handler`, and its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url(f"/{SECRET}"))
    finally:
        await server.close()


async def test_a_redirect_is_answered_and_not_followed(client: HttpClient) -> None:
    paths = []

    async def elsewhere(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with serving(elsewhere) as url:
        answer = await client.ask("POST", url, seconds=5, body=b"{}")

    assert answer.phrase == "307 Temporary Redirect"
    assert paths == [f"/{SECRET}"]


async def test_an_answer_beyond_its_bound_is_none_whatever_it_says_of_its_length(client: HttpClient) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    async with serving(endless) as url:
        with pytest.raises(OutboundFailed, match="its answer is larger than 64 KiB"):
            await client.ask("GET", url, seconds=5, most_bytes=65_536)


async def test_where_no_body_is_asked_for_none_is_waited_for(client: HttpClient) -> None:
    released = asyncio.Event()

    async def slow_body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        await released.wait()
        return response

    async with serving(slow_body) as url:
        answer = await client.ask("POST", url, seconds=5, body=b"{}")
        released.set()

    assert (answer.status, answer.body) == (202, b"")


async def test_what_is_compressed_is_not_unpacked(client: HttpClient) -> None:
    async def packed(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=b"\x1f\x8b bomb", headers={"Content-Encoding": "gzip"})

    async with serving(packed) as url:
        assert (await client.ask("GET", url, seconds=5, most_bytes=100)).body == b"\x1f\x8b bomb"


async def test_nothing_is_asked_through_a_proxy_of_the_environment(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)

    async def here(request: web.Request) -> web.Response:
        return web.Response(text="here")

    async with serving(here) as url:
        assert (await client.ask("GET", url, seconds=5, most_bytes=100)).body == b"here"


async def test_of_the_environment_only_proxies_are_used_and_no_credentials_of_netrc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked: list[tuple[str, str | None, str | None]] = []

    async def proxy(request: web.Request) -> web.Response:
        headers = request.headers
        asked.append((request.host, headers.get("Authorization"), headers.get("Proxy-Authorization")))
        return web.Response()

    client = HttpClient(proxy=True)
    try:
        async with serving(proxy) as url:
            monkeypatch.setenv("http_proxy", url)
            await client.ask("GET", "http://engine.example.com/", seconds=5)
            monkeypatch.setenv("http_proxy", url.replace("//", "//its:own@"))
            await client.ask("GET", "http://engine.example.com/", seconds=5)
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            await client.ask("GET", url, seconds=5)
    finally:
        await client.close()

    own = "Basic " + base64.b64encode(b"its:own").decode()
    here = urlsplit(url).netloc
    assert asked == [
        ("engine.example.com", None, None),
        ("engine.example.com", None, own),
        (here, None, None),
    ]


async def test_a_certificate_that_the_system_does_not_trust_is_refused(
    client: HttpClient, tmp_path: Path
) -> None:
    files = write_certificate(tmp_path, "peer")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_file, files.key_file)
    asked = []

    async def noting(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with serving(noting, context) as url:
        with pytest.raises(OutboundFailed, match="its certificate is not trusted: self-signed certificate"):
            await client.ask("POST", url, seconds=5, body=b"{}")
    assert asked == []


async def refused(client: HttpClient) -> None:
    await client.ask("GET", f"http://127.0.0.1:{free_port()}/{SECRET}", seconds=5)


async def refused_by_name(client: HttpClient) -> None:
    """Of a name with two addresses, aiohttp joins the texts of both errors."""
    await client.ask("GET", f"http://localhost:{free_port()}/{SECRET}", seconds=5)


async def unknown(client: HttpClient) -> None:
    await client.ask("GET", f"http://{'x' * 64}.invalid/{SECRET}", seconds=5)


async def no_address(client: HttpClient) -> None:
    await client.ask("GET", f"http:///{SECRET}", seconds=5)


async def silent(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await client.ask("GET", f"http://127.0.0.1:{port}/{SECRET}", seconds=0.05)


async def no_http(client: HttpClient) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await client.ask("GET", f"http://127.0.0.1:{port}/{SECRET}", seconds=5)


async def plain_for_tls(client: HttpClient) -> None:
    async def here(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(here) as url:
        await client.ask("GET", url.replace("http:", "https:"), seconds=5)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (refused, "it can not be reached: Connection refused"),
        (refused_by_name, "it can not be reached: Connection refused"),
        (unknown, "its name could not be looked up"),
        (no_address, "its address is not valid"),
        (silent, "no answer within 0.05 s"),
        (no_http, "it did not answer as HTTP: "),
        (plain_for_tls, "TLS failed: "),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_what_went_wrong_is_said_without_the_address(
    client: HttpClient, attempt: Callable[[HttpClient], Awaitable[None]], sentence: str
) -> None:
    """Neither in its text, nor in what a traceback would show of its causes."""
    with pytest.raises(OutboundFailed) as failed:
        await attempt(client)

    assert str(failed.value).startswith(sentence)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    for hidden in (SECRET, "secret", "127.0.0.1", "localhost", "::1"):
        assert hidden not in str(failed.value)


async def test_a_name_server_that_hangs_keeps_only_its_own_request(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns, other names are found, and the thread is one that nobody joins at the exit."""
    released, real = threading.Event(), socket.getaddrinfo
    threads: list[threading.Thread] = []

    def slow(host: str, *rest: object) -> object:
        if host == "slow.example.com":
            threads.append(threading.current_thread())
            released.wait(60)
        return real("127.0.0.1", *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(module, "in_outbound_thread", DiskThreads(most=4).run)

    async def here(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(here) as url:
        began = time.monotonic()
        slow_one = asyncio.create_task(client.ask("GET", "http://slow.example.com/", seconds=0.2))
        other = await client.ask("GET", url.replace("127.0.0.1", "quick.example.com"), seconds=5)
        with pytest.raises(OutboundFailed, match=r"no answer within 0\.2 s"):
            await slow_one
        took = time.monotonic() - began
    released.set()

    assert other.status == 200
    assert took < 60
    assert all(thread.daemon for thread in threads)
    assert threads


# What no server of HTTP sends


@asynccontextmanager
async def sending(*scripts: Sequence[bytes]) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that sends the parts of a script for each request, a moment apart, and its address; with how
    many requests each of its connections had. The last script is that of all further requests."""
    requests: list[int] = []
    answering: set[asyncio.Task[Any]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(0)
        place, task = len(requests) - 1, asyncio.current_task()
        assert task is not None
        answering.add(task)
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: 2" in head:
                    await reader.readexactly(2)
                requests[place] += 1
                for part in scripts[min(sum(requests), len(scripts)) - 1]:
                    if part is END:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.02)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", requests
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering)


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
STALE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nstale"
END = b"end"


@pytest.mark.parametrize("first", [(GOOD, STALE), (GOOD + STALE,)], ids=["later", "at once"])
async def test_what_comes_while_nothing_is_asked_answers_no_request(
    client: HttpClient, first: Sequence[bytes]
) -> None:
    """Servers that end idle connections send 408 first; what answers twice would answer somebody else."""
    async with sending(first, (GOOD,)) as (url, requests):
        for _ in range(4):
            answer = await client.ask("POST", url, seconds=5, body=b"{}", most_bytes=1000)
            assert (answer.status, answer.body) == (200, b"{}")
            await asyncio.sleep(0.1)

    assert requests == [1, 3]


OPEN = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OPEN + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        *((OPEN, *[(b"X-A: " + b"a" * 4000 + b"\r\n") * 40] * 5), (OPEN, *[b"a: b\r\n" * 100] * 50)),
        *(
            (OPEN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",),
            (OPEN + b"Content-Length: -2\r\n\r\n{}",),
        ),
        *(
            (OPEN + b"Content-Length: 20\r\n\r\n{}", END),
            (CHUNKED + b"2\r\n{}\r\n", END),
            (CHUNKED + b"2\r\n{", END),
        ),
        (OPEN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", *[(b"X-A: " + b"a" * 4000 + b"\r\n") * 40] * 5),
        *((GOOD + b"more",), (b"\0\0\x12\4\0\0\0\0\0",), (b"200 OK\r\n\r\n",), (b"SSH-2.0\r\n",), (END,)),
    ],
    ids=[
        *(
            "long headers",
            "many headers",
            "two lengths",
            "negative",
            "too short",
            "no last chunk",
            "half a chunk",
        ),
        *("length and chunks", "endless trailers", "too long", "HTTP/2", "no version", "SSH", "nothing"),
    ],
)
async def test_what_is_no_answer_of_http_is_none(client: HttpClient, parts: Sequence[bytes]) -> None:
    async with sending(parts) as (url, requests):
        with pytest.raises(OutboundFailed, match="did not answer as HTTP"):
            await client.ask("POST", url, seconds=5, body=b"{}", most_bytes=1000)

    assert requests == [1]  # and is asked once


@pytest.mark.parametrize(
    "parts",
    [
        (CHUNKED + b"2\r\n{}\r\n0\r\nX-A: b\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", GOOD),
        tuple(bytes([byte]) for byte in GOOD),
    ],
    ids=["trailers", "informational answers", "byte by byte"],
)
async def test_an_unusual_answer_is_one(client: HttpClient, parts: Sequence[bytes]) -> None:
    async with sending(parts) as (url, requests):
        for _ in range(2):
            answer = await client.ask("POST", url, seconds=20, body=b"{}", most_bytes=1000)
            assert answer.body == b"{}"

    assert requests == [2]


async def test_a_pod_that_is_gone_is_passed_over_for_another_one_of_its_name(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that comes under the name is asked by new connections, as its look-up says by then."""
    async with sending((GOOD,)) as (url, requests):
        address = urlsplit(url)
        pods = ["127.0.0.9", "127.0.0.1"]

        async def looked_up(*_: Any) -> list[tuple[int, str]]:
            return [(socket.AF_INET, pod) for pod in pods]

        monkeypatch.setattr(module, "look_up", looked_up)
        answers = [
            await client.ask(
                "POST", f"http://pods.test:{address.port}/x", seconds=5, body=b"{}", most_bytes=9
            )
            for _ in range(3)
        ]

    assert [answer.body for answer in answers] == [b"{}"] * 3
    assert requests == [3]
