"""Where the versions of a gateway run, for tests of what holds wherever that is: here, or behind addresses.

A version behind an address has one of its own, on a loopback of its number: `http://127.0.0.{version}:PORT`.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
import requests

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.registry import Registry
from tests.support.slowness import slack
from tests.support.waiting import wait_until

MODEL = "sentiment"
PEER = Path(__file__).with_name("version_peer.py")
ROOT = Path(__file__).parents[2]


@dataclass
class Adapter:
    """Versions run here, in processes of the gateway."""

    registry: Registry
    directory: Path
    protocol: str = "mlflow"
    elsewhere: bool = False
    gateway: GatewayProcess = field(init=False)

    @property
    def where(self) -> str:
        """Value of the key `where`."""
        return "local"

    @property
    def path(self) -> str:
        """Where requests are sent to."""
        return "/invocations" if self.protocol == "mlflow" else f"/v2/models/{MODEL}/infer"

    def body(self, text: str) -> bytes:
        """A request with one text."""
        if self.protocol == "mlflow":
            return orjson.dumps({"dataframe_split": {"columns": ["text"], "data": [[text]]}})
        return orjson.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]})

    def ask(self, key: str, text: str = "good") -> requests.Response:
        """The gateway's answer."""
        return self.gateway.session.post(
            self.gateway.url + self.path,
            data=self.body(text),
            headers={"X-Request-Key": key, "Content-Type": "application/json"},
            timeout=30 * slack(),
        )

    def value(self, body: bytes) -> Any:
        """What an answer says of its one row."""
        document = orjson.loads(body)
        if self.protocol == "mlflow":
            return document["predictions"][0]
        return document["outputs"][0]["data"][0]

    def serve(self, *versions: int) -> None:
        """Have these versions run elsewhere, where they do."""

    def kill(self, version: int) -> None:
        """End what runs the version, as a node that fails does."""
        for pid in self.gateway.worker_pids(version):
            os.kill(pid, 9)

    def close(self) -> None:
        """End all that was started."""


@dataclass
class ProcessPerVersion(Adapter):
    """Each version runs in a server of its own, started here as somebody else would."""

    elsewhere: bool = True
    port: int = field(default_factory=free_port)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def names_version(self) -> bool:
        """Whether the server says which version it holds."""
        return self.protocol == "v2"

    @property
    def where(self) -> str:
        return f"{{http: 'http://127.0.0.{{version}}:{self.port}', protocol: {self.protocol}}}"

    @property
    def ready_path(self) -> str:
        """Asked until it is answered with 200."""
        return "/ping" if self.protocol == "mlflow" else f"/v2/models/{MODEL}/ready"

    def command(self, directory: str, version: int) -> Sequence[str]:
        """What serves the version whose files are in `directory`."""
        host = f"127.0.0.{version}"
        return [sys.executable, str(PEER), directory, MODEL, str(version), host, str(self.port)]

    def variables(self) -> dict[str, str]:
        """Of the environment that a server has besides."""
        return {}

    def serve(self, *versions: int) -> None:
        for version in versions:
            uri = self.registry.client.get_model_version_download_uri(MODEL, str(version))
            directory = unquote(uri.removeprefix("file://"))
            log = (self.directory / f"peer-{version}.log").open("ab")
            self.running[version] = subprocess.Popen(
                self.command(directory, version),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.variables()},
                start_new_session=True,
            )
            log.close()
        for version in versions:
            url = f"http://127.0.0.{version}:{self.port}{self.ready_path}"
            running = self.running[version]
            wait_until(
                lambda url=url, running=running: _is_ready(url) or running.poll() is not None,
                90 * slack(),
                lambda version=version: self.story(version),
            )
            assert running.poll() is None, self.story(version)

    def story(self, version: int) -> str:
        """What the server said last."""
        return (self.directory / f"peer-{version}.log").read_text()[-3000:]

    def kill(self, version: int) -> None:
        process = self.running.pop(version)
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()

    def close(self) -> None:
        for version in list(self.running):
            self.kill(version)


class MlflowServer(ProcessPerVersion):
    """`mlflow models serve`, as its users start it."""

    def variables(self) -> dict[str, str]:
        """It looks for uvicorn on PATH, which is perhaps not beside this Python."""
        script = self.directory / "bin" / "uvicorn"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m uvicorn "$@"\n')
        script.chmod(0o700)
        return {"PATH": f"{script.parent}:{os.environ['PATH']}"}

    def command(self, directory: str, version: int) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "mlflow", "models", "serve", "-m", directory),
            *("-h", f"127.0.0.{version}", "-p", str(self.port), "--env-manager", "local", "--workers", "1"),
        ]


class MlServer(ProcessPerVersion):
    """MLServer with its runtime for MLflow; in the environment named by TEST_MLSERVER."""

    def command(self, directory: str, version: int) -> Sequence[str]:
        home = self.directory / f"mlserver-{version}"
        home.mkdir(exist_ok=True)
        settings = {
            "name": MODEL,
            "implementation": "mlserver_mlflow.MLflowRuntime",
            "versions": [str(version)],
            "parameters": {"uri": directory},
        }
        (home / "model-settings.json").write_bytes(orjson.dumps(settings))
        (home / "settings.json").write_bytes(
            orjson.dumps(
                {
                    "host": f"127.0.0.{version}",
                    "http_port": self.port,
                    "grpc_port": free_port(),
                    "metrics_port": free_port(),
                    "parallel_workers": 0,
                }
            )
        )
        return [os.environ["TEST_MLSERVER"], "start", str(home)]


class KServe(ProcessPerVersion):
    """KServe's model server with a predictor of somebody's own; run by the Python named by TEST_KSERVE."""

    names_version = False

    def command(self, directory: str, version: int) -> Sequence[str]:
        peer = str(PEER.with_name("kserve_peer.py"))
        return [os.environ["TEST_KSERVE"], peer, directory, MODEL, f"127.0.0.{version}", str(self.port)]

    def variables(self) -> dict[str, str]:
        """The project is not on its path: names of its modules are other things there."""
        return {"PYTHONPATH": ""}


def adapter_of(kind: str, registry: Registry, directory: Path) -> Adapter:
    """That kind of adapter; skips the test with a reason where it can not be had."""
    if kind == "local":
        return Adapter(registry, directory)
    if kind == "mlflow models serve":
        if importlib.util.find_spec("uvicorn") is None:
            pytest.skip("`mlflow models serve` needs uvicorn")
        return MlflowServer(registry, directory, "mlflow")
    if kind == "mlserver":
        return MlServer(registry, directory, "v2")
    if kind == "kserve":
        return KServe(registry, directory, "v2")
    return ProcessPerVersion(registry, directory, "v2")


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False
