"""Implements `Peers`: asks other gateways for their caps, and a name for their addresses.

Their answers are read strictly: a document that is not wholly as it should be counts for nothing.
"""

from typing import Annotated

import msgspec

from router.adapters.http.client import HttpClient, look_up
from router.control.exchange import Peer, PeerCaps
from router.core.caps import CapRecord, CapTarget, check_reason
from router.core.ids import Alias
from router.core.split import BUCKETS
from router.errors import OutboundFailed
from router.settings.model import check_model_name

PATH = "/v1/caps"
ASK_SECONDS = 2.0
MOST_BYTES = 1 << 20
"""Of one answer."""
LATEST = 4_102_444_800.0
"""2100-01-01: a clock that is off by years must not keep an abort from holding, so this is only a bound."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class _Cap(msgspec.Struct, frozen=True):
    model: _Name
    alias: _Name
    version: _Number | None
    counter: _Number
    to: Annotated[int, msgspec.Meta(ge=0, le=BUCKETS)] | None
    by: str
    reason: str
    at: Annotated[float, msgspec.Meta(ge=0, le=LATEST)]


class _Answer(msgspec.Struct, frozen=True):
    # Keys that a later version adds are passed over.
    gateway: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    caps: list[_Cap]


_DECODER = msgspec.json.Decoder(_Answer)


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
        answer = _DECODER.decode(raw)
        records: dict[CapTarget, CapRecord] = {}
        for cap in answer.caps:
            target = CapTarget(check_model_name(cap.model), Alias(cap.alias), cap.version)
            if not cap.alias.isprintable():
                raise ValueError("it names an alias that is none")
            if target in records:
                raise ValueError("it names a cap twice")
            by, reason = check_reason(cap.by), check_reason(cap.reason)
            records[target] = CapRecord(cap.counter, cap.to, by, reason, cap.at)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise OutboundFailed(f"its answer is not that of a gateway: {error}") from None
    return PeerCaps(answer.gateway, records)
