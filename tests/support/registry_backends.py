"""Real registries to test against: a SQLite file, and an MLflow server in front of another."""

import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from tests.support.ports import free_port
from tests.support.waiting import wait_until

SEED = Path(__file__).with_name("seed_registry.py")


@dataclass
class RealRegistry:
    """A registry with the registered model `seed`, versions 1 and 2, which answer 1 and 2."""

    uri: str
    artifacts: Path
    """Where its artifact store keeps its files."""
    database: Path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def new_model(self, versions: int = 2, *, beginning: str = "model", **aliases: int) -> str:
        """A registered model of its own for one test; its version n has the files of `seed`'s 1 or 2."""
        name = f"{beginning}-{uuid.uuid4().hex[:8]}"
        client = self.client
        client.create_registered_model(name)
        for number in range(versions):
            client.create_model_version(name, source=f"models:/seed/{number % 2 + 1}")
        for alias, version in aliases.items():
            client.set_registered_model_alias(name, alias, str(version))
        return name

    def stored(self) -> dict[str, int]:
        """Every file of the artifact store with the time it was written."""
        return {str(path): path.lstat().st_mtime_ns for path in self.artifacts.rglob("*")}


def seed(uri: str, directory: Path) -> None:
    """Log and register; in a process of its own, because MLflow keeps much in its modules."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(
        [sys.executable, str(SEED), uri], cwd=directory, env=environment, check=True, capture_output=True
    )


def sqlite_registry(directory: Path) -> RealRegistry:
    """A registry as `mlflow` makes it when nothing is configured: a file, and folders beside it."""
    database = directory / "mlflow.db"
    uri = f"sqlite:///{database}"
    seed(uri, directory)
    return RealRegistry(uri, directory / "mlruns", database)


class Server:
    """`mlflow server` in `directory`, which hands out artifacts too; it may be killed, and started again.

    Its database is a SQLite file there, or what the address `store` names.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", store: str | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self._host = host
        self._store = store or f"sqlite:///{directory / 'mlflow.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def registry(self) -> RealRegistry:
        """What it serves."""
        return RealRegistry(self.uri, self.directory / "artifacts", self.directory / "mlflow.db")

    @property
    def uri(self) -> str:
        """The same after a restart."""
        return f"http://{self._host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process whose children answer."""
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float) -> None:
        """Returns once it answers."""
        directory = self.directory
        command = [sys.executable, "-m", "mlflow", "server", "--host", self._host, "--port", str(self.port)]
        command += ["--backend-store-uri", self._store]
        command += ["--artifacts-destination", str(directory / "artifacts"), "--workers", "1"]
        with open(directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seven more processes
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(
            lambda: _answers(f"{self.uri}/health"), seconds, (directory / "log").read_text, pause_seconds=0.1
        )

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it, if it runs; a stop takes it seven seconds."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None


@contextmanager
def server_registry(directory: Path, seconds: float) -> Iterator[RealRegistry]:
    """`mlflow server` on a free port with `seed`, ended with the block."""
    server = Server(directory)
    try:
        server.start(seconds)
        seed(server.uri, directory)
        yield server.registry
    finally:
        server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False
