"""A real registry, built by really logging versions, and moved as an operator moves it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.built_once import made_once, run_script
from tests.support.empty_database import empty_database

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


def built_registry_of(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which `script` logged its versions, once in a run."""

    def make(directory: Path) -> None:
        shutil.copy(empty_database(tmp_path_factory), directory)
        run_script(script, directory)

    return made_once(script.stem, make, tmp_path_factory)


def copied(built: Path, directory: Path) -> Registry:
    """A registry in `directory` whose aliases may be moved; its artifacts are those of `built`."""
    shutil.copy(Registry(built).database, directory)
    return Registry(directory)
