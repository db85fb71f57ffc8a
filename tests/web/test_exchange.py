"""What other gateways ask is answered where it is signed, and changes nothing."""

import asyncio
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient

from router.control.exchange_messages import MOST_PACKED, ExchangeMessages, NoEvidence, Taken
from router.core.caps import CapRecord, CapTarget
from router.core.ids import CANARY, GatewayId
from router.core.signature import NONCE_BYTES, exchange_key, signed_request, verified_answer
from router.errors import ConfigRefused
from router.settings import FleetSettings, ServerSettings
from router.web.admin import VARIABLE, admin_token, fleet_key
from router.web.apps import admin_app
from tests.control.test_exchange_messages import KnownCaps
from tests.web.conftest import OurListener, Site

Client = TestClient[Any, Any]
TOKEN = "a-token-of-some-length"
KEY, NONCE = exchange_key(TOKEN.encode()), b"n" * NONCE_BYTES
PATH = "/-/evidence"
CAP = {CapTarget("sentiment", CANARY, 2): CapRecord(1, 0, "ann", "bad", 1e9)}
PEER = GatewayId("0" * 16, "gw-2")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
async def asked(site: Site, token_file: Path, aiohttp_client: Callable[..., Any]) -> Client:
    """The admin listener of a gateway that knows a cap."""
    site.caps.merge(CAP)
    token = admin_token(ServerSettings(admin_token_file=str(token_file)), {})
    return await aiohttp_client(OurListener(admin_app(site.gateway, token)))


def asker() -> tuple[ExchangeMessages, KnownCaps]:
    caps = KnownCaps()
    return ExchangeMessages(PEER, caps, NoEvidence(), lambda: 0.0), caps


async def refusal(client: Client, body: bytes, **request: Any) -> tuple[int, str]:
    answer = await client.post(PATH, data=body, **request)
    (problem,) = (await answer.json())["errors"]
    return answer.status, problem


async def test_who_signs_is_answered_signed_without_a_token(asked: Client) -> None:
    messages, caps = asker()

    asking = await messages.question()
    answer = await asked.post(PATH, data=signed_request(KEY, NONCE, asking.packed))

    assert answer.status == 200
    packed = verified_answer(KEY, NONCE, await answer.read())
    assert await messages.take(packed, asking, "gw-1") == Taken("00000000deadbeef")
    assert caps.known.records == CAP


async def test_a_request_that_is_sent_again_is_answered_again_and_changes_nothing(
    asked: Client, site: Site
) -> None:
    messages, _ = asker()
    request = signed_request(KEY, NONCE, (await messages.question()).packed)

    answers = [await (await asked.post(PATH, data=request)).read() for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert site.caps.known.records == CAP


async def test_who_does_not_sign_learns_nothing(asked: Client, caplog: pytest.LogCaptureFixture) -> None:
    question = (await asker()[0].question()).packed
    other = exchange_key(b"another-token-of-some-length")
    signed = signed_request(KEY, NONCE, question)
    for sent in (
        b"",
        question,
        signed_request(other, NONCE, question),
        signed[:-1],
        b"m" * NONCE_BYTES + signed[NONCE_BYTES:],
        b"x" * MOST_PACKED,
        zlib.compress(b"\0" * (32 << 20)),
    ):
        assert await refusal(asked, sent) == (
            403,
            "the request: it is not signed by this fleet's admin token",
        )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert (await refusal(asked, question, headers=headers))[0] == 403, "a token is no signature"
    refused = [record for record in caplog.records if "not signed" in record.message]
    assert len(refused) == 1, "whoever asks often could fill the log"


async def test_what_is_signed_and_not_valid_is_refused_by_what_is_wrong(asked: Client) -> None:
    bomb = zlib.compress(b"\0" * (32 << 20))
    for wrong, why in (
        (b"garbage", "not packed as it should be"),
        (bomb, "unpacks to more than 4 MiB"),
        (zlib.compress(msgspec.msgpack.encode({"format": 2})), "in format 2"),
        (zlib.compress(msgspec.msgpack.encode({"format": 1})), "not valid"),
    ):
        status, problem = await refusal(asked, signed_request(KEY, NONCE, wrong))
        assert status == 422
        assert why in problem


async def test_a_request_is_bounded_in_all_its_parts(asked: Client) -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 65_536

    assert (await refusal(asked, b"x" * (MOST_PACKED + 1_000)))[0] == 413
    assert (await refusal(asked, endless()))[0] == 413  # type: ignore[arg-type]
    answer = await asked.post(PATH, data=b"", headers={"X-Long": "x" * 65_536})
    assert answer.status == 431
    assert (await asked.get(PATH)).status == 405


async def test_a_body_that_does_not_come_is_not_waited_for(asked: Client, site: Site) -> None:
    site.configure(server={"body_timeout_seconds": 0.1})

    async def silent() -> Any:
        yield b"x"
        await asyncio.sleep(60)

    assert (await refusal(asked, silent()))[0] == 408  # type: ignore[arg-type]


async def test_a_rotated_token_is_the_key_at_once_and_a_lost_one_answers_nobody(
    asked: Client, token_file: Path
) -> None:
    question = (await asker()[0].question()).packed
    token_file.write_text("another-token-of-some-length")
    new = exchange_key(b"another-token-of-some-length")

    assert (await asked.post(PATH, data=signed_request(KEY, NONCE, question))).status == 403
    assert (await asked.post(PATH, data=signed_request(new, NONCE, question))).status == 200
    token_file.unlink()
    assert (await asked.post(PATH, data=signed_request(new, NONCE, question))).status == 503


async def test_a_gateway_without_a_token_answers_nobody(admin: Client) -> None:
    """And not with 404, at which it would be taken for one of a former version."""
    question = (await asker()[0].question()).packed

    status, problem = await refusal(admin, signed_request(exchange_key(b""), NONCE, question))

    assert status == 503
    assert "no admin token" in problem


def test_peers_take_an_admin_token(token_file: Path) -> None:
    fleet = FleetSettings(peers=["127.0.0.1:82"])

    with pytest.raises(
        ConfigRefused, match=f"fleet.peers: .* name it in server.admin_token_file, or set {VARIABLE}"
    ):
        fleet_key(fleet, admin_token(ServerSettings(), {}))
    assert fleet_key(FleetSettings(), None) is None
    for configured in (
        admin_token(ServerSettings(admin_token_file=str(token_file)), {}),
        admin_token(ServerSettings(), {VARIABLE: TOKEN}),
    ):
        assert fleet_key(fleet, configured) is not None
