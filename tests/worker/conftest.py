"""Versions to load, and scorers of them in this process."""

from collections.abc import Callable
from pathlib import Path

import mlflow.tracing
import pytest

from router.worker.load import Loaded, load_version
from tests.support.saved_versions import saved_versions, spec_of


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the saved versions."""
    return saved_versions(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _no_traces() -> None:
    """As in a worker: a version that traces would have this process make `mlflow.db` where the tests run, and
    so would switching tracing on again."""
    mlflow.tracing.disable()


@pytest.fixture(scope="session")
def loaded(versions: Path) -> Callable[[str], Loaded]:
    """Versions brought up in this process, once each, by name."""
    known: dict[str, Loaded] = {}

    def get(name: str) -> Loaded:
        if name not in known:
            known[name] = load_version(spec_of(versions, name))
        return known[name]

    return get
