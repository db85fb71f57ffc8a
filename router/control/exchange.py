"""The exchange of caps: each gateway asks its peers what they know, so that an abort at one holds at all.

Asking is enough: records merge in any order and as often as one likes (`core/caps.py`), and whoever answers
changes nothing.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from router.core.caps import CapRecord, CapTarget
from router.core.events import Recorder
from router.core.outbound_events import PeerFound, PeerLost
from router.core.redaction import redact
from router.errors import OutboundFailed
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
    """What a gateway answered."""

    gateway: str
    """Of the process: 16 hexadecimal digits, drawn at its start."""
    records: Mapping[CapTarget, CapRecord]


class Peers(Protocol):
    """The way to other gateways."""

    async def caps(self, peer: Peer) -> PeerCaps:
        """What `peer` knows, within 2 s. Raises OutboundFailed; then nothing of its answer counts."""

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        """Each address of `host` once, as `host:port`. Raises OutboundFailed."""


class CapMerger(Protocol):
    """Holds the caps of this gateway."""

    def merge(self, records: Mapping[CapTarget, CapRecord]) -> object:
        """Take what is news of `records`; it holds when this returns."""


@dataclass(slots=True)
class _Asked:
    """What is known of one address."""

    peer: Peer
    last_seen: float | None = None
    """When it last answered as a gateway; None: it never did."""
    error: str = ""
    """Why the last request came to nothing; empty when it did not."""
    self_until: float = 0.0
    """Until then it is taken for this gateway's own."""
    vanished_at: float | None = None
    """Since when the name no longer has it."""


class CapExchange:
    """Asks peers. `tick` and `look_up` are each called by a loop, one call at a time."""

    def __init__(
        self,
        fleet: FleetSettings,
        gateway: str,
        peers: Peers,
        caps: CapMerger,
        recorder: Recorder,
        *,
        encrypted: bool,
    ) -> None:
        """`gateway` is what this process calls itself; `encrypted`: peers without a scheme speak TLS."""
        self._gateway = gateway
        self._peers = peers
        self._caps = caps
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
        """Ask once, for 2 s at most: a gateway that starts knows no cap that was set while it was away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self.look_up()
                await self.tick()

    async def tick(self) -> None:
        """Ask four peers at most, side by side, and merge what they know."""
        self._forget_vanished(self._loop.time())
        others = self._others()
        async with asyncio.TaskGroup() as group:
            for asked in random.sample(others, min(ASKED_AT_ONCE, len(others))):
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

    def reachable(self) -> dict[str, int]:
        """Peers by whether they answered when they were last asked: `reachable`, `unreachable`."""
        others = self._others()
        answered = sum(1 for asked in others if asked.last_seen is not None and not asked.error)
        return {"reachable": answered, "unreachable": len(others) - answered}

    def describe(self) -> dict[str, Any]:
        """JSON-ready: of each peer its address, how many seconds ago it answered (null: never), and why the
        last request came to nothing; and why the look-up of the name did."""
        now = self._loop.time()
        peers = [
            {
                "address": asked.peer.address,
                "last_seen_seconds": None if asked.last_seen is None else round(now - asked.last_seen, 3),
                "error": redact(asked.error),
            }
            for asked in self._others()
        ]
        return {"peers": peers, "look_up_error": redact(self.look_up_error)}

    def warnings(self) -> list[str]:
        """A sentence for each gateway that is not heard, and for a name without addresses."""
        lines = [
            f"the gateway at {asked.peer.address} does not answer, so its caps are not known here:"
            f" {redact(asked.error)}"
            for asked in self._others()
            if asked.error and asked.vanished_at is None
        ]
        if self.look_up_error:
            lines.append(f"other gateways are not found by {self._named}: {redact(self.look_up_error)}")
        return lines

    async def _ask(self, asked: _Asked) -> None:
        try:
            answer = await self._peers.caps(asked.peer)
        except OutboundFailed as failed:
            self._failed(asked, str(failed))
            return
        except Exception as error:  # noqa: BLE001 - whatever a peer makes go wrong, the others are asked
            self._failed(asked, f"its answer could not be read: {type(error).__name__}")
            return
        now = self._loop.time()
        recovered, asked.error = bool(asked.error), ""
        if answer.gateway == self._gateway:
            asked.self_until = now + SELF_SECONDS
            return
        asked.last_seen = now
        self._caps.merge(answer.records)
        if recovered:
            self._recorder.record(PeerFound(asked.peer.address))

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
