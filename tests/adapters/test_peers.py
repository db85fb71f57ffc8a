"""What another gateway answers counts only where all of it is valid."""

import json
from typing import Any

import pytest
from aiohttp import web

from router.adapters.http.client import HttpClient
from router.adapters.http.peers import MOST_BYTES, PeerClient, decoded
from router.control.exchange import Peer
from router.core.caps import CapRecord, CapTarget
from router.core.ids import CANARY
from router.errors import OutboundFailed
from tests.adapters.test_http_client import client, serving  # noqa: F401 - the fixture, found by name

GATEWAY = "00000000deadbeef"
CAP = {
    "model": "sentiment",
    "alias": "canary",
    "version": 8,
    "counter": 3,
    "to": 0,
    "by": "alice",
    "reason": "bad",
    "at": 1_764_340_000.5,
}


def answer(*caps: Any, **keys: Any) -> bytes:
    return json.dumps({"gateway": GATEWAY, "host": "gw-1", "caps": list(caps), **keys}).encode()


def test_an_answer_is_read_with_what_a_later_version_may_add() -> None:
    lifted = {**CAP, "version": None, "to": None, "counter": 4}
    known = decoded(answer(CAP, lifted, tomorrow={"more": 1}))

    assert known.gateway == GATEWAY
    assert known.records == {
        CapTarget("sentiment", CANARY, 8): CapRecord(3, 0, "alice", "bad", 1_764_340_000.5),
        CapTarget("sentiment", CANARY): CapRecord(4, None, "alice", "bad", 1_764_340_000.5),
    }


WRONG: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"<html>Sign in</html>",
    "no object": b"[]",
    "no gateway": json.dumps({"caps": []}).encode(),
    "another id": answer(gateway="gw-1"),
    "no caps": json.dumps({"gateway": GATEWAY}).encode(),
    "caps that are none": answer(caps=None),
    "deep": b"[" * 100_000,
    "twice": answer(CAP, CAP),
    **{
        f"{key}: {value!r}": answer({**CAP, key: value})
        for key, values in {
            "model": ["", "a/b", "x" * 300, None, 3],
            "alias": ["", "production", "a\nb", None],
            "version": [0, -1, 2**60, "8", 1.5, True],
            "counter": [0, -1, 2**60, None, "1"],
            "to": [-1, 100_001, 0.5, "0", False],
            "by": ["", "a\nb", "x" * 501, None],
            "reason": ["", " ", "x" * 501, None],
            "at": [-1, 1e300, None, "now"],
        }.items()
        for value in values
    },
    **{f"without {key}": answer({k: v for k, v in CAP.items() if k != key}) for key in CAP},
    "NaN": answer(CAP).replace(b"1764340000.5", b"NaN"),
}


@pytest.mark.parametrize("raw", WRONG.values(), ids=[name[:40] for name in WRONG])
def test_an_answer_that_is_not_wholly_valid_counts_for_nothing(raw: bytes) -> None:
    with pytest.raises(OutboundFailed, match="its answer is not that of a gateway") as failed:
        decoded(raw)

    assert len(str(failed.value)) < 200, "it quotes what it was sent"


async def test_a_peer_is_asked_without_a_token_and_read_with_bounds(client: HttpClient) -> None:  # noqa: F811
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
        for why in ("404 Not Found", "larger than 1024 KiB", "302 Found"):
            with pytest.raises(OutboundFailed, match=why):
                await peers.caps(peer)

    assert [(request.method, request.path) for request in asked] == [("GET", "/v1/caps")] * 4
    assert not any("Authorization" in request.headers or "Cookie" in request.headers for request in asked)


async def test_a_name_is_looked_up_with_each_of_its_addresses(client: HttpClient) -> None:  # noqa: F811
    found = await PeerClient(client).look_up("localhost", 8081)

    assert {*found} <= {"127.0.0.1:8081", "[::1]:8081"}
    assert found
    with pytest.raises(OutboundFailed, match="its name could not be looked up"):
        await PeerClient(client).look_up("x.invalid", 8081)
