"""A gateway under the terms of the chart's pod, as far as a machine has them without a cluster.

Its configuration, as a ConfigMap is mounted; volumes that belong to somebody else; any user id, in group 0.
"""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import NAME, NAMESPACE, VALUES, named, objects, router_yaml
from tests.e2e.test_any_user import AS_SOMEBODY, SOMEBODY
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

KUBELET = 12345
CONFIG = "registry: {uri: 'http://127.0.0.1:9'}\nmodels:\n  sentiment: {split: {production: 95, canary: 5}}\n"


def mount(directory: Path, revision: str, text: str) -> None:
    """As a kubelet updates a ConfigMap: all files of a revision appear at once, by one link."""
    (directory / f"..{revision}").mkdir()
    (directory / f"..{revision}" / "router.yaml").write_text(text)
    (directory / "..new").symlink_to(f"..{revision}")
    (directory / "..new").rename(directory / "..data")


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A directory with what the pod has in `/`: configuration, secrets, and an emptyDir for each volume."""
    if os.getuid() != 0 or subprocess.run([*AS_SOMEBODY[:-1], "true"], capture_output=True).returncode:
        pytest.skip("a volume of another user takes root, and another user id takes user namespaces")
    for place in ("config", "secrets/admin-tokens", "cache", "state"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("cache", "state"):
        os.chown(tmp_path / place, KUBELET, KUBELET)
        (tmp_path / place).chmod(0o777)
    return tmp_path


def installed(pod: Path) -> str:
    """The gateway's configuration with the places of this machine; the Secret's files are put into theirs."""
    found = objects({**VALUES, "config": CONFIG})
    for name, value in named(found, "Secret", f"{NAME}-tokens")["data"].items():
        (pod / "secrets" / "admin-tokens" / name).write_bytes(base64.b64decode(value))
    text = router_yaml(found)
    for inside, here in (
        ("/run/secrets", pod / "secrets"),
        ("/var/lib/canary-router/state", pod / "state"),
        (f"dns:{NAME}-peers.{NAMESPACE}.svc:8081", "dns:localhost:9"),
    ):
        assert inside in text
        text = text.replace(inside, str(here))
    return text


def test_a_pod_serves_under_any_user_id_and_follows_its_configmap(pod: Path, slack: float) -> None:
    """It waits for its registry alive and not ready; caps and journal are kept in a directory of its own."""
    config = pod / "config" / "router.yaml"
    text = installed(pod)
    mount(config.parent, "2026_11_29", text)
    config.symlink_to("..data/router.yaml")
    environment = {
        "XDG_CACHE_HOME": str(pod / "cache"),
        "CANARY_ROUTER_SERVER__LISTEN": "127.0.0.1:0",
        "CANARY_ROUTER_SERVER__ADMIN": "0.0.0.0:0",
    }
    gateway = GatewayProcess(pod, config, environment, AS_SOMEBODY)
    try:
        assert (gateway.get("/livez").status_code, gateway.get("/readyz").status_code) == (200, 503)
        assert gateway.state()["state_dir"]["durable"] is True
        own = pod / "state" / str(SOMEBODY)
        assert own.stat().st_mode & 0o777 == 0o700

        share = "{production: 95, canary: 5}"
        assert share in text
        mount(config.parent, "2026_11_30", text.replace(share, "{production: 75, canary: 25}"))
        wait_until(lambda: gateway.model()["split_configured"]["canary"] == 25, 20 * slack, gateway.story)
    finally:
        gateway.stop()
