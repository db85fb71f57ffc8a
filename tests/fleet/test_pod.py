"""The chart's pod under its own terms: root directory, user, capabilities, environment, mounts, probes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.deploy.chart import NAME, NAMESPACE, Object, container_of, objects, pod_of, router_yaml
from tests.fleet import pod
from tests.fleet.cluster import SharedRegistry
from tests.fleet.envoy import REGISTRY, running_envoy
from tests.fleet.image import Image
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
def running(
    found: list[Object], host: Host, made: dict[str, Path], directory: Path, image: Image | None
) -> Iterator[Container]:
    root = directory / "root"
    root.mkdir()
    log = directory / "container.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*host.inside, *pod.command(found, made, root, image)], stdout=output, stderr=subprocess.STDOUT
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
    the_pod_serves(fleet_registry, tmp_path, slack)


def the_pod_serves(
    registry: SharedRegistry, tmp_path: Path, slack: float, image: Image | None = None
) -> None:
    """With the files of `image`; without one, with this machine's. Skips where a program is missing."""
    if missing := pod.missing():
        pytest.skip(f"missing here: {missing}")
    registry.reset()
    with ExitStack() as undo:
        laid = undo.enter_context(network(1))
        [host] = laid.hosts
        envoy = undo.enter_context(
            running_envoy(
                tmp_path,
                laid.traffic_address,
                laid.registry_address,
                [host.address],
                registry.server.port,
                slack,
            )
        )
        text = CONFIG.format(address=laid.registry_address, port=REGISTRY)
        found = objects({"config": text, "admin": {"networkEncrypts": True}})
        laid.name([host], f"{NAME}-peers.{NAMESPACE}.svc")
        volumes = tmp_path / "volumes"
        volumes.mkdir()
        made = pod.volumes(found, volumes)
        container = undo.enter_context(running(found, host, made, tmp_path, image))

        wait_until(lambda: container.probe("startup"), 120 * slack, container.story)
        wait_until(lambda: container.probe("readiness"), 120 * slack, container.story)
        assert container.probe("liveness")
        wait_until(lambda: envoy.healthy() == {host.address}, 30 * slack)
        its_process_has_no_rights(container)
        if image:
            what_runs_is_the_images(container, image)
        commands_run_beside_it(container, found, image)
        it_serves_and_follows_its_configmap(host, found, made, container, slack)
        what_it_keeps_is_in_its_volumes(made)
        it_answers_what_came_and_ends_in_time(host, container, found, slack)


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


def what_runs_is_the_images(container: Container, image: Image) -> None:
    for process in (container.gateway(), *container.gateway().children(recursive=True)):
        running, built = Path(f"/proc/{process.pid}/exe"), image.root / "usr/local/bin/python"
        assert running.read_bytes() == built.read_bytes()
        assert (Path(f"/proc/{process.pid}/root") / "opt/canary-router/pyvenv.cfg").exists()


def commands_run_beside_it(container: Container, found: list[Object], image: Image | None) -> None:
    """As docs/kubernetes.md has operators run them, and as a container engine asks for health."""
    for command, answer in ((["canary-router", "status"], "sentiment"), (["canary-router", "health"], "")):
        asked = pod.inside(found, image, container.gateway().pid, *command)
        done = subprocess.run(asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert answer in done.stdout


def it_serves_and_follows_its_configmap(
    host: Host, found: list[Object], made: dict[str, Path], container: Container, slack: float
) -> None:
    def version() -> str:
        answer = asked(host, "good")
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


def it_answers_what_came_and_ends_in_time(
    host: Host, container: Container, found: list[Object], slack: float
) -> None:
    """As Kubernetes ends a pod, once its pause is over: SIGTERM to number 1, and SIGKILL after the grace."""
    grace = pod_of(found)["terminationGracePeriodSeconds"]
    grace -= container_of(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
    with ThreadPoolExecutor() as caller:
        under_way = caller.submit(asked, host, "sleep 2")
        wait_until(lambda: under_way_at(host) == 1, 10 * slack, container.story)
        began = time.monotonic()
        container.gateway().send_signal(signal.SIGTERM)
        wait_until(lambda: not container.probe("readiness"), 5 * slack, container.story)
        late = asked(host, "good")
        assert late.status_code == 200, "no proxy knows yet that it leaves"
        assert late.headers["Connection"] == "close"
        assert under_way.result().status_code == 200
    assert container.process.wait(grace) == 0
    assert time.monotonic() - began < grace


def asked(host: Host, text: str) -> requests.Response:
    """What a caller whose key is the canary's gets."""
    headers = {"X-Request-Key": CANARY_KEY, "Content-Type": "application/json"}
    url = f"http://{host.address}:8080/invocations"
    return requests.post(url, data=body_of(text), headers=headers, timeout=30)


def under_way_at(host: Host) -> float:
    """Requests that the gateway has yet to answer."""
    text = requests.get(f"http://{host.address}:8080/metrics", timeout=5).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "canary_router_requests_in_flight"
        for sample in family.samples
    )
