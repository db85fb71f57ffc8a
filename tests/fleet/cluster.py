"""What a cluster has of a fleet: a registry on PostgreSQL, gateways in namespaces, one Service in front.

All gateways have one and the same configuration, and find each other by one name, as the chart's pods do.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

from tests.fleet.envoy import ADMIN, REGISTRY, TRAFFIC, Envoy, running_envoy
from tests.fleet.network import SERVICE, Host, Network, network
from tests.support import faulty_registry
from tests.support.built_once import run_script
from tests.support.gateway import TOKEN_VARIABLE, GatewayProcess
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.registry_backends import Server
from tests.support.slowness import slack
from tests.support.waiting import wait_until

BUILD_FAULTS = Path(faulty_registry.__file__).with_name("build_faults.py")
POLL_SECONDS = 0.5
MIN_DRAIN_SECONDS = 0.5
"""Longer than Envoy takes to notice that a gateway is not ready. Then it waits for 2 s without requests."""
TOKEN = "by-which-the-gateways-sign"
LOWER_TOKEN = "alertmanagers-only-0123456789"
HALF = "{split: {production: 50, canary: 50}}"
_CONFIG = """\
server: {{listen: "0.0.0.0:8080", admin: "0.0.0.0:8081", lower_token_file: "{lower}"}}
registry: {{uri: "{uri}", poll_seconds: {poll_seconds}}}
log: {{format: json}}
fleet: {{peers: ["dns:{service}:8081"]}}
models:
"""


@dataclass(frozen=True)
class SharedRegistry:
    """An `mlflow server` on PostgreSQL with `sentiment`, whose versions `build_faults.py` logged there."""

    server: Server

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.server.uri, self.server.uri)

    def move(self, alias: str, version: int, model: str = "sentiment") -> None:
        self.client.set_registered_model_alias(model, alias, str(version))

    def reset(self) -> None:
        """Version 1 is production and 2 the canary, and nothing is left of what a test wrote."""
        client = self.client
        for alias in client.get_registered_model("sentiment").aliases:
            client.delete_registered_model_alias("sentiment", alias)
        self.move("production", 1)
        self.move("canary", 2)

    def copy(self, model: str, version: int) -> None:
        """A registered model with the versions of `sentiment` up to this one, which is its production."""
        client = self.client
        if any(one.name == model for one in client.search_registered_models()):
            client.delete_registered_model(model)
        client.create_registered_model(model)
        for number in range(1, version + 1):
            client.create_model_version(model, source=f"models:/sentiment/{number}")
        self.move("production", version, model)


def log_by_this_python(directory: Path, server: str) -> None:
    """Versions with the code of this interpreter, which no other version of Python loads."""
    run_script(BUILD_FAULTS, directory, server)


@contextmanager
def shared_registry(
    programs: Path, directory: Path, log: Callable[[Path, str], None] = log_by_this_python
) -> Iterator[SharedRegistry]:
    """For the block. `log` fills it, given a directory and the server's address."""
    port = free_port()
    with running_postgres(programs, slack(), user="mlflow", password="mlflow", port=port) as postgres:
        postgres.run("create database mlflow")
        store = f"postgresql+psycopg2://mlflow:mlflow@127.0.0.1:{port}/mlflow"
        server = Server(directory, store=store)
        try:
            server.start(120 * slack())
            log(directory, server.uri)
            yield SharedRegistry(server)
        finally:
            server.kill()


@dataclass
class Cluster:
    """Gateways 0, 1, …, each in a host of the same number; they start when a test says so."""

    registry: SharedRegistry
    network: Network
    envoy: Envoy
    directory: Path
    config: Path
    gateways: dict[int, GatewayProcess] = field(default_factory=dict)
    """Those that were started last, by their number."""
    started: list[GatewayProcess] = field(default_factory=list)
    """All."""

    @property
    def url(self) -> str:
        """The Service, for callers."""
        return f"http://{self.network.traffic_address}:{TRAFFIC}"

    @property
    def admin(self) -> str:
        """The Service, for operators and Alertmanager: a request goes to any of the gateways."""
        return f"http://{self.network.traffic_address}:{ADMIN}"

    def host(self, number: int) -> Host:
        return self.network.hosts[number]

    def name(self, *more: int) -> None:
        """All find those that run, and those of the numbers `more`, as peers."""
        self.network.name([self.host(number) for number in (*self.gateways, *more)])

    def start(self, number: int) -> GatewayProcess:
        """It announces itself, and its versions load yet. What a former one in its host kept is there."""
        place = self.directory / f"gw-{number}"
        place.mkdir(exist_ok=True)
        host = self.host(number)
        environment = {
            TOKEN_VARIABLE: TOKEN,
            "XDG_CACHE_HOME": str(place / "cache"),
            "CANARY_ROUTER_SERVER__MIN_DRAIN_SECONDS": str(MIN_DRAIN_SECONDS),
        }
        gateway = GatewayProcess(place, self.config, environment, (*host.inside, sys.executable))
        gateway.url, gateway.admin = f"http://{host.address}:8080", f"http://{host.address}:8081"
        self.gateways[number] = gateway
        self.started.append(gateway)
        return gateway

    def start_all(self, canary: int = 2, count: int = 3) -> None:
        """At once. Returns once Envoy gives each requests, and each has its canary, too."""
        self.name(*range(count))
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.start, range(count)))
        for number in range(count):
            self.wait_served(number)
            self.gateways[number].wait_bound(canary, "canary")

    def wait_served(self, number: int) -> None:
        """Until Envoy gives it requests."""
        gateway, address = self.gateways[number], self.host(number).address
        wait_until(lambda: address in self.envoy.healthy(), 60 * slack(), gateway.story, pause_seconds=0.1)

    def wait_removed(self, number: int) -> None:
        """Until Envoy gives it none."""
        address = self.host(number).address
        wait_until(lambda: address not in self.envoy.healthy(), 30 * slack(), pause_seconds=0.1)

    def everywhere(
        self, true: Callable[[GatewayProcess], object], seconds: float, numbers: Sequence[int] | None = None
    ) -> float:
        """How long it took until `true` of each gateway, or of those with these numbers."""
        these = [self.gateways[n] for n in (self.gateways if numbers is None else numbers)]
        return wait_until(
            lambda: all(true(one) for one in these),
            seconds,
            lambda: "\n".join(one.story()[-1500:] for one in these),
        )

    def verb(self, verb: str, **keys: Any) -> None:
        """Said to one of them, whichever the Service chooses."""
        body = {"model": "sentiment", "by": "ann", "reason": "asked for by a test", **keys}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.post(f"{self.admin}/-/{verb}", json=body, headers=headers, timeout=30 * slack())
        assert answer.status_code == 200, answer.text


def canary_at(share: float) -> Callable[[GatewayProcess], bool]:
    """Whether a gateway gives the canary so many percent."""
    return lambda gateway: gateway.model()["split"]["canary"] == share


@contextmanager
def running_cluster(
    registry: SharedRegistry,
    directory: Path,
    hosts: int = 3,
    models: str = f"  sentiment: {HALF}\n",
    poll_seconds: float = POLL_SECONDS,
) -> Iterator[Cluster]:
    """Nothing of it serves yet: `start_all`."""
    with ExitStack() as undo:
        laid = undo.enter_context(network(hosts))
        envoy = undo.enter_context(
            running_envoy(
                directory,
                laid.traffic_address,
                laid.registry_address,
                [host.address for host in laid.hosts],
                registry.server.port,
                slack(),
            )
        )
        lower, config = directory / "lower", directory / "router.yaml"
        lower.write_text(LOWER_TOKEN)
        config.write_text(
            _CONFIG.format(
                lower=lower,
                uri=f"http://{laid.registry_address}:{REGISTRY}",
                poll_seconds=poll_seconds,
                service=SERVICE,
            )
            + models
        )
        cluster = Cluster(registry, laid, envoy, directory, config)
        try:
            yield cluster
        finally:
            for gateway in cluster.started:
                gateway.process.kill()  # its children end with it; a stop would wait for peers that stop, too
                gateway.stop()
