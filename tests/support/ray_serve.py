"""A real Ray of one node on loopback, in the environment whose `bin` TEST_RAY names, and Serve on it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.ports import free_port
from tests.support.slowness import slack
from tests.support.waiting import wait_until

PROGRAMS = Path(os.environ.get("TEST_RAY", "/nowhere"))
_OBJECTS_BYTES = 100 << 20
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray puts the machine's own address in the place of 127.0.0.1, and listens at all of them.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass
class RayCluster:
    """One node. Its dashboard's API is what `serve deploy` talks to."""

    directory: Path
    """A short path: Unix sockets lie below it."""
    port: int
    """Where Serve listens."""
    api: str
    """Address of the dashboard."""

    def deploy(self, file: Path) -> None:
        """`serve deploy`; what is in the file becomes ready later."""
        done = subprocess.run(
            [PROGRAMS / "serve", "deploy", "--address", self.api, str(file)],
            capture_output=True,
            text=True,
            env={**os.environ, **_ENVIRONMENT},
            cwd=self.directory,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def applications(self) -> dict[str, Any]:
        """Those that Serve has, by name, as its API describes them."""
        answer = requests.get(f"{self.api}/api/serve/applications/", timeout=30)
        found: dict[str, Any] = answer.json()["applications"]
        return found

    def replica_pids(self, application: str) -> list[int]:
        """Processes of an application's replicas that answer."""
        deployments = self.applications().get(application, {"deployments": {}})["deployments"]
        replicas = [one for each in deployments.values() for one in each["replicas"]]
        return [one["pid"] for one in replicas if one["state"] == "RUNNING"]

    def story(self) -> str:
        """What Serve says of each application."""
        return "\n".join(
            f"{name}: {one['status']} {one['message'][-1000:]}"
            + "".join(f"\n  {each['message'][-2000:]}" for each in one["deployments"].values())
            for name, one in self.applications().items()
        )

    def wait_running(self, *names: str) -> None:
        """Wait until these applications run. Fails at once where one can not."""

        def are_running() -> bool:
            found = self.applications()
            states = {name: found[name]["status"] if name in found else "" for name in names}
            assert "DEPLOY_FAILED" not in states.values(), self.story()
            return set(states.values()) == {"RUNNING"}

        wait_until(are_running, 300 * slack(), self.story, pause_seconds=0.25)

    def answers(self, path: str, status: int = 200) -> bool:
        """Whether Serve answers a GET with that status."""
        try:
            return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5).status_code == status
        except requests.RequestException:
            return False


@contextmanager
def running_ray() -> Iterator[RayCluster]:
    """A node with room for many replicas; with the block's end all its processes are gone."""
    directory = Path(tempfile.mkdtemp(prefix="ray-"))
    dashboard = free_port()
    with (directory / "start.log").open("wb") as log:
        head = subprocess.Popen(
            [
                *(PROGRAMS / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
                # 0 is any free port: those of Ray's defaults may be another's.
                *(
                    "--port=0",
                    "--min-worker-port=0",
                    "--max-worker-port=0",
                    "--dashboard-agent-listen-port=0",
                ),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={directory}"),
                *("--num-cpus=16", f"--object-store-memory={_OBJECTS_BYTES}", "--include-log-monitor=false"),
                *("--disable-usage-stats", f"--ray-client-server-port={free_port()}"),
            ],
            stdout=log,
            stderr=log,
            cwd=directory,
            env={**os.environ, **_ENVIRONMENT, "TMPDIR": str(directory)},
            start_new_session=True,
        )
    cluster = RayCluster(directory, free_port(), f"http://127.0.0.1:{dashboard}")
    try:
        wait_until(lambda: _answers(cluster), 120 * slack(), (directory / "start.log").read_text)
        yield cluster
    finally:
        _end(head)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(cluster: RayCluster) -> bool:
    try:
        cluster.applications()
    except (requests.RequestException, KeyError):
        return False
    return True


def _end(head: subprocess.Popen[bytes]) -> None:
    """Replicas lead process groups of their own, so each process is ended by its number. Nothing is kept that
    an orderly end, which takes half a minute, would save."""
    started: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        started += psutil.Process(head.pid).children(recursive=True)
    head.kill()
    head.wait()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(started, timeout=10)
