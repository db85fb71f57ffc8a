"""A real registry, really logged versions, and gateways in processes of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess, gateways
from tests.support.registry import BUILD_REGISTRY, Registry, built_registry_of, copied

POLL_SECONDS = 0.5


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once in a run, whoever imports this fixture; its artifacts are shared and only read."""
    return built_registry_of(BUILD_REGISTRY, tmp_path_factory)


@pytest.fixture
def registry(built_registry: Path, tmp_path: Path) -> Registry:
    """A copy of the database, so that a test may move aliases as it likes."""
    return copied(built_registry, tmp_path)


@pytest.fixture
def start(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways on a configuration of one's own, and ends them."""
    with gateways(tmp_path, registry.uri, POLL_SECONDS) as start:
        yield start


@pytest.fixture(scope="module")
def shared_registry(built_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A copy of the database for all tests of a module that share a gateway."""
    return copied(built_registry, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def start_shared(shared_registry: Registry) -> Iterator[Callable[..., GatewayProcess]]:
    """As `start`, for gateways that tests of a module share: each starts one at most."""
    with gateways(shared_registry.directory, shared_registry.uri, POLL_SECONDS) as start:
        yield start
