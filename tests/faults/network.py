"""Two cables out of a network namespace: one to those who ask a gateway inside it, one to its registry."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Cables:
    """A namespace, and the addresses at both ends of its cables."""

    namespace: str
    gateway_host: str
    """Where a gateway inside listens for those outside."""
    registry_host: str
    """Where a registry outside listens for what is inside."""
    _registry_device: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run inside."""
        return ("ip", "netns", "exec", self.namespace)

    def pull(self) -> None:
        """From now on nothing comes through the registry's cable, and nobody notices."""
        ip("link", "set", self._registry_device, "down")

    def plug(self) -> None:
        """As it was."""
        ip("link", "set", self._registry_device, "up")


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def cables() -> Iterator[Cables]:
    """Laid for the block; skips the test where that is not permitted."""
    name = secrets.token_hex(3)
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    namespace = f"gw-{name}"
    made = subprocess.run(["ip", "netns", "add", namespace], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
    net = f"10.213.{secrets.randbelow(250)}"
    devices = [f"c-{name}", f"r-{name}"]
    try:
        ip("-n", namespace, "link", "set", "lo", "up")
        for number, device in enumerate(devices):
            within = f"{device}-in"
            ip("link", "add", device, "type", "veth", "peer", "name", within, "netns", namespace)
            ip("address", "add", f"{net}.{4 * number + 1}/30", "dev", device)
            ip("-n", namespace, "address", "add", f"{net}.{4 * number + 2}/30", "dev", within)
            ip("-n", namespace, "link", "set", within, "up")
            ip("link", "set", device, "up")
        # Known for good: else the kernel would say "no route to host" after three seconds of silence.
        address = ip("-o", "link", "show", devices[1]).partition("link/ether ")[2].split()[0]
        within = f"{devices[1]}-in"
        ip("-n", namespace, "neigh", "add", f"{net}.5", "lladdr", address, "dev", within, "nud", "permanent")
        yield Cables(namespace, f"{net}.2", f"{net}.5", devices[1])
    finally:
        for device in devices:
            subprocess.run(["ip", "link", "delete", device], capture_output=True)
        ip("netns", "delete", namespace)
