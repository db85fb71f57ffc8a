"""What another gateway answers counts only where it is signed, and all of it is valid."""

import asyncio
import json
from typing import Any

import orjson
import pytest
from aiohttp import web

from router.adapters.http import peers as module
from router.adapters.http.client import HttpClient
from router.adapters.http.peers import PeerClient, decoded
from router.control.exchange import Peer, PeerCaps
from router.core.caps import MOST_BYTES, Caps, CapTarget, records_to_json
from router.core.ids import CANARY
from router.core.signature import exchange_key, signed_answer, verified_request
from router.errors import ConfigRefused, ExchangeUnknown, OutboundFailed
from tests.adapters.test_http_client import serving

ON_V8, ON_ALL = CapTarget("sentiment", CANARY, 8), CapTarget("sentiment", CANARY)
SAID = {"by": "alice", "reason": "bad", "at": 1e9}
GATEWAY = "00000000deadbeef"
CAP = {
    "model": "sentiment",
    "alias": "canary",
    "version": 8,
    "counter": 3,
    "to_percent": 0.0,
    "by": "alice",
    "reason": "bad",
    "timestamp": 1_764_340_000.5,
    "alert": "",
}


def answer(*caps: Any, **keys: Any) -> bytes:
    document = {"gateway": GATEWAY, "host": "gw-1", "format": 1, "records": list(caps), **keys}
    return json.dumps(document).encode()


def without(key: str) -> bytes:
    document = json.loads(answer(CAP))
    del document[key]
    return json.dumps(document).encode()


def test_an_answer_says_who_answers_and_what_it_knows() -> None:
    """As `/v1/caps` shows it; tests/e2e/test_fleet.py asks real ones."""
    caps = Caps().capped(ON_V8, 2_500, by="alice", reason="bad", at=1e9).capped(ON_ALL, 0, **SAID)
    caps = caps.lifted([ON_ALL], by="bob", reason="good", at=1e9)
    raw = orjson.dumps({"gateway": GATEWAY, "host": "gw-1", **records_to_json(caps)})

    assert decoded(raw) == PeerCaps(GATEWAY, caps.records)


WRONG: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"<html>Sign in</html>",
    "no object": b"[]",
    **{f"without {key}": without(key) for key in ("gateway", "format", "records")},
    "another id": answer(gateway="gw-1"),
    "an id in capitals": answer(gateway="DEADBEEFDEADBEEF"),
    "another format": answer(format=2),
    "caps that are none": answer(records=None),
    "deep": b"[" * 100_000,
    "twice": answer(CAP, CAP),
    **{
        f"{key}: {value!r}": answer(CAP, {**CAP, "version": None, key: value})
        for key, values in {
            "model": ["", "x" * 300, None, 3],
            "alias": ["", "production", "a\nb", None],
            "version": [0, -1, 2**60, "8", 1.5, True],
            "counter": [0, -1, 2**60, None, "1"],
            "to_percent": [-1, 100.001, "0", False, 0.0001],
            "by": ["", "a\nb", "x" * 501, None],
            "reason": ["", "x" * 501, None],
            "timestamp": [-1, 1e300, None, "now"],
            "more": [1],
        }.items()
        for value in values
    },
    "NaN": answer(CAP).replace(b"1764340000.5", b"NaN"),
}


@pytest.mark.parametrize("raw", WRONG.values(), ids=[name[:40] for name in WRONG])
def test_an_answer_that_is_not_wholly_valid_counts_for_nothing(raw: bytes) -> None:
    with pytest.raises(OutboundFailed, match="its answer is not that of a gateway") as failed:
        decoded(raw)

    assert len(str(failed.value)) < 200, "it quotes what it was sent"


class Key:
    """Of one fleet, as a file of a token gives it."""

    def __init__(self, token: bytes = b"a-token-of-some-length") -> None:
        self.key: bytes | str = exchange_key(token)
        """A text is why it can not be read."""

    async def read(self) -> bytes:
        if isinstance(self.key, str):
            raise ConfigRefused([self.key])
        return self.key


KEY = exchange_key(b"a-token-of-some-length")


def address(url: str) -> Peer:
    return Peer(url.partition("/T024")[0])


async def signed_by(key: bytes, request: web.Request, answer: bytes) -> web.Response:
    nonce, _ = verified_request(KEY, await request.read())
    return web.Response(body=signed_answer(key, nonce, answer))


async def test_a_gateway_of_a_former_version_is_asked_without_a_token_and_read_with_bounds(
    client: HttpClient,
) -> None:
    asked: list[web.Request] = []
    answers: list[web.Response] = [
        web.Response(body=answer(CAP)),
        web.Response(status=404),
        web.Response(body=answer(CAP) + b" " * MOST_BYTES),
        web.Response(status=302, headers={"Location": "/v1/caps"}),
    ]

    async def handler(request: web.Request) -> web.Response:
        asked.append(request)
        return answers.pop(0)

    peers = PeerClient(client, Key())
    async with serving(handler) as url:
        peer = address(url)
        assert len((await peers.caps(peer)).records) == 1
        for why in ("404 Not Found", "larger than 16384 KiB", "302 Found"):
            with pytest.raises(OutboundFailed, match=why):
                await peers.caps(peer)

    assert [(request.method, request.path) for request in asked] == [("GET", "/v1/caps")] * 4
    assert not any("Authorization" in request.headers or "Cookie" in request.headers for request in asked)


async def test_a_peer_is_asked_signed_and_without_a_token(client: HttpClient) -> None:
    asked: list[tuple[str, str, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        assert not {"Authorization", "Cookie"} & {*request.headers}
        nonce, question = verified_request(KEY, await request.read())
        asked.append((request.method, request.path, question))
        nonces.add(nonce)
        return web.Response(body=signed_answer(KEY, nonce, b"answer"))

    nonces: set[bytes] = set()
    peers = PeerClient(client, Key())
    async with serving(handler) as url:
        for _ in range(3):
            assert await peers.exchange(address(url), b"question") == b"answer"

    assert asked == [("POST", "/-/evidence", b"question")] * 3
    assert len(nonces) == 3, "an answer to one request would do for another one"


async def test_an_answer_that_is_not_signed_for_this_request_counts_for_nothing(client: HttpClient) -> None:
    recorded: list[bytes] = []

    async def right(request: web.Request) -> web.Response:
        response = await signed_by(KEY, request, b"answer")
        assert isinstance(response.body, bytes)
        recorded.append(response.body)
        return response

    async def of_another_key(request: web.Request) -> web.Response:
        return await signed_by(exchange_key(b"another-token-of-some-length"), request, b"answer")

    async def unsigned(request: web.Request) -> web.Response:
        return web.Response(body=b"answer")

    async def replayed(request: web.Request) -> web.Response:
        return web.Response(body=recorded[0])

    async def sent_back(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def none(request: web.Request) -> web.Response:
        return web.Response()

    peers = PeerClient(client, Key())
    async with serving(right) as url:
        await peers.exchange(address(url), b"question")
    for handler in (of_another_key, unsigned, replayed, sent_back, none):
        async with serving(handler) as url:
            with pytest.raises(OutboundFailed, match="its answer is not signed with the admin token"):
                await peers.exchange(address(url), b"question")


async def test_what_answers_otherwise_is_said_in_words(client: HttpClient) -> None:
    statuses = [403, 422, 503, 307, 401, 404]

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0), headers={"Location": "/elsewhere"}, body=b"secret")

    peers = PeerClient(client, Key())
    async with serving(handler) as url:
        for why in (
            "does not take what this gateway signs; both need the same admin token",
            "it answered 422 Unprocessable",
            "it answered 503 Service Unavailable",
            "it answered 307 Temporary Redirect",
        ):
            with pytest.raises(OutboundFailed, match=why) as failed:
                await peers.exchange(address(url), b"question")
            assert not isinstance(failed.value, ExchangeUnknown)
        for why in ("it answered 401 Unauthorized", "it answered 404 Not Found"):
            with pytest.raises(ExchangeUnknown, match=why):
                await peers.exchange(address(url), b"question")


async def test_a_peer_that_hangs_floods_or_sends_endless_headers_is_left_in_two_seconds(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_SECONDS", 0.3)
    over = asyncio.Event()

    async def hangs(request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async def hangs_half_way(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        await over.wait()
        return response

    async def floods(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    async def long_headers(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Long": "x" * 65_536})

    peers = PeerClient(client, Key())
    for handler, why in (
        (hangs, "no answer within"),
        (hangs_half_way, "no answer within"),
        (floods, "larger than 512 KiB"),
        (long_headers, "did not answer as HTTP"),
    ):
        async with serving(handler) as url:
            with pytest.raises(OutboundFailed, match=why):
                await peers.exchange(address(url), b"question")
            over.set()
        over.clear()


async def test_without_a_readable_token_nobody_is_asked(client: HttpClient) -> None:
    key = Key()
    key.key = "server.admin_token_file: can not be read: No such file or directory"

    with pytest.raises(OutboundFailed, match="no usable admin token"):
        await PeerClient(client, key).exchange(Peer("http://127.0.0.1:1"), b"question")


async def test_a_name_is_looked_up_with_each_of_its_addresses(client: HttpClient) -> None:
    found = await PeerClient(client, None).look_up("localhost", 8081)

    assert {*found} <= {"127.0.0.1:8081", "[::1]:8081"}
    assert found
    with pytest.raises(OutboundFailed, match="its name could not be looked up"):
        await PeerClient(client, None).look_up("x.invalid", 8081)
