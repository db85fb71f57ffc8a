"""The two servers that take every load: how each starts, and when it is ready. Others are `peers`."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Ended, Level, Tree, environment
from benchmarks.registry_layout import CANARY, PRODUCTION, SETTINGS, registry_uri

HOST = "127.0.0.1"
READY_SECONDS = 180.0
DEFAULT_POLL_SECONDS = 5.0
DEFAULT_SHARE = 5
"""Percent of the keys that have the canary."""
_LOOK_SECONDS = 0.01

GATEWAY, MLFLOW = "gateway", "mlflow"

_CONFIG = """\
server: {{listen: "{host}:{port}", admin: "{host}:{admin}", min_drain_seconds: 0}}
registry: {{uri: "{uri}", cache_dir: "{cache}", poll_seconds: {poll_seconds:g}}}
log: {{format: json}}
models: {{{models}}}
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


class Running(Protocol):
    """The processes of a server, as `Tree` has them."""

    def alive(self) -> None: ...
    def tail(self) -> str: ...
    def level(self) -> Level: ...
    def processor_seconds(self) -> dict[str, float]: ...


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    name: str
    port: int
    tree: Running
    log: Path
    """What it writes."""
    ready_seconds: float
    """From its start to the first prediction it could give."""
    complete_seconds: float
    """The same to all versions in service: both aliases, where it serves both."""

    def ask(
        self,
        body: bytes,
        key: str = "",
        *,
        content_type: str = "application/json",
        model: str = "",
        path: str = "",
    ) -> tuple[int, bytes, str]:
        """Status, body and `X-Model-Version` of one prediction: of the first model, `model`, or at `path`."""
        path = path or (f"/models/{model}/invocations" if model else "/invocations")
        headers = {"Content-Type": content_type, "X-Request-Key": key}
        return _fetch("POST", self.port, path, body, headers)

    def get(self, path: str) -> bytes:
        """The answer's body."""
        return _fetch("GET", self.port, path)[1]


@contextmanager
def mlflow_serve(
    model: str, place: Place, *, version: int = PRODUCTION, host: str = HOST, port: int = 0
) -> Iterator[Server]:
    """`mlflow models serve` with one version, as MLflow's documentation starts it; at any port where 0."""
    port = port or free_port()
    command = [
        *("mlflow", "models", "serve", "--env-manager", "local"),
        *("-m", f"models:/{model}/{version}", "-h", host, "-p", str(port)),
    ]
    settings = {"MLFLOW_TRACKING_URI": registry_uri(place.directory)}
    log = place.directory / f"mlflow-{host}-{port}.log"
    began = time.monotonic()
    with tree(command, log, settings, place.core, "server") as started:
        seconds = wait(started, lambda: status(port, "/ping", host) == 200, began)
        yield Server(MLFLOW, port, started, started.log, seconds, seconds)


@contextmanager
def gateway(
    model: str, place: Place, *, poll_seconds: float = DEFAULT_POLL_SECONDS, more: Sequence[str] = ()
) -> Iterator[Server]:
    """`canary-router serve` with both aliases of all models, an empty cache, and the rest at its default."""
    with gateway_by(["canary-router"], GATEWAY, [model, *more], place, poll_seconds=poll_seconds) as server:
        yield server


@contextmanager
def gateway_by(
    command: Sequence[str],
    name: str,
    models: Sequence[str],
    place: Place,
    *,
    poll_seconds: float = DEFAULT_POLL_SECONDS,
    share: int = DEFAULT_SHARE,
    where: str = "",
    **settings: str,
) -> Iterator[Server]:
    """As `gateway`, started by another command and with these variables in its environment.

    `share` is the canary's, in percent; `where` is each model's, in YAML.
    """
    port, admin = free_port(), free_port()
    config = place.directory / f"router-{port}.yaml"
    config.write_text(
        _CONFIG.format(
            host=HOST,
            port=port,
            admin=admin,
            uri=registry_uri(place.directory),
            poll_seconds=poll_seconds,
            cache=place.directory / f"cache-{port}",
            models=", ".join(f"{model}: {{{_settings(model, share, where)}}}" for model in models),
        )
    )
    began = time.monotonic()
    serve = [*command, "serve", "-c", str(config)]
    settings = {"XDG_STATE_HOME": str(place.directory / f"state-{port}"), **settings}
    both = {PRODUCTION, CANARY}
    with tree(serve, place.directory / f"gateway-{port}.log", settings, place.core, "gateway") as started:
        ready = wait(started, lambda: status(port, "/readyz") == 200, began)
        complete = wait(started, lambda: all(bound == both for bound in _bound(port)), began)
        yield Server(name, port, started, started.log, ready, complete)


Start = Callable[[str, Place], AbstractContextManager[Server]]
"""Starts a server with one registered model. Raises Missing, Ended."""

SERVERS: dict[str, Start] = {
    MLFLOW: mlflow_serve,
    GATEWAY: gateway,
}
"""In the order in which they take turns."""


@contextmanager
def tree(
    command: list[str], log: Path, settings: dict[str, str], core: int | None, role: str
) -> Iterator[Tree]:
    """The processes of `command`, until the block ends; `role` is what the first one is."""
    require(command[0])
    started = Tree(command, log, settings, core, role)
    try:
        yield started
    finally:
        started.stop()


def require(program: str) -> None:
    """Raise Missing unless there is such a command."""
    if shutil.which(program, path=environment()["PATH"]) is None:
        raise Missing(f"the command {program} is not installed")


def wait(started: Tree, true: Callable[[], bool], began: float) -> float:
    """Seconds from `began` until `true`. Raises Ended when the server ends or takes too long."""
    while not true():
        started.alive()
        if time.monotonic() - began > READY_SECONDS:
            raise Ended(f"it was not ready after {READY_SECONDS:g} s: {started.tail()}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - began


def status(port: int, path: str, host: str = HOST) -> int:
    """Of a GET; 0 while nobody listens."""
    try:
        return _fetch("GET", port, path, host=host)[0]
    except OSError:
        return 0


def _settings(model: str, share: int, where: str) -> str:
    split = "" if share == DEFAULT_SHARE else f"split: {{production: {100 - share}, canary: {share}}}"
    return ", ".join(filter(None, [SETTINGS.get(model), split, where and f"where: {where}"]))


def _bound(port: int) -> list[set[int]]:
    models = json.loads(_fetch("GET", port, "/v1/state")[1])["models"]
    return [{alias["bound"] for alias in one["aliases"].values()} for one in models.values()]


def _fetch(
    verb: str,
    port: int,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    host: str = HOST,
) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(verb, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("X-Model-Version", "")
    finally:
        connection.close()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
