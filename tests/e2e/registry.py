"""A real registry, built by really logging versions, and moved as an operator moves it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient


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


def build_registry(directory: Path) -> Registry:
    """Log every version that `build_registry.py` knows into `directory`."""
    script = Path(__file__).with_name("build_registry.py")
    done = subprocess.run([sys.executable, str(script), str(directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return Registry(directory)
