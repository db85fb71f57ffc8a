"""The exchange of a fleet: each gateway asks its peers what they know of caps and of evidence, so that an
abort at one holds at all, and all come to one verdict.

Asking is enough: caps and records merge in any order and as often as one likes (`core/caps.py`,
`analysis/statistics/records.py`), and whoever answers changes nothing.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from router.control.exchange_messages import ExchangeMessages, Taken
from router.core.caps import CapRecord, CapTarget
from router.core.events import Recorder
from router.core.outbound_events import PeerFound, PeerLost
from router.core.redaction import redact
from router.errors import ExchangeUnknown, OutboundFailed
from router.settings import FleetSettings, PeerAddress

ASKED_AT_ONCE = 4
"""Peers that are asked in each exchange, drawn at random."""
LOOK_UP_SECONDS = 10.0
"""Between two look-ups of a name."""
STILL_ASKED_SECONDS = 60.0
"""So long an address that a name no longer has is asked: the gateway there may just be ending, with news."""
SELF_SECONDS = 60.0
"""So long an address that turned out to be this gateway's own is left out; one of a balancer leads elsewhere
later."""
FIRST_SECONDS = 2.0
"""For the first exchange, before anything is served."""
HANDED_TO = 2
"""Other gateways that have to have asked before this one ends, so that what it observed last is not lost."""
_LONGEST_LOOK_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Where another gateway is asked."""

    address: str
    """`http://host:port` or `https://host:port`, without credentials."""
    server_name: str | None = None
    """What its certificate has to name, where that is not the host of the address."""


@dataclass(frozen=True, slots=True)
class PeerCaps:
    """What a gateway answered that exchanges caps only."""

    gateway: str
    """Of the process: 16 hexadecimal digits, drawn at its start."""
    records: Mapping[CapTarget, CapRecord]


class Peers(Protocol):
    """The way to other gateways. Each request has 2 s."""

    async def exchange(self, peer: Peer, question: bytes) -> bytes:
        """What `peer` answers to `question`, both packed and signed on their way. Raises ExchangeUnknown
        where it is of a version that does not know of it, and OutboundFailed."""

    async def caps(self, peer: Peer) -> PeerCaps:
        """What `peer` knows of caps, unsigned. Raises OutboundFailed; then nothing of its answer counts."""

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        """Each address of `host` once, as `host:port`. Raises OutboundFailed."""


class Exchanged(StrEnum):
    """What a peer exchanges; values of `exchanges` in `/v1/state`."""

    EVIDENCE = "evidence"
    """Caps and evidence, signed."""
    CAPS = "caps"
    """Caps only: it is of a former version."""


@dataclass(slots=True)
class _Asked:
    """What is known of one address."""

    peer: Peer
    last_seen: float | None = None
    """When it last answered as a gateway; None: it never did."""
    error: str = ""
    """Why the last request came to nothing, or what of its answer does not count; empty when all is well."""
    answered: bool = False
    """Whether it answered the last request, as far as that counts."""
    self_until: float = 0.0
    """Until then it is taken for this gateway's own."""
    vanished_at: float | None = None
    """Since when the name no longer has it."""
    exchanges: Exchanged | None = None
    """As far as it answered yet."""
    has_more: bool = False
    """Whether its last answer could not hold all that it has."""


class FleetExchange:
    """Asks peers. `tick` and `look_up` are each called by a loop, one call at a time."""

    def __init__(
        self,
        fleet: FleetSettings,
        peers: Peers,
        messages: ExchangeMessages,
        recorder: Recorder,
        *,
        encrypted: bool,
    ) -> None:
        """`messages` are this gateway's; `encrypted`: peers without a scheme speak TLS."""
        self._peers = peers
        self._messages = messages
        self._recorder = recorder
        self._encrypted = encrypted
        self._loop = asyncio.get_running_loop()
        self._name = next((address for address in fleet.addresses if address.looked_up), None)
        self.look_up_error = ""
        """Why the last look-up of the name came to nothing; empty when it did not, or there is no name."""
        listed = [self._peer(address) for address in fleet.addresses if not address.looked_up]
        self._asked = {peer.address: _Asked(peer) for peer in listed}

    @property
    def has_name(self) -> bool:
        """Whether addresses come from a name that is looked up."""
        return self._name is not None

    async def first(self) -> None:
        """Ask until peers have no more to answer, for 2 s at most: a gateway that starts knows nothing of
        what came while it was away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self.look_up()
                async with asyncio.TaskGroup() as group:
                    for asked in self._drawn():
                        group.create_task(self._ask_for_all(asked))

    async def tick(self) -> None:
        """Ask four peers at most, side by side, and take over what they know."""
        async with asyncio.TaskGroup() as group:
            for asked in self._drawn():
                group.create_task(self._ask(asked))

    async def look_up(self) -> None:
        """Find which addresses the name has now. Where that fails, those known before stay."""
        if self._name is None:
            return
        try:
            async with asyncio.timeout(_LONGEST_LOOK_UP_SECONDS):
                found = await self._peers.look_up(self._name.host, self._name.port)
        except (OutboundFailed, TimeoutError) as failed:
            error = str(failed) or f"no answer within {_LONGEST_LOOK_UP_SECONDS:g} s"
            if not self.look_up_error:
                self._recorder.record(PeerLost(self._named, error))
            self.look_up_error = error
            return
        if self.look_up_error:
            self.look_up_error = ""
            self._recorder.record(PeerFound(self._named))
        self._take_addresses([self._peer(self._name, at) for at in found])

    async def hand_over(self, seconds: float) -> None:
        """Return when two other gateways have asked from now on, or the one that there is, or after
        `seconds`: what this one has then is not lost when it ends."""
        heard = [one for one in self._others() if one.exchanges is Exchanged.EVIDENCE and not one.error]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._messages.asked_by(min(HANDED_TO, len(heard)))

    def reachable(self) -> dict[str, int]:
        """Peers by whether they answered when they were last asked: `reachable`, `unreachable`."""
        others = self._others()
        answered = sum(1 for asked in others if asked.last_seen is not None and not asked.error)
        return {"reachable": answered, "unreachable": len(others) - answered}

    def describe(self) -> dict[str, Any]:
        """JSON-ready: of each peer its address, how many seconds ago it answered (null: never), what it
        exchanges (null: not known yet), and why the last request came to nothing; and why the look-up of the
        name did."""
        now = self._loop.time()
        peers = [
            {
                "address": asked.peer.address,
                "last_seen_seconds": None if asked.last_seen is None else round(now - asked.last_seen, 3),
                "exchanges": asked.exchanges,
                "error": redact(asked.error),
            }
            for asked in self._others()
        ]
        return {"peers": peers, "look_up_error": redact(self.look_up_error)}

    def warnings(self) -> list[str]:
        """A sentence for each gateway that is not heard, or not in all, and for a name without addresses."""
        lines = [
            _warning(asked)
            for asked in self._others()
            if asked.vanished_at is None and _is_heard_in_part(asked)
        ]
        if self.look_up_error:
            lines.append(f"other gateways are not found by {self._named}: {redact(self.look_up_error)}")
        return lines

    def _drawn(self) -> list[_Asked]:
        """Those that are asked now."""
        self._forget_vanished(self._loop.time())
        others = self._others()
        return random.sample(others, min(ASKED_AT_ONCE, len(others)))

    async def _ask_for_all(self, asked: _Asked) -> None:
        await self._ask(asked)
        while asked.has_more:
            await self._ask(asked)

    async def _ask(self, asked: _Asked) -> None:
        asked.answered = asked.has_more = False
        try:
            taken = await self._exchange(asked)
        except OutboundFailed as failed:
            self._failed(asked, str(failed))
            return
        except Exception as error:  # noqa: BLE001 - whatever a peer makes go wrong, the others are asked
            self._failed(asked, f"its answer could not be read: {type(error).__name__}")
            return
        now = self._loop.time()
        if taken.gateway == self._messages.gateway:
            asked.error = ""
            asked.self_until = now + SELF_SECONDS
            return
        asked.last_seen, asked.answered = now, True
        asked.has_more = taken.has_more
        if taken.refused:
            self._failed(asked, taken.refused)
        elif asked.error:
            asked.error = ""
            self._recorder.record(PeerFound(asked.peer.address))

    async def _exchange(self, asked: _Asked) -> Taken:
        """Ask once, and take over what is answered. Raises OutboundFailed, and then nothing of it counts."""
        try:
            asking = await self._messages.question()
            packed = await self._peers.exchange(asked.peer, asking.packed)
        except ExchangeUnknown:
            # Whoever stands between could answer so, to be asked for what it need not sign.
            if asked.exchanges is Exchanged.EVIDENCE:
                raise
            answer = await self._peers.caps(asked.peer)
            asked.exchanges = Exchanged.CAPS
            if answer.gateway != self._messages.gateway:
                self._messages.take_caps(answer.records)
            return Taken(answer.gateway)
        try:
            taken = await self._messages.take(packed, asking, asked.peer.address)
        except ValueError as error:
            raise OutboundFailed(f"its answer is not that of a gateway: {error}") from None
        asked.exchanges = Exchanged.EVIDENCE
        return taken

    def _failed(self, asked: _Asked, error: str) -> None:
        if not asked.error and asked.vanished_at is None:
            self._recorder.record(PeerLost(asked.peer.address, error))
        asked.error = error

    def _others(self) -> list[_Asked]:
        now = self._loop.time()
        return [asked for asked in self._asked.values() if asked.self_until <= now]

    def _take_addresses(self, found: Sequence[Peer]) -> None:
        now = self._loop.time()
        present = {peer.address for peer in found}
        for peer in found:
            self._asked.setdefault(peer.address, _Asked(peer)).vanished_at = None
        for address, asked in self._asked.items():
            if address not in present and asked.vanished_at is None:
                asked.vanished_at = now
        self._forget_vanished(now)

    def _forget_vanished(self, now: float) -> None:
        for address, asked in list(self._asked.items()):
            if asked.vanished_at is not None and now - asked.vanished_at >= STILL_ASKED_SECONDS:
                del self._asked[address]

    @property
    def _named(self) -> str:
        assert self._name is not None
        return f"dns:{self._name.host}:{self._name.port}"

    def _peer(self, address: PeerAddress, at: str | None = None) -> Peer:
        """That of `address`, or of `at`, which the name in it has."""
        encrypted = self._encrypted if address.encrypted is None else address.encrypted
        host = f"[{address.host}]" if ":" in address.host else address.host
        scheme = "https" if encrypted else "http"
        server_name = address.host if at is not None and encrypted else None
        return Peer(f"{scheme}://{at or f'{host}:{address.port}'}", server_name)


def _is_heard_in_part(asked: _Asked) -> bool:
    return bool(asked.error) or asked.exchanges is Exchanged.CAPS


def _warning(asked: _Asked) -> str:
    if asked.error and asked.answered:
        return f"the gateway at {asked.peer.address} answers, and not all of it counts: {redact(asked.error)}"
    if asked.error:
        return (
            f"the gateway at {asked.peer.address} does not answer, so its caps and its evidence are not known"
            f" here: {redact(asked.error)}"
        )
    return (
        f"the gateway at {asked.peer.address} is of a former version: its evidence is not known here, and of"
        " its caps only what lowers"
    )
