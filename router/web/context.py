"""What the handlers need, in one typed place."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from aiohttp import web

from router.control.alerts import AlertCaps
from router.control.caps import CapControl
from router.control.exchange_messages import ExchangeMessages
from router.control.fan_out import AnswerRecorder
from router.control.status import TrafficCounts
from router.core.events import RequestSample
from router.core.ids import GatewayId
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from router.settings import SettingsInForce
from router.web.incoming import BodiesUnderWay
from router.web.request_key import KeyParseLock


class InFlightRequests:
    """Prediction requests from their headers to their answers: what a stop waits for."""

    def __init__(self) -> None:
        self.under_way = 0
        self.last_at = 0.0
        """Loop time at which the last one came or was answered."""
        self._reading: set[asyncio.Timeout] = set()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        """One request begins."""
        self.under_way += 1
        self.last_at = self._loop.time()

    def __exit__(self, *_: object) -> None:
        """One request is answered."""
        self.under_way -= 1
        self.last_at = self._loop.time()

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """The reading of one body. Raises TimeoutError when it takes longer, or is stopped."""
        async with asyncio.timeout(seconds) as timeout:
            self._reading.add(timeout)
            try:
                yield
            finally:
                self._reading.discard(timeout)

    def stop_reading(self) -> None:
        """Wait for no body any more."""
        for timeout in self._reading:
            timeout.reschedule(0.0)


class Reloaded(Protocol):
    """A reload that was accepted."""

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration in force."""

    @property
    def changes(self) -> Sequence[str]:
        """Dotted paths that changed."""


class Reloader(Protocol):
    """Puts what the operator changed in force."""

    async def __call__(self) -> Reloaded:
        """Re-read the configuration now. Raises ConfigRefused."""


class RegistryLook(Protocol):
    """Has the registry looked at."""

    async def __call__(self) -> None:
        """Look now; returns when a look has ended that began after this was called."""


class CanaryResumer(Protocol):
    """Ends what keeps every canary off."""

    async def resume(self, why: str) -> str:
        """Canaries have their shares back, as far as no cap is there; returns why not, empty where done."""


def _ignore(_sampled: RequestSample) -> None:
    """Nobody wants to hear of single requests."""


@dataclass(slots=True)
class WebState:
    """One gateway as HTTP sees it."""

    models: ModelSet
    dispatcher: Dispatcher
    recorder: AnswerRecorder
    settings: SettingsInForce
    state: Callable[[], dict[str, Any]]
    """The document of `/v1/state`."""
    metrics: Callable[[str, Sequence[str]], tuple[bytes, str]]
    """Exposition for an Accept header and a `name[]` filter: body and content type."""
    reload: Reloader
    identity: GatewayId
    caps: CapControl
    exchange: ExchangeMessages
    """Answers what other gateways of the fleet ask."""
    alerts: AlertCaps
    break_glass: CanaryResumer
    look_at_registry: RegistryLook
    mlflow_version: str
    compare: Callable[[str | None], dict[str, Any]] = lambda _: {"models": {}}
    """The document of `/v1/compare`, of one model or of all."""
    plan: Callable[[str, Decimal], dict[str, Any]] = lambda model, _: {"model": model}
    """The document of `/v1/plan`, of a configured model and percent for its canary; else ValueError."""
    traffic: TrafficCounts = field(default_factory=TrafficCounts)
    requests: InFlightRequests = field(default_factory=InFlightRequests)
    bodies: BodiesUnderWay = field(default_factory=BodiesUnderWay)
    log_sample: Callable[[RequestSample], None] = _ignore
    """Gets the part of the prediction requests that `log.sample_requests` says."""
    key_parse_lock: KeyParseLock = field(default_factory=KeyParseLock)
    """Of bodies that take long to search for their key."""

    @property
    def first_model(self) -> str:
        """The one that is meant where a request names none: the first of the configuration."""
        return next(iter(self.settings.current.models))

    @property
    def ready(self) -> bool:
        """The answer of `/readyz`."""
        return self.models.ready and not self.traffic.stopping


GATEWAY: web.AppKey[WebState] = web.AppKey("gateway", WebState)
REQUEST_ID = web.RequestKey("request_id", str)
