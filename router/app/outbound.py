"""What a gateway asks of others and sends to them by itself: the exchange of caps, and notifications."""

import os
import time
from typing import Any

from router.adapters.http.client import HttpClient
from router.adapters.http.peers import PeerClient
from router.adapters.http.webhooks import Sender, Webhook, receiver_names
from router.control.exchange import LOOK_UP_SECONDS, CapExchange, CapMerger
from router.control.fan_out import FanOut
from router.control.notifications import Chain, Notifier, Outbox
from router.control.periodic import PeriodicTask
from router.core.ids import GatewayId
from router.settings import SettingsInForce


class Outbound:
    """Both, and the HTTP client that they share. Nothing is asked or sent before `start` or once closed."""

    def __init__(
        self,
        in_force: SettingsInForce,
        recorder: FanOut,
        caps: CapMerger,
        journal: Chain,
        identity: GatewayId,
    ) -> None:
        """`identity` is that of the gateway that asks and sends."""
        settings = in_force.current
        client = HttpClient()
        self.receivers = receiver_names(settings.notify)
        """Names of those that get notifications, fit to be shown."""
        sender = Sender.of(settings.registry.addresses(os.environ)[0], identity.host)
        outboxes = [
            Outbox(name, receiver.events, Webhook(receiver, client, sender), recorder)
            for name, receiver in zip(self.receivers, settings.notify, strict=True)
        ]
        self._notifier = Notifier(outboxes, journal, time.time)
        if outboxes:
            recorder.add_deduplicated(self._notifier)
        self._exchange = exchange = CapExchange(
            settings.fleet,
            identity.process,
            PeerClient(client),
            caps,
            recorder,
            encrypted=settings.server.admin_tls is not None,
        )
        self.loops: list[PeriodicTask] = []
        """To be started and stopped with the gateway's others."""
        if settings.fleet.peers:
            self.loops.append(
                PeriodicTask(
                    "exchange", exchange.tick, lambda: in_force.current.fleet.exchange_seconds, recorder
                )
            )
        if exchange.has_name:
            self.loops.append(PeriodicTask("peer look-up", exchange.look_up, LOOK_UP_SECONDS, recorder))
        self._client = client

    async def start(self) -> None:
        """Begin to send; and take over what peers know, as far as they answer within 2 s."""
        self._notifier.start()
        await self._exchange.first()

    async def close(self) -> None:
        """Try what waits for a second at most, and end every connection."""
        await self._notifier.close()
        await self._client.close()

    def peers(self) -> dict[str, int]:
        """How many are reachable, and unreachable."""
        return self._exchange.reachable()

    def fleet(self) -> dict[str, Any]:
        """JSON-ready; see `CapExchange.describe`."""
        return self._exchange.describe()

    def warnings(self) -> list[str]:
        """Sentences about gateways that are not heard, and receivers that are not reached."""
        return [*self._exchange.warnings(), *self._notifier.warnings()]

    def notify(self) -> list[dict[str, Any]]:
        """JSON-ready; see `Notifier.describe`."""
        return self._notifier.describe()
