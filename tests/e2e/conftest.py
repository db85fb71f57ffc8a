"""A real registry, really logged versions, and gateways in processes of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.e2e.gateway import CONFIG, GatewayProcess

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Registry:
    """A registry of a test's own; `uri` is its SQLite database."""

    directory: Path

    @property
    def database(self) -> Path:
        return self.directory / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    def move(self, alias: str, version: int, model: str = "sentiment") -> None:
        self.client.set_registered_model_alias(model, alias, str(version))


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; its artifacts are shared and only read."""
    directory = tmp_path_factory.mktemp("registry")
    script = Path(__file__).with_name("build_registry.py")
    done = subprocess.run([sys.executable, str(script), str(directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return directory


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
