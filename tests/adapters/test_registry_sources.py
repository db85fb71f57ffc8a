"""Sources that a version must not have, in real registries: refused by name, before anything is read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from router.adapters.registry.downloads import FetchPolicy
from router.core.ids import VersionId
from router.errors import FetchFailed, FetchRefused
from tests.adapters.conftest import OpenRegistry
from tests.support.faulty_servers import Proxy, proxy_to
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

PATIENCE_SECONDS = 60.0
ELSEWHERE = [
    "file:///etc",
    "/etc",
    "http://169.254.169.254/latest/meta-data",
    "mlflow-artifacts://169.254.169.254/1/models",
    "mlflow-artifacts:/../../etc",
    "s3://bucket/%2e%2e/other",
    "ftp://169.254.169.254/m",
]


@pytest.fixture(scope="session")
def listener(server: RealRegistry) -> Iterator[Proxy]:
    """Reports every path that the server is asked for."""
    with proxy_to(server.uri) as proxy:
        yield proxy


def put(registry: RealRegistry, source: str) -> VersionId:
    """A version with this source, written past every check that MLflow's server makes."""
    version = VersionId(registry.new_model(1), 1)
    with closing(sqlite3.connect(registry.database)) as database, database:
        database.execute(
            "UPDATE model_versions SET source = ?, storage_location = ? WHERE name = ?",
            (source, source, version.model),
        )
    return version


@pytest.mark.parametrize("source", ELSEWHERE)
async def test_a_source_outside_of_the_allow_list_is_refused_by_name(
    server: RealRegistry, listener: Proxy, open_registry: OpenRegistry, source: str, tmp_path: Path
) -> None:
    policy = FetchPolicy(registry_is_local=False, tracking_uri=listener.uri)
    version = put(server, source)
    listener.paths.clear()

    with pytest.raises(FetchRefused) as refused:
        await open_registry(listener.uri, policy=policy).fetch(version, deadline_seconds=PATIENCE_SECONDS)

    assert f"its source {source!r}" in str(refused.value)
    assert not any("artifacts" in path for path in listener.paths)
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == []


async def test_mlflows_own_server_refuses_files_climbing_and_hosts_and_takes_any_bucket(
    server: RealRegistry,
) -> None:
    """What is written into its database directly, it never sees."""
    client, model = server.client, server.new_model(0)
    for source in (
        "file:///etc",
        "s3://bucket/../other",
        "mlflow-artifacts:/%2e%2e/etc",
        "http://169.254.169.254",
    ):
        with pytest.raises(MlflowException, match="source"):
            client.create_model_version(model, source=source)

    taken = client.create_model_version(model, source="s3://a-bucket-of-anybody/model")

    assert taken.source == "s3://a-bucket-of-anybody/model"


async def test_a_bucket_that_is_not_among_the_roots_is_refused(
    server: RealRegistry, open_registry: OpenRegistry
) -> None:
    policy = FetchPolicy(schemes=("mlflow-artifacts",), roots=("s3://ours/",), registry_is_local=False)
    registry = open_registry(server.uri, policy=policy)

    with pytest.raises(FetchFailed, match="its source 's3://ours-too/model' has the scheme s3"):
        await registry.fetch(put(server, "s3://ours-too/model"), deadline_seconds=PATIENCE_SECONDS)


async def test_a_local_registry_may_name_local_files_and_nothing_else(
    sqlite: RealRegistry, open_registry: OpenRegistry
) -> None:
    registry = open_registry(sqlite.uri)
    assert await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
    for source in ("http://169.254.169.254/x", "/srv/../etc"):
        with pytest.raises(FetchFailed, match="its source"):
            await registry.fetch(put(sqlite, source), deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(FetchFailed, match="there is no MLmodel file at its source 'file:///etc'") as failed:
        await registry.fetch(put(sqlite, "file:///etc"), deadline_seconds=PATIENCE_SECONDS)
    assert not isinstance(failed.value, FetchRefused), "no rule forbids it"


async def test_roots_hold_also_where_a_link_leads_out_of_them(
    sqlite: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "roots" / "v1", tmp_path / "elsewhere"
    for place in (inside, outside):
        place.mkdir(parents=True)
        (place / "MLmodel").write_text("flavors: {}")
    (tmp_path / "roots" / "v2").symlink_to(outside)
    registry = open_registry(sqlite.uri, policy=FetchPolicy(roots=(str(tmp_path / "roots"),)))

    assert await registry.fetch(put(sqlite, str(inside)), deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(FetchFailed, match=r"leads out of registry\.artifact_roots"):
        await registry.fetch(put(sqlite, str(tmp_path / "roots" / "v2")), deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(FetchFailed, match=r"not below any of registry\.artifact_roots"):
        await registry.fetch(put(sqlite, str(outside)), deadline_seconds=PATIENCE_SECONDS)
