"""Large answers on their way: how slowly a client may take one, and how many bytes may wait in all."""

from typing import Protocol

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from router.core.outcomes import CutReason
from router.settings import ServerSettings

LARGE_BYTES = 1 << 16
"""An answer above it is delivered in pieces. So much of it a client has to take in every idle period."""
_JUDGED_AFTER_SECONDS = 0.5
PIECE_BYTES = 1 << 18
"""Handed to the transport at once; the next piece waits while the transport holds more than a little."""


class Client(Protocol):
    """The connection that an answer goes to."""

    @property
    def busy(self) -> bool:
        """True while a further request of it is being answered."""

    @property
    def acknowledged_bytes(self) -> int:
        """What its client has taken since it connected."""

    @property
    def has_unread(self) -> bool:
        """Whether its client has not taken all that was written."""

    def keep(self) -> None:
        """The client takes its answer, or has taken all of it: it is idle from now on, and no sooner."""


class DeliveryOwner(Protocol):
    """The listener that the clients came through."""

    @property
    def server(self) -> ServerSettings:
        """Settings in force now."""

    def cut(self, client: Client, reason: CutReason) -> None:
        """Close a connection in the middle of an answer."""


class Delivery:
    """One answer, or the answers that one client has not taken. Time comes in as an argument, in seconds."""

    def __init__(self, size: int) -> None:
        """`size` in bytes: what is kept for it until all is written."""
        self.size = size
        self._acknowledged: int | None = None
        """At the begin of the period; None before the first."""
        self._period_began_at = self._period_ends_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether `took_too_little` has to be asked now."""
        return self._acknowledged is None or now >= self._period_ends_at

    def took_too_little(self, acknowledged: int, now: float, idle_seconds: float) -> bool:
        """At the end of a period, whether less than 64 KiB were taken in it. Else the next one begins."""
        if self._acknowledged is not None and acknowledged - self._acknowledged < LARGE_BYTES:
            return True
        self._acknowledged = acknowledged
        self._period_began_at, self._period_ends_at = now, now + idle_seconds
        return False

    def wait_for_next_answer(self) -> None:
        """Another answer is being made: the period begins when it is ready."""
        self._acknowledged = None

    def rate(self, acknowledged: int, now: float) -> float | None:
        """Bytes a second that were taken in this period; None while it is too young for a judgement."""
        seconds = now - self._period_began_at
        if self._acknowledged is None or seconds < _JUDGED_AFTER_SECONDS:
            return None
        return (acknowledged - self._acknowledged) / seconds


class Deliveries:
    """The large answers of one listener that their clients have not taken as a whole.

    `begin` and `written` around the writing of each; `forget` when the connection is gone; `sweep` every
    second. A client that takes 64 KiB in every idle period gets all of its answer, however long that takes;
    whoever takes less is cut off at the end of the period. Where more than `unsent_answers_mib` wait in all,
    the slowest are cut off, but for one.
    """

    def __init__(self, owner: DeliveryOwner) -> None:
        self.held_bytes = 0
        """Of the answers that are not written yet."""
        self._owner = owner
        self._by_client: dict[Client, Delivery] = {}
        self._unwritten: set[Client] = set()

    def __contains__(self, client: Client) -> bool:
        return client in self._by_client

    def is_writing(self, client: Client) -> bool:
        """Whether an answer to `client` is not written as a whole."""
        return client in self._unwritten

    def begin(self, client: Client, size: int) -> Delivery:
        """An answer of `size` bytes is about to be written to `client`."""
        delivery = self._by_client[client] = Delivery(size)
        self._unwritten.add(client)
        self.held_bytes += size
        return delivery

    def written(self, client: Client, delivery: Delivery) -> None:
        """All of it was handed over."""
        if self._by_client.get(client) is delivery:
            self._let_go(client, delivery)

    def watch(self, client: Client) -> None:
        """Have an eye on a client that asked ahead: what it has not taken may be many small answers."""
        self._by_client.setdefault(client, Delivery(0))

    def forget(self, client: Client) -> None:
        """The connection is gone; without effect where nothing is delivered to it."""
        if (delivery := self._by_client.pop(client, None)) is not None:
            self._let_go(client, delivery)

    def sweep(self, now: float) -> None:
        """Cut off who takes too little, and let go who has taken all."""
        idle_seconds = self._owner.server.idle_seconds
        for client, delivery in list(self._by_client.items()):
            if client.busy:
                delivery.wait_for_next_answer()
            elif client not in self._unwritten and not client.has_unread:
                self.forget(client)
                client.keep()
            elif not delivery.is_due(now):
                continue
            elif delivery.took_too_little(client.acknowledged_bytes, now, idle_seconds):
                self._cut(client, CutReason.TOO_SLOW)
            else:
                client.keep()
        self._make_room(now)

    def _let_go(self, client: Client, delivery: Delivery) -> None:
        if client in self._unwritten:
            self._unwritten.remove(client)
            self.held_bytes -= delivery.size

    def _make_room(self, now: float) -> None:
        most = self._owner.server.unsent_answers_mib << 20
        if self.held_bytes <= most:
            return
        rates = {
            client: self._by_client[client].rate(client.acknowledged_bytes, now) for client in self._unwritten
        }
        judged = [(rate, client) for client, rate in rates.items() if rate is not None]
        judged.sort(key=lambda one: one[0])
        # Whatever a single answer takes, it is delivered.
        for _, client in judged[: len(self._unwritten) - 1]:
            if self.held_bytes > most:
                self._cut(client, CutReason.TOO_MANY_BYTES)

    def _cut(self, client: Client, reason: CutReason) -> None:
        self.forget(client)
        self._owner.cut(client, reason)


class LargeBody(Payload):
    """The body of an answer, written piece by piece as its client takes it."""

    _value: bytes

    def __init__(self, body: bytes, client: Client, deliveries: Deliveries) -> None:
        super().__init__(body)
        self._size = len(body)
        self._client = client
        self._deliveries = deliveries

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it. Raises ConnectionError when the client is gone, or was cut off."""
        deliveries, whole = self._deliveries, memoryview(self._value)
        delivery = deliveries.begin(self._client, len(whole))
        try:
            for start in range(0, len(whole), PIECE_BYTES):
                await writer.write(whole[start : start + PIECE_BYTES])
        finally:
            deliveries.written(self._client, delivery)
