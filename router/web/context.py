"""What the handlers need, in one typed place."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from router.core.events import Recorder
from router.serving.dispatch import Dispatcher
from router.serving.fleet import Fleet
from router.settings import Settings


class Reloaded(Protocol):
    """A reload that was accepted."""

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration in force."""

    @property
    def changes(self) -> Sequence[str]:
        """Dotted paths that changed."""


@dataclass(slots=True)
class Gateway:
    """One gateway as HTTP sees it."""

    fleet: Fleet
    dispatcher: Dispatcher
    recorder: Recorder
    settings: Callable[[], Settings]
    """The settings in force."""
    state: Callable[[], dict[str, Any]]
    """The document of `/v1/state`."""
    metrics: Callable[[str, Sequence[str]], tuple[bytes, str]]
    """Exposition for an Accept header and a `name[]` filter: body and content type."""
    reload: Callable[[], Awaitable[Reloaded]]
    """Re-read the configuration now. Raises ConfigRefused."""
    mlflow_version: str
    stopping: bool = False
    """True from the first signal to stop."""
    keyless: dict[str, int] = field(default_factory=dict)
    """Requests without a key, by model."""
    received: dict[str, int] = field(default_factory=dict)
    """Requests received, by model."""

    def busy(self) -> bool:
        """True while a prediction request is under way."""
        return any(self.dispatcher.in_flight.values())

    @property
    def ready(self) -> bool:
        """The answer of `/readyz`."""
        return self.fleet.ready and not self.stopping


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
REQUEST_ID = web.RequestKey("request_id", str)
