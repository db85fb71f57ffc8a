"""Implements `Peers`: asks other gateways for caps and evidence, and a name for its addresses.

What is asked and answered is signed. Answers are read strictly: a document that is not wholly as it should be
counts for nothing.
"""

import asyncio
import re
import secrets
from typing import Protocol

import orjson

from router.adapters.http.client import HttpAnswer, HttpClient, look_up
from router.control.exchange import Peer, PeerCaps
from router.control.exchange_messages import MOST_PACKED
from router.core.caps import MOST_BYTES, records_from_json
from router.core.signature import NONCE_BYTES, SIGNATURE_BYTES, signed_request, verified_answer
from router.errors import ConfigRefused, ExchangeUnknown, OutboundFailed

PATH = "/-/evidence"
CAPS_PATH = "/v1/caps"
"""Of gateways of a former version."""
ASK_SECONDS = 2.0
_PROCESS = re.compile("[0-9a-f]{16}")
_FORMER = (401, 404)
"""What a former version answers: it wants the admin token for whatever is posted, or, without one, knows no
such path. This version answers neither."""
_REFUSED = 403
"""What this version answers to a signature that is not by its key."""


class ExchangeKey(Protocol):
    """The key of this fleet."""

    async def read(self) -> bytes:
        """As it is now. Raises ConfigRefused."""


class PeerClient:
    """Asks other gateways. No token is ever sent."""

    def __init__(self, client: HttpClient, key: ExchangeKey | None) -> None:
        """Without a `key`, nobody can be asked to exchange."""
        self._client = client
        self._key = key

    async def exchange(self, peer: Peer, question: bytes) -> bytes:
        """What `peer` answers, signed by the key of this fleet. Raises OutboundFailed."""
        assert self._key is not None  # peers are not configured without one
        nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                key = await self._key.read()
                answer = await self._client.ask(
                    "POST",
                    peer.address + PATH,
                    seconds=ASK_SECONDS,
                    headers={"Content-Type": "application/octet-stream"},
                    body=signed_request(key, nonce, question),
                    most_bytes=SIGNATURE_BYTES + MOST_PACKED,
                    server_name=peer.server_name,
                )
        except TimeoutError:
            raise OutboundFailed(f"no answer within {ASK_SECONDS:g} s") from None
        except ConfigRefused:
            raise OutboundFailed("this gateway has no usable admin token now, by which to sign") from None
        _check_status(answer)
        try:
            return verified_answer(key, nonce, answer.body)
        except ValueError:
            raise OutboundFailed("its answer is not signed with the admin token that this one has") from None

    async def caps(self, peer: Peer) -> PeerCaps:
        """What `peer` knows of caps. Raises OutboundFailed."""
        answer = await self._client.ask(
            "GET",
            peer.address + CAPS_PATH,
            seconds=ASK_SECONDS,
            most_bytes=MOST_BYTES,
            server_name=peer.server_name,
        )
        if answer.status != 200:
            raise OutboundFailed(f"it answered {answer.phrase}")
        return decoded(answer.body)

    async def look_up(self, host: str, port: int) -> list[str]:
        """Each address of `host` once, as `host:port`. Raises OutboundFailed."""
        try:
            found = await look_up(host, port)
        except OSError as error:
            raise OutboundFailed(f"its name could not be looked up: {error.strerror}") from None
        return [f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for _, address in found]


def _check_status(answer: HttpAnswer) -> None:
    if answer.status in _FORMER:
        raise ExchangeUnknown(f"it answered {answer.phrase}")
    if answer.status == _REFUSED:
        raise OutboundFailed("it does not take what this gateway signs; both need the same admin token")
    if answer.status != 200:
        raise OutboundFailed(f"it answered {answer.phrase}")


def decoded(raw: bytes) -> PeerCaps:
    """The answer of a gateway. Raises OutboundFailed, quoting nothing of it, unless all of it is valid."""
    try:
        answer = orjson.loads(raw)
        if not isinstance(answer, dict):
            raise ValueError("it is no object")
        process, _host = answer.pop("gateway", None), answer.pop("host", None)
        if not isinstance(process, str) or not _PROCESS.fullmatch(process):
            raise ValueError("gateway: must be 16 hexadecimal digits")
        return PeerCaps(process, records_from_json(answer))
    except ValueError as error:
        raise OutboundFailed(f"its answer is not that of a gateway: {error}") from None
