"""The servers that are measured: how each starts, and when it is ready.

A new one is a function that yields a `Server`, and a line in `SERVERS`.
"""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Ended, Tree, environment
from benchmarks.registry_layout import CANARY, PRODUCTION, registry_uri

HOST = "127.0.0.1"
READY_SECONDS = 120.0
DEFAULT_POLL_SECONDS = 5.0
_LOOK_SECONDS = 0.01

GATEWAY, MLFLOW = "gateway", "mlflow"

_CONFIG = """\
server: {{listen: "{host}:{port}", admin: "{host}:{admin}"}}
registry: {{uri: "{uri}", cache_dir: "{cache}", poll_seconds: {poll_seconds:g}}}
log: {{format: json}}
models:
  {workload}: {{}}
"""


class Missing(RuntimeError):
    """A server cannot be measured on this machine; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers run."""

    directory: Path
    """Registry, logs, caches; thrown away at the end."""
    core: int | None
    """The processor they share, None for any."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    name: str
    port: int
    tree: Tree
    ready_seconds: float
    """From its start to the first prediction it could give."""
    complete_seconds: float
    """The same to all versions in service: both aliases, where it serves both."""

    def ask(self, body: bytes, key: str = "") -> tuple[int, bytes, str]:
        """Status, body and `X-Model-Version` of one prediction."""
        headers = {"Content-Type": "application/json", "X-Request-Key": key}
        return _fetch("POST", self.port, "/invocations", body, headers)


@contextmanager
def mlflow_serve(workload: str, place: Place) -> Iterator[Server]:
    """`mlflow models serve` with production's version, as MLflow's documentation starts it."""
    port = _free_port()
    command = [
        *("mlflow", "models", "serve", "--env-manager", "local"),
        *("-m", f"models:/{workload}/{PRODUCTION}", "-h", HOST, "-p", str(port)),
    ]
    settings = {"MLFLOW_TRACKING_URI": registry_uri(place.directory)}
    began = time.monotonic()
    with _tree(command, place.directory / "mlflow.log", settings, place.core) as tree:
        seconds = _wait(tree, lambda: _status(port, "/ping") == 200, began)
        yield Server(MLFLOW, port, tree, seconds, seconds)


@contextmanager
def gateway(workload: str, place: Place, *, poll_seconds: float = DEFAULT_POLL_SECONDS) -> Iterator[Server]:
    """`canary-router serve` with both aliases, an empty cache, and everything else at its default."""
    port, admin = _free_port(), _free_port()
    cache = place.directory / f"cache-{port}"
    config = place.directory / f"router-{port}.yaml"
    config.write_text(
        _CONFIG.format(
            host=HOST,
            port=port,
            admin=admin,
            uri=registry_uri(place.directory),
            poll_seconds=poll_seconds,
            cache=cache,
            workload=workload,
        )
    )
    began = time.monotonic()
    command = ["canary-router", "serve", "-c", str(config)]
    with _tree(command, place.directory / "gateway.log", {}, place.core) as tree:
        ready = _wait(tree, lambda: _status(port, "/readyz") == 200, began)
        complete = _wait(tree, lambda: _bound(port, workload) == {PRODUCTION, CANARY}, began)
        yield Server(GATEWAY, port, tree, ready, complete)


SERVERS: dict[str, Callable[[str, Place], AbstractContextManager[Server]]] = {
    MLFLOW: mlflow_serve,
    GATEWAY: gateway,
}
"""In the order in which they take turns. What they yield is compared with `MLFLOW`."""


@contextmanager
def _tree(command: list[str], log: Path, settings: dict[str, str], core: int | None) -> Iterator[Tree]:
    if shutil.which(command[0], path=environment()["PATH"]) is None:
        raise Missing(f"the command {command[0]} is not installed")
    tree = Tree(command, log, settings, core)
    try:
        yield tree
    finally:
        tree.stop()


def _wait(tree: Tree, true: Callable[[], bool], began: float) -> float:
    while not true():
        tree.alive()
        if time.monotonic() - began > READY_SECONDS:
            raise Ended(f"it was not ready after {READY_SECONDS:g} s: {tree.tail()}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - began


def _status(port: int, path: str) -> int:
    try:
        return _fetch("GET", port, path)[0]
    except OSError:
        return 0


def _bound(port: int, workload: str) -> set[int]:
    _, body, _ = _fetch("GET", port, "/v1/state")
    return {alias["bound"] for alias in json.loads(body)["models"][workload]["aliases"].values()}


def _fetch(
    verb: str, port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(verb, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("X-Model-Version", "")
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
