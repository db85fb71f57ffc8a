"""Other servers that a team could run instead, started by the run; skipped where they are not installed."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.processes import ROOT, Ended, Level
from benchmarks.registry_layout import CANARY, PRODUCTION, registry_uri
from benchmarks.servers import (
    HOST,
    Missing,
    Place,
    Running,
    Server,
    free_port,
    gateway_by,
    mlflow_serve,
    status,
    tree,
    wait,
)

ECHO, FASTAPI, NGINX = "aiohttp echo", "FastAPI", "nginx split"
SILENT = "gateway, counting nothing"

_NGINX = """\
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_max_body_size 64m; client_body_buffer_size 1m; client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  split_clients "text$http_x_request_key" $alias {{ 5% canary; * production; }}
  upstream production {{ server {host}:{production}; keepalive 64; }}
  upstream canary {{ server {host}:{canary}; keepalive 64; }}
  server {{
    listen {host}:{port};
    location / {{ proxy_pass http://$alias; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


NO_SCORES = "no scores are counted, for comparison"
"""What the state of the silent gateway says of its versions."""


class Trees:
    """Several servers that are one to their callers."""

    def __init__(self, parts: Sequence[Running]) -> None:
        self._parts = parts

    def alive(self) -> None:
        """Raise Ended unless all still run."""
        for part in self._parts:
            part.alive()

    def tail(self) -> str:
        """The last lines of their logs."""
        return "".join(part.tail() for part in self._parts)

    def level(self) -> Level:
        """What all of them hold now."""
        levels = [part.level() for part in self._parts]
        return Level(
            sum(one.pss_mib for one in levels),
            sum(one.threads for one in levels),
            sum(one.descriptors for one in levels),
            sum(one.processes for one in levels),
        )

    def processor_seconds(self) -> dict[str, float]:
        """Time all of them have used so far, by what the processes are."""
        used: Counter[str] = Counter()
        for part in self._parts:
            used.update(part.processor_seconds())
        return dict(used)


@contextmanager
def echo(workload: str, place: Place) -> Iterator[Server]:
    """A bare aiohttp server: parses the JSON, gives a constant answer."""
    with _python(ECHO, "echo_server", place) as server:
        yield server


@contextmanager
def fastapi(workload: str, place: Place) -> Iterator[Server]:
    """A FastAPI app written by hand, with production's version."""
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise Missing(f"the package {package} is not installed")
    with _python(FASTAPI, "fastapi_server", place, f"models:/{workload}/{PRODUCTION}") as server:
        yield server


@contextmanager
def _python(name: str, module: str, place: Place, *more: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks" / f"{module}.py"), str(port), *more]
    settings = {"MLFLOW_TRACKING_URI": registry_uri(place.directory)}
    began = time.monotonic()
    with tree(command, place.directory / f"{module}.log", settings, place.core, "server") as started:
        seconds = wait(started, lambda: status(port, "/ping") == 200, began)
        yield Server(name, port, started, started.log, seconds, seconds)


@contextmanager
def silent(workload: str, place: Place) -> Iterator[Server]:
    """The gateway without metrics and scores: `silent_gateway`."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "benchmarks.silent_gateway"]
    with gateway_by(command, SILENT, [workload], place, PYTHONPATH=os.pathsep.join(paths)) as server:
        [model] = json.loads(server.get("/v1/state"))["models"].values()
        counted = [
            number for number, version in model["versions"].items() if NO_SCORES not in version["note"]
        ]
        if counted or server.get("/metrics"):
            raise Ended(f"it counts, and should not: metrics, or scores of versions {counted}")
        yield server


@contextmanager
def nginx_split(workload: str, place: Place) -> Iterator[Server]:
    """`split_clients` by the request key before two `mlflow models serve`, one per alias."""
    program = _nginx()
    port, directory = free_port(), place.directory / "nginx"
    directory.mkdir(exist_ok=True)
    began = time.monotonic()
    with (
        mlflow_serve(workload, place) as production,
        mlflow_serve(workload, place, version=CANARY) as canary,
    ):
        config = directory / "nginx.conf"
        # Its worker would become `nobody`, who may not write below our directory.
        user = "user root;" if os.geteuid() == 0 else ""
        ports = {"port": port, "production": production.port, "canary": canary.port}
        config.write_text(_NGINX.format(host=HOST, directory=directory, user=user, **ports))
        command = [program, "-e", "stderr", "-p", str(directory), "-c", str(config)]
        with tree(command, place.directory / "nginx.log", {}, place.core, "nginx") as started:
            seconds = wait(started, lambda: status(port, "/ping") == 200, began)
            trees = Trees([started, production.tree, canary.tree])
            yield Server(NGINX, port, trees, started.log, seconds, seconds)


def _nginx() -> str:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for directory in (*path, "/usr/sbin"):  # not on everybody's path
        if os.access(program := Path(directory) / "nginx", os.X_OK):
            return str(program)
    raise Missing("nginx is not installed")


PEERS = {ECHO: echo, FASTAPI: fastapi, NGINX: nginx_split, SILENT: silent}
"""By name; what they yield takes part where a bar asks for it."""
