"""A gateway as a service of systemd, whose part a socket plays here."""

import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import psutil

from tests.support.gateway import GatewayProcess

CONFIG = """\
server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}
registry: {uri: 'http://127.0.0.1:9'}
models: {sentiment: {split: {production: 100}}}
"""


def test_the_service_manager_learns_when_it_listens_reloads_and_stops(tmp_path: Path, slack: float) -> None:
    """Though nothing can be served yet, a reload is refused, and no child can speak in its place."""
    config = tmp_path / "router.yaml"
    config.write_text(CONFIG)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(environment["NOTIFY_SOCKET"])
        manager.settimeout(30 * slack)

        def heard() -> list[str]:
            return manager.recv(4096).decode().splitlines()

        gateway = GatewayProcess(tmp_path, config, environment)
        try:
            assert heard() == ["READY=1", f"STATUS=listens on {gateway.url}"]
            assert gateway.get("/readyz").status_code == 503
            children = psutil.Process(gateway.pid).children(recursive=True)
            assert children
            assert not [child for child in children if "NOTIFY_SOCKET" in child.environ()]

            config.write_text("models: {}\n")
            os.kill(gateway.pid, signal.SIGHUP)
            assert heard()[0] == "RELOADING=1"
            assert heard() == ["READY=1"]

            os.kill(gateway.pid, signal.SIGTERM)
            assert heard()[0] == "STOPPING=1"
            assert gateway.process.wait(30 * slack) == 0
        finally:
            gateway.stop()
