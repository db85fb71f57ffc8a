"""Both listeners of a gateway in front of a fake world."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient
from aiohttp.web_runner import BaseRunner
from yarl import URL

from router.adapters.state.off_file import OffFile
from router.control.alerts import AlertCaps
from router.control.break_glass import BreakGlassWatch
from router.control.caps import CapControl
from router.core.ids import GatewayId
from router.errors import ConfigRefused
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from router.settings import Settings, SettingsInForce
from router.web.apps import admin_app, traffic_app
from router.web.connections import DIRECT_PATH
from router.web.context import WebState
from router.web.listeners import Listener, bind, listening
from tests.serving.conftest import facts, in_force, models, serving, world  # noqa: F401 - fixtures, by name
from tests.support.fakes import Facts


@dataclass
class Accepted:
    digest: str = "3f9c"
    changes: list[str] = field(default_factory=lambda: ["models.sentiment.split"])


class Site:
    """A gateway whose settings a test may change."""

    def __init__(
        self,
        models: ModelSet,  # noqa: F811 - as the fixture
        facts: Facts,  # noqa: F811 - as the fixture
        caps_in_force: CapsInForce,
    ) -> None:
        self.settings = Settings.model_validate(
            {"models": {"sentiment": {"split": {"production": 50, "canary": 50}}}}
        )
        self.in_force = SettingsInForce(self.settings)
        self.problems: list[str] = []
        self.looks = 0
        self.caps = CapControl(caps_in_force, models, facts, lambda: 1e9)
        self.gateway = WebState(
            models=models,
            dispatcher=Dispatcher(models, facts),
            recorder=facts,
            settings=self.in_force,
            state=lambda: {"version": "0"},
            metrics=lambda accept, names: (f"# {accept} {list(names)}".encode(), "text/plain; version=1.0.0"),
            reload=self._reload,
            identity=GatewayId("00000000deadbeef", "gw-1"),
            caps=self.caps,
            alerts=AlertCaps(self.caps, models),
            break_glass=BreakGlassWatch(self.caps, OffFile(None, "there is no state directory")),
            look_at_registry=self._look,
            mlflow_version="3.17.2",
        )

    def configure(self, **sections: Any) -> None:
        self.settings = Settings.model_validate({"models": {"sentiment": {}}, **sections})
        self.in_force.current = self.settings
        self.gateway.models.apply(self.settings.models)

    async def _look(self) -> None:
        self.looks += 1

    async def _reload(self) -> Accepted:
        if self.problems:
            raise ConfigRefused(self.problems)
        return Accepted()


@pytest.fixture
async def site(serving: ModelSet, facts: Facts, in_force: CapsInForce) -> Site:  # noqa: F811 - fixtures
    return Site(serving, facts, in_force)


@asynccontextmanager
async def listening_on_a_port(
    app: web.Application, *, limit: int = 100, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, Listener]]:
    """`app` behind a listener of ours for at most `limit` connections, and its port."""
    bound = bind("127.0.0.1", 0)
    async with listening(app, bound, limit=limit, tls=tls) as listener:
        yield bound.getsockname()[1], listener


class OurListener(BaseTestServer):
    """An application behind a listener of ours, as the library's test client wants it."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(scheme="http")
        self._app = app
        self._stack = AsyncExitStack()

    async def start_server(self, loop: asyncio.AbstractEventLoop | None = None, **_: Any) -> None:
        self.port, _ = await self._stack.enter_async_context(listening_on_a_port(self._app))
        self._root = URL(f"http://{self.host}:{self.port}")

    async def close(self) -> None:
        await self._stack.aclose()

    async def _make_runner(self, **_: Any) -> BaseRunner:
        raise NotImplementedError


@pytest.fixture(params=["direct path", "application"])
async def traffic(
    request: pytest.FixtureRequest, site: Site, aiohttp_client: Callable[..., Any]
) -> TestClient[Any, Any]:
    """The traffic listener; and again with the application answering what else takes the direct path."""
    app = traffic_app(site.gateway, observable=True)
    if request.param == "application":
        del app[DIRECT_PATH]
    return await aiohttp_client(OurListener(app))


@pytest.fixture
async def admin(site: Site, aiohttp_client: Callable[..., Any]) -> TestClient[Any, Any]:
    return await aiohttp_client(admin_app(site.gateway))
