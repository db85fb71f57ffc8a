"""Commands at one gateway reach all of them: `promote` and `rollback`, as an operator runs them in a pod."""

import os
import subprocess
import sys

import pytest

from tests.conftest import Figure
from tests.fleet.cluster import TOKEN, Cluster
from tests.support.gateway import TOKEN_VARIABLE
from tests.support.load import Load

pytestmark = pytest.mark.slow

CANARY, FORMER = 3, 1


def command(cluster: Cluster, number: int, *arguments: str) -> str:
    """What a command says inside the host of a gateway, on its configuration."""
    done = subprocess.run(
        [*cluster.host(number).inside, sys.executable, "-m", "router", *arguments, "-c", str(cluster.config)],
        capture_output=True,
        text=True,
        env={**os.environ, TOKEN_VARIABLE: TOKEN},
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promote_and_rollback_in_one_pod_reach_all(cluster: Cluster, slack: float, figure: Figure) -> None:
    """Row 122. Each says when all of them serve it, found by the one name that the configuration has."""
    cluster.registry.move("canary", CANARY)
    cluster.start_all(canary=CANARY)
    with Load(cluster.url, clients=8, rate=60 / slack) as load:
        said = command(
            cluster, 0, "promote", "sentiment", "--reason", "asked for by a test", "--force", "--yes"
        )
        assert {one.bound() for one in cluster.gateways.values()} == {CANARY}, said
        for host in cluster.network.hosts[:3]:
            assert host.address in said or host == cluster.host(0), said
        said = command(cluster, 1, "rollback", "sentiment", "--reason", "complaints")
        assert {one.bound() for one in cluster.gateways.values()} == {FORMER}, said
    assert load.failed == [], load.summary()
    figure(load.summary())
