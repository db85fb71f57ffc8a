"""What 1, 3 and 10 replicas cost, and what three are worth on one machine: the figures of `docs/scaling.md`.

They are measured, and bounded only where a regression would be a fault of another kind.
"""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.load import Loader
from tests.conftest import Figure
from tests.fleet.cluster import Cluster, SharedRegistry, running_cluster
from tests.fleet.envoy import TRAFFIC
from tests.support.faulty_registry import body_of
from tests.support.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("FLEET_SECONDS", "30"))
"""For each measurement."""
POLL_SECONDS = 5.0
"""As by default."""
RATE = 60.0
"""Requests a second through Envoy, of all gateways together, while evidence is exchanged."""
CONNECTIONS = 32
_ADMIN_PORT = 8081
_ETHERNET, _OUTGOING = 14, 4


class Exchanged:
    """Bytes on the wire, Ethernet and TCP included, that gateways sent from or to an admin port."""

    def __init__(self, devices: list[str]) -> None:
        self.bytes = 0
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._count, args=(one,)) for one in devices]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _count(self, device: str) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x0003)) as tap:
            tap.bind((device, 0))
            tap.settimeout(0.2)
            while not self._ends.is_set():
                try:
                    frame, (_, _, kind, *_) = tap.recvfrom(65_536)
                except TimeoutError:
                    continue
                # What goes into the namespace came out of another one, and was counted there.
                if kind != _OUTGOING and _ADMIN_PORT in _ports(frame):
                    self.bytes += len(frame)


def _ports(frame: bytes) -> tuple[int, ...]:
    if frame[12:14] != b"\x08\x00" or frame[_ETHERNET + 9] != socket.IPPROTO_TCP:
        return ()
    tcp = _ETHERNET + 4 * (frame[_ETHERNET] & 0x0F)
    return int.from_bytes(frame[tcp : tcp + 2]), int.from_bytes(frame[tcp + 2 : tcp + 4])


@contextmanager
def exchanged(cluster: Cluster, count: int) -> Iterator[Exchanged]:
    counted = Exchanged([host.traffic_device for host in cluster.network.hosts[:count]])
    counted.start()
    try:
        yield counted
    finally:
        counted.stop()


def tree(pid: int) -> list[psutil.Process]:
    """The process and its children; of a gateway these are template, agents, workers."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def pss_mib(processes: list[psutil.Process]) -> float:
    total: int = sum(process.memory_full_info().pss for process in processes)
    return total / 2**20


@contextmanager
def fleet_of(count: int, registry: SharedRegistry, directory: Path) -> Iterator[Cluster]:
    registry.reset()
    with running_cluster(registry, directory, hosts=count, poll_seconds=POLL_SECONDS) as cluster:
        yield cluster


@pytest.mark.parametrize("count", [1, 3, 10])
def test_what_replicas_cost(
    count: int, fleet_registry: SharedRegistry, tmp_path: Path, slack: float, figure: Figure
) -> None:
    with fleet_of(count, fleet_registry, tmp_path) as cluster:
        if count > 1:
            cluster.start_all(count=count - 1)
        cluster.name(count - 1)
        began = time.monotonic()
        cluster.start(count - 1)
        cluster.wait_served(count - 1)
        start_seconds = time.monotonic() - began
        cluster.gateways[count - 1].wait_bound(2, "canary")
        cluster.everywhere(
            lambda one: one.metric("canary_router_fleet_members", state="counted") == count, 180 * slack
        )

        reads_before = len(cluster.envoy.requests("registry"))
        processes = [process for gateway in cluster.gateways.values() for process in tree(gateway.pid)]
        server = tree(fleet_registry.server.pid)
        idle_before, server_before = cpu_seconds(processes), cpu_seconds(server)
        with exchanged(cluster, count) as idle:
            time.sleep(SECONDS)  # it is the time that is measured
        idle_cpu = (cpu_seconds(processes) - idle_before) / SECONDS / count
        server_cpu = cpu_seconds(server) - server_before
        reads = len(cluster.envoy.requests("registry")) - reads_before
        memory = pss_mib(processes) / count

        busy_before = cpu_seconds(processes)
        with exchanged(cluster, count) as busy, Load(cluster.url, clients=8, rate=RATE) as load:
            time.sleep(SECONDS)
        busy_cpu = (cpu_seconds(processes) - busy_before) / SECONDS / count
    assert load.failed == [], load.summary()
    sent_idle, sent_busy = (one.bytes / SECONDS / count / 1024 for one in (idle, busy))
    per_request = (busy_cpu - idle_cpu) * count * SECONDS / len(load.seen)
    figure(
        f"{count} replicas: {reads * 60 / SECONDS:.0f} registry requests a minute, which take the server"
        f" {server_cpu / reads * 1e3:.1f} ms of a processor each; a gateway sends others"
        f" {sent_idle:.2f} KiB/s when idle and {sent_busy:.2f} under {RATE:.0f} requests/s;"
        f" {memory:.0f} MiB each (PSS); READY after {start_seconds:.1f} s; processor: {idle_cpu * 100:.1f} %"
        f" each when idle, {per_request * 1e3:.2f} ms per request"
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_envoy_gets_from_gateways_on_one_machine(
    count: int, fleet_registry: SharedRegistry, tmp_path: Path, figure: Figure
) -> None:
    requests = tmp_path / "requests"
    body = body_of("good")
    with requests.open("wb") as out:
        for key in range(512):
            head = f"POST /invocations HTTP/1.1\r\nHost: gateways\r\nX-Request-Key: user-{key}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            out.write(b"%d\n" % (len(head) + len(body)) + head.encode() + body)
    loader = Loader("wrk" if shutil.which("wrk") else "python", None)
    with fleet_of(count, fleet_registry, tmp_path) as cluster:
        cluster.start_all(count=count)
        host = cluster.network.traffic_address
        loader.closed_loop(TRAFFIC, requests, CONNECTIONS, 3, host)
        rounds = [
            loader.closed_loop(TRAFFIC, requests, CONNECTIONS, int(SECONDS / 3), host) for _ in range(3)
        ]
    assert all(one.failed == 0 for one in rounds)
    rates = sorted(one.requests / one.seconds for one in rounds)
    figure(
        f"{count} gateways, {loader.client}, {CONNECTIONS} connections: {rates[1]:.0f} requests/s"
        f" ({rates[0]:.0f} to {rates[2]:.0f}), p99 {sorted(one.p99_ms for one in rounds)[1]:.1f} ms"
    )
