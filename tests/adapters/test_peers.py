"""What another gateway answers counts only where all of it is valid."""

import json
from typing import Any

import orjson
import pytest
from aiohttp import web

from router.adapters.http.client import HttpClient
from router.adapters.http.peers import PeerClient, decoded
from router.control.exchange import Peer, PeerCaps
from router.core.caps import MOST_BYTES, Caps, CapTarget, records_to_json
from router.core.ids import CANARY
from router.errors import OutboundFailed
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


async def test_a_peer_is_asked_without_a_token_and_read_with_bounds(client: HttpClient) -> None:
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

    peers = PeerClient(client)
    async with serving(handler) as url:
        peer = Peer(url.partition("/T024")[0])
        assert len((await peers.caps(peer)).records) == 1
        for why in ("404 Not Found", "larger than 16384 KiB", "302 Found"):
            with pytest.raises(OutboundFailed, match=why):
                await peers.caps(peer)

    assert [(request.method, request.path) for request in asked] == [("GET", "/v1/caps")] * 4
    assert not any("Authorization" in request.headers or "Cookie" in request.headers for request in asked)


async def test_a_name_is_looked_up_with_each_of_its_addresses(client: HttpClient) -> None:
    found = await PeerClient(client).look_up("localhost", 8081)

    assert {*found} <= {"127.0.0.1:8081", "[::1]:8081"}
    assert found
    with pytest.raises(OutboundFailed, match="its name could not be looked up"):
        await PeerClient(client).look_up("x.invalid", 8081)
