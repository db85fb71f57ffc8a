"""Registries of every kind that promotion writes: in memory, a SQLite file, an MLflow server."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from mlflow import MlflowClient

from router.promotion.ports import Registry
from router.promotion.registry import MlflowRegistry
from tests.promotion.fakes import MODEL, FakeRegistry
from tests.support.empty_database import beside_empty_database
from tests.support.registry_backends import Server

FAKE, SQLITE, SERVER = "fake", "sqlite", "server"


@dataclass(frozen=True)
class Case:
    """A registry with one model of three versions."""

    registry: Registry
    model: str


@pytest.fixture(scope="session")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{beside_empty_database('promotion', tmp_path_factory) / 'mlflow.db'}"


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[str]:
    server = Server(beside_empty_database("promotion-server", tmp_path_factory))
    try:
        server.start(120 * slack)
        yield server.uri
    finally:
        server.kill()


@pytest.fixture
def open_case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Case]:
    """Makes a model of its own in a registry of one kind, with these aliases, and versions in stages."""

    def opened(kind: str, stages: dict[int, str] | None = None, **aliases: int) -> Case:
        if kind == FAKE:
            return Case(FakeRegistry(stages=stages, **aliases), MODEL)
        uri: str = request.getfixturevalue(f"{kind}_uri")
        return Case(opened_registry(uri, monkeypatch), new_model(uri, stages, **aliases))

    return opened


def opened_registry(uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistry:
    """What it sets in the environment goes with the test."""
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, uri)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")
    return MlflowRegistry(uri, uri)


def new_model(uri: str, stages: dict[int, str] | None = None, **aliases: int) -> str:
    """A registered model of three versions without files."""
    client = MlflowClient(uri, uri)
    name = f"model-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source="s3://bucket/nowhere")
    for number, stage in (stages or {}).items():
        client.transition_model_version_stage(name, str(number), stage)
    for alias, number in aliases.items():
        client.set_registered_model_alias(name, alias, str(number))
    return name
