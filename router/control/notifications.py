"""Notifications: what waits for each receiver, and the one task that sends it, in order.

Nothing waits for a receiver. What happened is put into its queue within the same turn of the event loop; when
the queue is full the oldest goes, and is counted. A receiver that does not answer is asked again, at ever
longer intervals, and a notification that it did not take for an hour is given up.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from router.core.backoff import Backoff
from router.core.events import Event, Recorder
from router.core.notification import Notification, NotificationBuilder, NotificationKind
from router.core.outbound_events import NotificationResult, NotificationTried

MOST_WAITING = 1_000
"""Notifications of one receiver; then the oldest goes."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 120.0, 300.0)
"""Waits after the first, second, … failure in a row of one receiver; the last one repeats."""
GIVEN_UP_SECONDS = 3_600.0
"""After so long what a receiver did not take is not sent to it any more."""
STOP_SECONDS = 1.0
"""For what waits, when the gateway stops."""

_GIVEN_UP = "it was not taken for an hour"
_FULL = f"over {MOST_WAITING} notifications waited"
_STOPPED = "the gateway stopped"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one try to deliver ended."""

    result: NotificationResult
    """DELIVERED, REJECTED, or RETRIED where it is to be tried again."""
    why: str = ""
    """Without address or secret; empty when it was delivered."""
    retry_seconds: float = 0.0
    """How long the receiver wants to be left alone at least, where it said so."""


class Courier(Protocol):
    """Knows how one receiver is reached."""

    async def deliver(self, notification: Notification) -> Delivery:
        """One try, which takes a few seconds at most."""


class Outbox:
    """What waits for one receiver."""

    def __init__(
        self,
        receiver: str,
        kinds: Collection[NotificationKind],
        courier: Courier,
        recorder: Recorder,
        *,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        """`receiver` is its name, fit to be shown; it gets what is of `kinds`."""
        self.receiver = receiver
        self.kinds = frozenset(kinds)
        self.error = ""
        """Why the last try failed; empty when it did not."""
        self._courier = courier
        self._recorder = recorder
        self._backoff = Backoff(retry_seconds)
        self._waiting: deque[tuple[float, Notification]] = deque()
        """With the loop's time at which each came; the first one may be under way."""
        self._under_way = False
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Notifications that were not delivered yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to send."""
        self._task = self._loop.create_task(self._run(), name=f"notify {self.receiver}")

    def put(self, notification: Notification) -> None:
        """Send it after those that wait."""
        if self._closing.is_set():
            return
        if len(self._waiting) >= MOST_WAITING:
            # What is under way may be delivered in this very moment; it goes when that is known.
            del self._waiting[1 if self._under_way else 0]
            self._report(NotificationResult.DROPPED, _FULL)
        self._waiting.append((self._loop.time(), notification))
        self._arrived.set()

    async def close(self, seconds: float = STOP_SECONDS) -> None:
        """Try what waits, for `seconds` at most, and end; what is left is dropped."""
        self._closing.set()
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            self._report(NotificationResult.DROPPED, _STOPPED, len(self._waiting))
            self._waiting.clear()

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"receiver": self.receiver, "waiting": self.waiting, "error": self.error}

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._send_first()
                if self._closing.is_set() and self._backoff.failures:
                    return  # it had its last chance
                await self._wait()
            if self._closing.is_set():
                return

    async def _send_first(self) -> None:
        came, notification = self._waiting[0]
        if self._loop.time() - came >= GIVEN_UP_SECONDS:
            self._waiting.popleft()
            self._report(NotificationResult.EXPIRED, _GIVEN_UP)
            return
        self._under_way = True
        try:
            delivery = await self._deliver(notification)
        finally:
            self._under_way = False
        self.error = delivery.why
        if delivery.result is NotificationResult.RETRIED:
            self._backoff = self._backoff.failed(self._loop.time() + delivery.retry_seconds)
        else:
            self._backoff = self._backoff.reset()
            self._waiting.popleft()
        self._report(delivery.result, delivery.why)

    async def _deliver(self, notification: Notification) -> Delivery:
        try:
            return await self._courier.deliver(notification)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the sending
            # Not its text, which may hold the address.
            return Delivery(NotificationResult.RETRIED, f"it could not be sent: {type(error).__name__}")

    async def _wait(self) -> None:
        """Until the next try may begin, or the gateway stops."""
        seconds = self._backoff.not_before - self._loop.time()
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)

    def _report(self, result: NotificationResult, why: str, notifications: int = 1) -> None:
        self._recorder.record(NotificationTried(self.receiver, result, why, notifications))


class Chain(Protocol):
    """The lines of the journal."""

    @property
    def head(self) -> str:
        """Digest of the last line."""


class Notifier:
    """Implements `Recorder`: puts into the queue of each receiver what that wants to know.

    It repeats what it gets: put it where each piece of news comes once.
    """

    def __init__(self, outboxes: Sequence[Outbox], journal: Chain, wall: Callable[[], float]) -> None:
        """`wall` gives seconds since 1970."""
        self._outboxes = tuple(outboxes)
        self._journal = journal
        self._builder = NotificationBuilder()
        self._wall = wall

    def record(self, event: Event) -> None:
        """Queue what is to be sent because of `event`."""
        for notification in self._builder.notifications(event, self._wall()):
            # Whoever keeps it can ask later whether the chain that is shown still is the one of then.
            data = {**notification.data, "journal_head": self._journal.head}
            for outbox in self._outboxes:
                if notification.kind in outbox.kinds:
                    outbox.put(replace(notification, data=data))

    def start(self) -> None:
        """Begin to send."""
        for outbox in self._outboxes:
            outbox.start()

    async def close(self) -> None:
        """Try what waits for a second at most, and end."""
        await asyncio.gather(*(outbox.close() for outbox in self._outboxes))

    def describe(self) -> list[dict[str, Any]]:
        """JSON-ready, in the order of the configuration: `receiver`, `waiting`, `error`."""
        return [outbox.describe() for outbox in self._outboxes]

    def warnings(self) -> list[str]:
        """A sentence for each receiver that did not take the last notification."""
        return [
            f"notifications do not reach {outbox.receiver}: {outbox.error}; {outbox.waiting} wait"
            for outbox in self._outboxes
            if outbox.error
        ]
