"""Both listeners of a gateway in front of a fake world."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from router.errors import ConfigRefused
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from router.settings import Settings, SettingsInForce
from router.web.apps import admin_app, traffic_app
from router.web.context import WebState
from tests.serving.conftest import facts, models, serving, world  # noqa: F401 - fixtures, found by name
from tests.support.fakes import Facts


@dataclass
class Accepted:
    digest: str = "3f9c"
    changes: list[str] = field(default_factory=lambda: ["models.sentiment.split"])


class Site:
    """A gateway whose settings a test may change."""

    def __init__(self, models: ModelSet, facts: Facts) -> None:  # noqa: F811 - as the fixture
        self.settings = Settings.model_validate(
            {"models": {"sentiment": {"split": {"production": 50, "canary": 50}}}}
        )
        self.in_force = SettingsInForce(self.settings)
        self.problems: list[str] = []
        self.gateway = WebState(
            models=models,
            dispatcher=Dispatcher(models, facts),
            recorder=facts,
            settings=self.in_force,
            state=lambda: {"version": "0"},
            metrics=lambda accept, names: (f"# {accept} {list(names)}".encode(), "text/plain; version=1.0.0"),
            reload=self._reload,
            mlflow_version="3.17.2",
        )

    def configure(self, **sections: Any) -> None:
        self.settings = Settings.model_validate({"models": {"sentiment": {}}, **sections})
        self.in_force.current = self.settings
        self.gateway.models.apply(self.settings.models)

    async def _reload(self) -> Accepted:
        if self.problems:
            raise ConfigRefused(self.problems)
        return Accepted()


@pytest.fixture
async def site(serving: ModelSet, facts: Facts) -> Site:  # noqa: F811 - the fixture, by its name
    return Site(serving, facts)


@pytest.fixture
async def traffic(site: Site, aiohttp_client: Callable[..., Any]) -> TestClient[Any, Any]:
    return await aiohttp_client(traffic_app(site.gateway, observable=True))


@pytest.fixture
async def admin(site: Site, aiohttp_client: Callable[..., Any]) -> TestClient[Any, Any]:
    return await aiohttp_client(admin_app(site.gateway))
