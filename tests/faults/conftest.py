"""What the damage tests break: a registry in a file, an `mlflow server`, and gateways beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import POLL_SECONDS, built_registry, registry, start  # noqa: F401 - fixtures, by name
from tests.support.faulty_servers import Proxy, proxy_to
from tests.support.gateway import GatewayProcess, gateways
from tests.support.registry_backends import Server, seed


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Server]:
    """A real `mlflow server` with `seed`, which a test leaves running."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start(120 * slack)
        seed(server.uri, server.directory)
        yield server
    finally:
        server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """In front of the server: what lies between a gateway and its registry."""
    with proxy_to(server.uri) as proxy:
        yield proxy


@pytest.fixture
def start_at(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways on the registry `uri`, and ends them."""
    with gateways(tmp_path, "", POLL_SECONDS) as starts:
        yield starts
