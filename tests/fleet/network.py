"""Network namespaces on two bridges: one for traffic, peers and scrapes, and one to the registry.

Each host has a cable to either, which can be pulled. The tests, Envoy, Prometheus and the registry's server
are outside, and reach the hosts by the bridges.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.network import ip

SERVICE = "gateways.fleet"
"""The name of all hosts that are there, as a headless Service has one."""
_OUTSIDE = 1
_FIRST_HOST = 11


@dataclass(frozen=True)
class Host:
    """A network namespace with two cables, as a pod on a node of its own."""

    namespace: str
    address: str
    """On the bridge for traffic, peers and scrapes."""
    registry_side: str
    """On the bridge to the registry, where its requests come from."""
    traffic_device: str
    """The outer end of its cable to that bridge."""
    _registry_device: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run inside."""
        return ("ip", "netns", "exec", self.namespace)

    def cut_registry(self) -> None:
        """From now on nothing comes through between this host and the registry, and nobody notices."""
        ip("link", "set", self._registry_device, "down")

    def mend_registry(self) -> None:
        """As it was."""
        ip("link", "set", self._registry_device, "up")

    def cut_traffic(self) -> None:
        """Nor between this host and Envoy, Prometheus and its peers."""
        ip("link", "set", self.traffic_device, "down")

    def mend_traffic(self) -> None:
        """As it was."""
        ip("link", "set", self.traffic_device, "up")


@dataclass(frozen=True)
class Network:
    """Hosts, and the addresses of what is outside."""

    hosts: Sequence[Host]
    traffic_address: str
    registry_address: str
    _names: Sequence[Path]

    def name(self, hosts: Sequence[Host], name: str = SERVICE) -> None:
        """From now on `hosts` are what `name` means inside each host."""
        lines = "".join(f"{host.address} {name}\n" for host in hosts)
        for path in self._names:
            path.write_text(f"127.0.0.1 localhost\n{lines}")  # in place: it is mounted over /etc/hosts


def why_not() -> str:
    """Why no network namespaces can be made here; empty where they can."""
    if os.geteuid() != 0:
        return "only root may make a network namespace"
    probe = f"fleet-{secrets.token_hex(3)}"
    try:
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    except FileNotFoundError:
        return "the program `ip` is missing; install the Debian package `iproute2`"
    if made.returncode != 0:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    ip("netns", "delete", probe)
    return ""


@contextmanager
def network(count: int) -> Iterator[Network]:
    """`count` hosts, laid for the block; skips the test where that is not permitted."""
    if reason := why_not():
        pytest.skip(reason)
    name, net = secrets.token_hex(3), secrets.randbelow(250)
    nets = (f"10.214.{net}", f"10.215.{net}")
    bridges = (f"t-{name}", f"r-{name}")
    with ExitStack() as undo:
        for bridge, prefix in zip(bridges, nets, strict=True):
            ip("link", "add", bridge, "address", _mac(prefix, _OUTSIDE), "type", "bridge")
            undo.callback(ip, "link", "delete", bridge)
            ip("address", "add", f"{prefix}.{_OUTSIDE}/24", "dev", bridge)
            ip("link", "set", bridge, "up")
        hosts = [undo.enter_context(_host(f"{name}-{n}", n, bridges, nets)) for n in range(count)]
        names = [Path("/etc/netns") / host.namespace / "hosts" for host in hosts]
        yield Network(hosts, f"{nets[0]}.{_OUTSIDE}", f"{nets[1]}.{_OUTSIDE}", names)


@contextmanager
def _host(name: str, number: int, bridges: tuple[str, str], nets: tuple[str, str]) -> Iterator[Host]:
    namespace = f"gw-{name}"
    own_files = Path("/etc/netns") / namespace
    addresses = [f"{prefix}.{_FIRST_HOST + number}" for prefix in nets]
    devices = [f"t{name}", f"r{name}"]
    with ExitStack() as undo:
        ip("netns", "add", namespace)
        undo.callback(ip, "netns", "delete", namespace)  # and the cables with it
        own_files.mkdir(parents=True)
        undo.callback(own_files.rmdir)
        (own_files / "hosts").write_text("127.0.0.1 localhost\n")
        undo.callback((own_files / "hosts").unlink)
        ip("-n", namespace, "link", "set", "lo", "up")
        for device, within, bridge, prefix, address in zip(
            devices, ("traffic", "registry"), bridges, nets, addresses, strict=True
        ):
            ip("link", "add", device, "type", "veth", "peer", "name", within, "netns", namespace)
            ip("link", "set", device, "master", bridge, "up")
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", within)
            ip("-n", namespace, "link", "set", within, "up")
            # Known for good: else the kernel would say "no route to host" after three seconds of silence.
            known = (f"{prefix}.{_OUTSIDE}", "lladdr", _mac(prefix, _OUTSIDE), "dev", within)
            ip("-n", namespace, "neigh", "add", *known, "nud", "permanent")
        yield Host(namespace, *addresses, *devices)


def _mac(prefix: str, number: int) -> str:
    """A hardware address of our own, which stays when ports come and go."""
    return "02:" + ":".join(f"{int(part):02x}" for part in (*prefix.split("."), str(number), "0")[:5])
