"""Where the versions of a gateway run, for tests of what holds wherever that is: here, or behind addresses.

A version behind an address has one of its own, on a loopback of its number: `http://127.0.0.{version}:PORT`.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
import requests
from click.testing import CliRunner
from ruamel.yaml import YAML

from router.cli import root as commands
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.ray_serve import RayCluster, running_ray
from tests.support.registry import Registry
from tests.support.registry_backends import Server
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
    gone_status: int = 503
    """What callers of production get once what ran it has ended, until the gateway has seen that."""

    @property
    def where(self) -> str:
        """Value of the key `where`."""
        return "local"

    @property
    def path(self) -> str:
        """Where requests are sent to."""
        return "/invocations" if self.protocol == "mlflow" else f"/v2/models/{MODEL}/infer"

    def address(self, version: int) -> str:
        """Where the version is asked, elsewhere."""
        raise NotImplementedError

    @property
    def names_version(self) -> bool:
        """Whether what runs a version elsewhere says which version it holds."""
        return self.protocol == "v2"

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
    def where(self) -> str:
        return f"{{http: 'http://127.0.0.{{version}}:{self.port}', protocol: {self.protocol}}}"

    def address(self, version: int) -> str:
        return f"http://127.0.0.{version}:{self.port}{self.path}"

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


@dataclass
class RayServe(Adapter):
    """Each version is an application of one Ray; in the environment named by TEST_RAY.

    Files are what `canary-router render --as ray` prints, with Serve on loopback. Replicas fetch versions
    from an MLflow server.
    """

    elsewhere: bool = True
    gone_status: int = 404
    """Of Serve's proxy, for an application that is not there."""
    predict_timeout_seconds: int = 30
    resources: ExitStack = field(default_factory=ExitStack)
    cluster: RayCluster = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = self.resources.enter_context(running_ray())
        server = Server(self.cluster.directory, store=self.registry.uri)
        self.resources.callback(server.kill)
        server.start(60 * slack())
        self.config.write_text(
            f"registry: {{uri: '{server.uri}'}}\nmodels:\n  {MODEL}:\n"
            f"    split: {{production: 100}}\n    where: {self.where}\n"
            f"    predict_timeout_seconds: {self.predict_timeout_seconds}\n"
        )
        self.write({"http_options": {"host": "127.0.0.1", "port": self.port}, "applications": []})

    @property
    def config(self) -> Path:
        """Configuration that `render` reads."""
        return self.cluster.directory / "router.yaml"

    @property
    def file(self) -> Path:
        """What was deployed last."""
        return self.cluster.directory / "serve.yaml"

    @property
    def port(self) -> int:
        """Where Serve listens."""
        return self.cluster.port

    @property
    def where(self) -> str:
        path = f"/{MODEL}-v{{version}}{self.path}"
        return f"{{http: 'http://127.0.0.1:{self.port}', protocol: {self.protocol}, path: '{path}'}}"

    def address(self, version: int) -> str:
        return f"http://127.0.0.1:{self.port}/{application_of(version)}{self.path}"

    def files(self, version: int) -> Path:
        """The version's files, as downloaded."""
        uri = self.registry.client.get_model_version_download_uri(MODEL, str(version))
        return Path(unquote(uri.removeprefix("file://")))

    def render(self, *versions: int) -> str:
        """The file with these versions beside what was deployed last."""
        for version in versions:
            place = self.cluster.directory / f"files-{version}"
            if not place.is_symlink():
                place.symlink_to(self.files(version))
        arguments = ["--files", f"{self.cluster.directory}/files-{{version}}", "--beside", str(self.file)]
        done = CliRunner().invoke(
            commands,
            ["render", MODEL, *map(str, versions), "--as", "ray", *arguments],
            env={"CANARY_ROUTER_CONFIG": str(self.config)},
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    def serve(self, *versions: int) -> None:
        self.file.write_text(self.render(*versions))
        self.cluster.deploy(self.file)
        self.cluster.wait_running(*map(application_of, versions))

    def kill(self, version: int) -> None:
        """By the file, for good: a process that ends by itself is started anew by Serve."""
        content = YAML(typ="safe").load(self.file)
        others = [one for one in content["applications"] if one["name"] != application_of(version)]
        self.write({**content, "applications": others})
        self.cluster.deploy(self.file)
        wait_until(lambda: self.cluster.answers(f"/{application_of(version)}/ping", 404), 60 * slack())

    def write(self, content: object) -> None:
        """Have this be the file."""
        YAML(typ="safe").dump(content, self.file)

    def close(self) -> None:
        self.resources.close()


def application_of(version: int) -> str:
    """Name of a version's application in Serve."""
    return f"{MODEL}-v{version}"


def adapter_of(kind: str, registry: Registry, directory: Path) -> Adapter:
    """That kind of adapter; skips the test with a reason where it can not be had."""
    if kind == "local":
        return Adapter(registry, directory)
    if kind == "mlflow models serve":
        if importlib.util.find_spec("uvicorn") is None:
            pytest.skip("`mlflow models serve` needs uvicorn")
        return MlflowServer(registry, directory, "mlflow")
    if kind.startswith("ray"):
        return RayServe(registry, directory, "mlflow" if kind == "ray mlflow" else "v2")
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
