"""A real registry, built by really logging versions, and moved as an operator moves it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from tests.support.built_once import run_script

BUILD_REGISTRY = Path(__file__).with_name("build_registry.py")
"""The script that logs the versions of the end-to-end tests."""


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


def build(script: Path, directory: Path) -> Registry:
    """Have `script` log its versions into `directory`."""
    run_script(script, directory)
    return Registry(directory)


def build_registry(directory: Path) -> Registry:
    """Log every version that `build_registry.py` knows into `directory`."""
    return build(BUILD_REGISTRY, directory)


def copied(built: Path, directory: Path) -> Registry:
    """A registry in `directory` whose aliases may be moved; its artifacts are those of `built`."""
    shutil.copy(Registry(built).database, directory)
    return Registry(directory)
