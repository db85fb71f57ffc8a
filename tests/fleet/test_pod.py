"""The chart's pod under its own terms: root directory, user, capabilities, environment, mounts, probes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from ruamel.yaml import YAML

from tests.deploy.chart import NAME, NAMESPACE, Object, container_of, objects, pod_of, router_yaml
from tests.fleet import pod
from tests.fleet.cluster import SharedRegistry
from tests.fleet.envoy import REGISTRY, running_envoy
from tests.fleet.network import Host, network
from tests.support.faulty_registry import CANARY_KEY, body_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CONFIG = """\
registry: {{uri: "http://{address}:{port}", poll_seconds: 1}}
models:
  sentiment: {{split: {{production: 50, canary: 50}}}}
"""


class Container:
    """A running one, as a kubelet sees it."""

    def __init__(self, found: list[Object], host: Host, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log
        self._host, self._spec = host, container_of(found)

    def probe(self, kind: str) -> bool:
        """Whether the probe of this kind passes, once."""
        asked = self._spec[f"{kind}Probe"]["httpGet"]
        [port] = [one["containerPort"] for one in self._spec["ports"] if one["name"] == asked["port"]]
        url = f"{asked['scheme'].lower()}://{self._host.address}:{port}{asked['path']}"
        try:
            return requests.get(url, timeout=self._spec[f"{kind}Probe"]["timeoutSeconds"]).status_code == 200
        except requests.RequestException:
            return False

    def story(self) -> str:
        return self._log.read_text()[-5000:]

    def gateway(self) -> psutil.Process:
        """The process that is number 1 inside."""
        [inside] = psutil.Process(self.process.pid).children()
        return inside


@contextmanager
def running(found: list[Object], host: Host, made: dict[str, Path], directory: Path) -> Iterator[Container]:
    root = directory / "root"
    root.mkdir()
    log = directory / "container.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*host.inside, *pod.command(found, made, root)], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield Container(found, host, process, log)
    finally:
        process.kill()  # and all inside with it
        process.wait()


def test_the_charts_pod_serves_under_its_own_terms(
    fleet_registry: SharedRegistry, tmp_path: Path, slack: float
) -> None:
    """Row 127. Nothing is writable but its volumes; no file knows its user id, and it has no capability."""
    if missing := pod.missing():
        pytest.skip(f"missing here: {missing}")
    fleet_registry.reset()
    with ExitStack() as undo:
        laid = undo.enter_context(network(1))
        [host] = laid.hosts
        envoy = undo.enter_context(
            running_envoy(
                tmp_path,
                laid.traffic_address,
                laid.registry_address,
                [host.address],
                fleet_registry.server.port,
                slack,
            )
        )
        text = CONFIG.format(address=laid.registry_address, port=REGISTRY)
        found = objects({"config": text, "admin": {"networkEncrypts": True}})
        laid.name([host], f"{NAME}-peers.{NAMESPACE}.svc")
        volumes = tmp_path / "volumes"
        volumes.mkdir()
        made = pod.volumes(found, volumes)
        container = undo.enter_context(running(found, host, made, tmp_path))

        wait_until(lambda: container.probe("startup"), 120 * slack, container.story)
        wait_until(lambda: container.probe("readiness"), 120 * slack, container.story)
        assert container.probe("liveness")
        wait_until(lambda: envoy.healthy() == {host.address}, 30 * slack)
        its_process_has_no_rights(container)
        it_serves_and_follows_its_configmap(host, found, made, container, slack)
        what_it_keeps_is_in_its_volumes(made)
        it_ends_in_time(container, found)


def its_process_has_no_rights(container: Container) -> None:
    for process in (container.gateway(), *container.gateway().children(recursive=True)):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        assert set(status["Uid"].split()) == {str(pod.USER)}
        assert set(status["Gid"].split()) == {"0"}
        assert status.get("Groups", "").split() == []
        assert status["NoNewPrivs"] == "1"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        root = Path(f"/proc/{process.pid}/root")
        for place in ("", "etc", "opt/canary-router", "usr/lib"):
            assert os.statvfs(root / place).f_flag & os.ST_RDONLY, place


def it_serves_and_follows_its_configmap(
    host: Host, found: list[Object], made: dict[str, Path], container: Container, slack: float
) -> None:
    def version() -> str:
        answer = requests.post(
            f"http://{host.address}:8080/invocations",
            data=body_of("good"),
            headers={"X-Request-Key": CANARY_KEY, "Content-Type": "application/json"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Model-Version"]

    wait_until(lambda: version() == "2", 60 * slack, container.story)
    document = YAML(typ="safe", pure=True).load(router_yaml(found))
    document["models"]["sentiment"]["split"] = {"production": 100, "canary": 0}
    with (made["config"] / "next").open("w") as changed:
        YAML(typ="safe", pure=True).dump(document, changed)
    text = (made["config"] / "next").read_text()
    (made["config"] / "next").unlink()
    pod.fill(made["config"], "2", {"router.yaml": text})
    wait_until(lambda: version() == "1", 60 * slack, container.story)


def what_it_keeps_is_in_its_volumes(made: dict[str, Path]) -> None:
    """In a directory of its user's own."""
    for volume in ("cache", "state"):
        assert list(made[volume].rglob("*")), f"nothing in {volume}"
        assert {path.stat().st_uid for path in made[volume].rglob("*")} == {pod.USER}


def it_ends_in_time(container: Container, found: list[Object]) -> None:
    """As Kubernetes ends a pod, once its pause is over: SIGTERM to number 1, and SIGKILL after the grace."""
    began = time.monotonic()
    container.gateway().send_signal(signal.SIGTERM)
    pause = container_of(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert container.process.wait(pod_of(found)["terminationGracePeriodSeconds"] - pause) == 0
    assert time.monotonic() - began < pod_of(found)["terminationGracePeriodSeconds"] - pause
