"""A real registry, really logged versions, and gateways in processes of their own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway import CONFIG, GatewayProcess
from tests.e2e.registry import Registry, build_registry

POLL_SECONDS = 0.5


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; its artifacts are shared and only read."""
    return build_registry(tmp_path_factory.mktemp("registry")).directory


@pytest.fixture
def registry(built_registry: Path, tmp_path: Path) -> Registry:
    """A copy of the database, so that a test may move aliases as it likes."""
    shutil.copy(built_registry / "mlflow.db", tmp_path / "mlflow.db")
    return Registry(tmp_path)


@pytest.fixture
def start(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways on a configuration of one's own, and ends them."""
    started: list[GatewayProcess] = []

    def start(
        models: str, *, uri: str | None = None, wait: bool = True, **environment: str
    ) -> GatewayProcess:
        path = tmp_path / "router.yaml"
        head = CONFIG.format(uri=uri or registry.uri, poll_seconds=POLL_SECONDS, cache=tmp_path / "cache")
        path.write_text(head + models)
        gateway = GatewayProcess(tmp_path, path, environment)
        started.append(gateway)
        return gateway.wait_ready() if wait else gateway

    yield start
    for gateway in started:
        gateway.stop()
