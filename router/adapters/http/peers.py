"""Implements `Peers`: asks other gateways for their caps, and a name for their addresses.

Their answers are read strictly: a document that is not wholly as it should be counts for nothing.
"""

import re

import orjson

from router.adapters.http.client import HttpClient, look_up
from router.control.exchange import Peer, PeerCaps
from router.core.caps import MOST_BYTES, records_from_json
from router.errors import OutboundFailed

PATH = "/v1/caps"
ASK_SECONDS = 2.0
_PROCESS = re.compile("[0-9a-f]{16}")


class PeerClient:
    """Asks without a token: reading takes none, so none is ever sent."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def caps(self, peer: Peer) -> PeerCaps:
        """What `peer` knows. Raises OutboundFailed."""
        answer = await self._client.ask(
            "GET",
            peer.address + PATH,
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
