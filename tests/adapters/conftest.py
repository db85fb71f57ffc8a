"""A gateway's side of the registry: real children, real registries."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from router.adapters.http.client import HttpClient
from router.adapters.registry.client import RegistryClient
from router.core.events import Event
from router.processes.forkserver import ForkServerSupervisor
from tests.support.empty_database import beside_empty_database
from tests.support.registry_backends import RealRegistry, server_registry, sqlite_registry

OpenRegistry = Callable[..., RegistryClient]


class Facts:
    """A recorder that keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> RealRegistry:
    return sqlite_registry(beside_empty_database("sqlite", tmp_path_factory))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[RealRegistry]:
    with server_registry(beside_empty_database("server", tmp_path_factory), 120 * slack) as registry:
        yield registry


@pytest.fixture(params=["sqlite", "server"])
def real(request: pytest.FixtureRequest) -> RealRegistry:
    """The same test on both kinds of registry."""
    return request.getfixturevalue(request.param)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def template() -> AsyncIterator[ForkServerSupervisor]:
    template = ForkServerSupervisor(Facts())
    await template.start()
    yield template
    await template.close()


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """It asks other servers, and is closed at the end."""
    one = HttpClient()
    yield one
    await one.close()


@pytest_asyncio.fixture(loop_scope="package")
async def open_registry(
    template: ForkServerSupervisor, tmp_path: Path, facts: Facts
) -> AsyncIterator[OpenRegistry]:
    """Opens registries by their URI, by default with the cache `tmp_path/cache`; all are closed."""
    async with AsyncExitStack() as stack:

        def opened(uri: str, **arguments: object) -> RegistryClient:
            given = {"launcher": template, "tracking_uri": uri, "cache_dir": tmp_path / "cache"}
            registry = RegistryClient(registry_uri=uri, **{**given, "recorder": facts, **arguments})
            stack.push_async_callback(registry.close)
            return registry

        yield opened
