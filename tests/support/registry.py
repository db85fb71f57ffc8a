"""A real registry, built by really logging versions, and moved as an operator moves it."""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return Registry(directory)


def build_registry(directory: Path) -> Registry:
    """Log every version that `build_registry.py` knows into `directory`."""
    return build(BUILD_REGISTRY, directory)


def built_once(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `script` logged its versions: once in a run, whichever of its processes asks. It is only read."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the run, where each process has one of its own
    directory = base / f"built-{script.stem}"
    whole = directory / "whole"
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(script, directory)
            whole.touch()
    return directory


def copied(built: Path, directory: Path) -> Registry:
    """A registry in `directory` whose aliases may be moved; its artifacts are those of `built`."""
    shutil.copy(Registry(built).database, directory)
    return Registry(directory)
