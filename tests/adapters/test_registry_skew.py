"""A newer and an older MLflow beside the gateway's own, on one SQLite registry: real clients and migrations.

An index is needed to install them from; each is MLflow's wheel alone, over the libraries that are here.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from packaging.version import Version

from router.core.events import RegistrySchemaNewer
from router.core.ids import PRODUCTION, VersionId
from router.errors import RegistryRefused
from tests.adapters.conftest import Facts, OpenRegistry
from tests.support.registry_backends import SEED, RealRegistry, sqlite_registry

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.slow]

NAMES = {PRODUCTION: "production"}
PATIENCE_SECONDS = 120.0
OURS = Version(mlflow.__version__)
MOVE = (
    "import sys, mlflow; client = mlflow.MlflowClient(sys.argv[1], sys.argv[1]);"
    "client.set_registered_model_alias('seed', 'production', sys.argv[2]); print(mlflow.__version__)"
)

Run = Callable[..., str]
"""Runs Python with another MLflow; what it printed."""


def installed(directory: Path, requirement: str) -> Run:
    """Skips where no index has it, or none can be reached."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--no-input"]
    done = subprocess.run(
        [*command, "--target", str(directory), requirement], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        pytest.skip(f"no {requirement} could be installed: {done.stderr.strip().splitlines()[-1]}")

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(directory), "MLFLOW_DISABLE_TELEMETRY": "true"}
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            env=environment,
            cwd=directory.parent,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout.strip()

    return run


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return installed(tmp_path_factory.mktemp("newer") / "site", f"mlflow>{OURS},<{OURS.major + 1}")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of the same minor version, and so of the same schema: any older one refuses the file by itself."""
    below = f"mlflow>={OURS.major}.{OURS.minor},<{OURS}"
    return installed(tmp_path_factory.mktemp("older") / "site", below)


@pytest.fixture(scope="module")
def much_older(tmp_path_factory: pytest.TempPathFactory) -> Run:
    below = f"mlflow>={OURS.major},<{OURS.major}.{OURS.minor}"
    return installed(tmp_path_factory.mktemp("much-older") / "site", below)


@pytest.fixture
def registry(tmp_path: Path) -> RealRegistry:
    """Made by the gateway's MLflow."""
    made = sqlite_registry(tmp_path)
    made.client.set_registered_model_alias("seed", "production", "1")
    return made


def digest(registry: RealRegistry) -> str:
    return hashlib.sha256(registry.database.read_bytes()).hexdigest()


async def test_a_registry_that_a_newer_client_migrated_is_followed_and_never_written(
    registry: RealRegistry, newer: Run, open_registry: OpenRegistry, facts: Facts
) -> None:
    """Row 48. One call of a newer client migrates the file under a gateway that polls it."""
    gateway = open_registry(registry.uri)
    before = await gateway.poll("seed", NAMES)

    assert Version(newer("-c", MOVE, registry.uri, "2")) > OURS
    migrated = digest(registry)
    after = [await gateway.poll("seed", NAMES) for _ in range(2)]
    files = await gateway.fetch(VersionId("seed", 2), deadline_seconds=PATIENCE_SECONDS)

    assert (before, after) == ({PRODUCTION: VersionId("seed", 1)}, [{PRODUCTION: VersionId("seed", 2)}] * 2)
    assert Path(files, "MLmodel").is_file()
    assert digest(registry) == migrated
    [said] = facts.of(RegistrySchemaNewer)
    assert isinstance(said, RegistrySchemaNewer)
    assert (said.found != said.known, said.mlflow) == (True, str(OURS))


async def test_an_alias_that_an_older_client_moves_is_followed(
    registry: RealRegistry, older: Run, open_registry: OpenRegistry, facts: Facts
) -> None:
    gateway = open_registry(registry.uri)
    await gateway.poll("seed", NAMES)

    assert Version(older("-c", MOVE, registry.uri, "2")) < OURS

    assert await gateway.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 2)}
    assert facts.events == []


async def test_a_registry_that_an_older_mlflow_made_is_refused_until_the_named_remedy(
    much_older: Run, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    much_older(str(SEED), uri)
    much_older("-c", MOVE, uri, "1")
    before = database.read_bytes()
    gateway = open_registry(uri)
    with pytest.raises(RegistryRefused, match=r"is older than this MLflow.*`mlflow db upgrade`"):
        await gateway.poll("seed", NAMES)
    assert database.read_bytes() == before

    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True)

    assert await gateway.poll("seed", NAMES) == {PRODUCTION: VersionId("seed", 1)}
