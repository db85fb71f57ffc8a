"""Peers that hang, flood, lie or repeat: each is named, and what an honest one knows counts all the same."""

import asyncio
import random
import zlib
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from router.adapters.http import peers as peers_module
from router.adapters.http.client import HttpClient
from router.adapters.http.peers import PeerClient
from router.control import exchange as exchange_module
from router.control.exchange import FleetExchange
from router.control.exchange_messages import ExchangeMessages
from router.core.caps import CapRecord, CapTarget
from router.core.ids import CANARY, GatewayId
from router.core.outbound_events import PeerLost
from router.core.signature import exchange_key, signed_answer, verified_request
from router.settings import FleetSettings
from tests.adapters.test_http_client import Handler, serving
from tests.adapters.test_peers import KEY, Key
from tests.control.test_exchange_messages import Evidence, KnownCaps, cap, packed
from tests.support.fakes import Facts

HONEST_CAP = {CapTarget("sentiment", CANARY, 8): CapRecord(1, 0, "alice", "bad", 1e9)}
LIFT = cap(counter=9, to_percent=None, by="mallory", reason="trust me")
WRONG_KEY = exchange_key(b"another-token-of-some-length")
BOMB = zlib.compress(b"\0" * (64 << 20), 9)
RECORDED = signed_answer(KEY, b"o" * 16, packed(caps=[LIFT]))


def honest(evidence: Evidence) -> Handler:
    messages = ExchangeMessages(
        GatewayId("0" * 15 + "2", "gw-2"), KnownCaps(HONEST_CAP), evidence, lambda: 0.0
    )

    async def answer(request: web.Request) -> web.Response:
        nonce, question = verified_request(KEY, await request.read())
        return web.Response(body=signed_answer(KEY, nonce, await messages.answer(question)))

    return answer


def signed(body: bytes, key: bytes = KEY) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        nonce, _ = verified_request(KEY, await request.read())
        return web.Response(body=signed_answer(key, nonce, body))

    return answer


def unsigned(body: bytes, **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return answer


async def hangs(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def floods(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b"x" * 65_536)
    except ConnectionError:
        return response


async def sends_back(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def unsigned_former_version(request: web.Request) -> web.Response:
    """In between, to be asked for what is not signed."""
    if request.method == "POST":
        return web.Response(status=404)
    return web.json_response({"gateway": "0" * 16, "host": "gw", "format": 1, "records": [LIFT]})


HOSTILE: dict[str, tuple[Handler, str]] = {
    "hangs": (hangs, "no answer within"),
    "floods": (floods, "larger than 512 KiB"),
    "garbage": (unsigned(random.Random(7).randbytes(5_000)), "not signed"),
    "a page": (unsigned(b"<html>Sign in</html>"), "not signed"),
    "a zip bomb": (unsigned(BOMB), "not signed"),
    "unsigned": (unsigned(packed(caps=[LIFT])), "not signed"),
    "of another key": (signed(packed(caps=[LIFT]), WRONG_KEY), "not signed"),
    "recorded": (unsigned(RECORDED), "not signed"),
    "sent back": (sends_back, "not signed"),
    "64 KiB of header": (unsigned(b"", **{"X-Long": "x" * 65_536}), "did not answer as HTTP"),
    "a signed zip bomb": (signed(BOMB), "unpacks to more than 4 MiB"),
    "signed garbage": (signed(b"garbage"), "not packed as it should be"),
    "a signed page": (signed(zlib.compress(b"<html>")), "not valid"),
    "signed caps that are none": (signed(packed(caps=[LIFT, cap(counter=-1)])), "its caps are not valid"),
    "signed evidence that is none": (signed(packed(evidence=b"\xc1")), "its evidence is not valid"),
    "of another format": (signed(packed(format=9)), "in format 9"),
}


async def test_whatever_others_send_what_an_honest_peer_knows_counts_and_they_are_named(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(exchange_module, "ASKED_AT_ONCE", 100)
    mine, caps, facts = Evidence(b"mine"), KnownCaps(), Facts()
    async with AsyncExitStack() as stack:
        handlers = [handler for handler, _ in HOSTILE.values()]
        handlers += [unsigned_former_version, honest(Evidence(b"theirs"))]
        urls = [await stack.enter_async_context(serving(handler)) for handler in handlers]
        addresses = [url.partition("/T024")[0] for url in urls]
        exchange = FleetExchange(
            FleetSettings(peers=addresses),
            PeerClient(client, Key()),
            ExchangeMessages(GatewayId("0" * 15 + "1", "gw-1"), caps, mine, lambda: 0.0),
            facts,
            encrypted=False,
        )
        for _ in range(3):
            await exchange.tick()

    assert caps.known.records == HONEST_CAP
    assert mine.texts == {b"mine", b"theirs"}
    known = {peer["address"]: peer for peer in exchange.describe()["peers"]}
    lost = {event.peer: event.error for event in facts.events if isinstance(event, PeerLost)}
    for address, (name, (_, why)) in zip(addresses, HOSTILE.items(), strict=False):
        assert why in known[address]["error"], name
        assert why in lost[address], name
    assert len(facts.events) == len(HOSTILE), "once each, however often they do it"
    assert known[addresses[-2]]["exchanges"] == "caps"
    assert known[addresses[-1]]["error"] == ""
    assert len(exchange.warnings()) == len(HOSTILE) + 1


async def test_what_is_signed_by_a_former_key_is_named_until_both_have_the_same(client: HttpClient) -> None:
    """As while a token is rotated at one gateway after the other."""
    key, caps = Key(b"the-former-token-of-the-fleet"), KnownCaps()

    async def refuses(request: web.Request) -> web.Response:
        try:
            return await honest(Evidence())(request)
        except ValueError:
            return web.Response(status=403)

    async with serving(refuses) as url:
        exchange = FleetExchange(
            FleetSettings(peers=[url.partition("/T024")[0]]),
            PeerClient(client, key),
            ExchangeMessages(GatewayId("0" * 15 + "1", "gw-1"), caps, Evidence(), lambda: 0.0),
            Facts(),
            encrypted=False,
        )
        await exchange.tick()
        assert "both need the same admin token" in exchange.warnings()[0]
        assert caps.known.records == {}
        key.key = KEY
        await exchange.tick()
        assert exchange.warnings() == []
        assert caps.known.records == HONEST_CAP
