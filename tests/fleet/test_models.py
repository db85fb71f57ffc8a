"""What happens to one model happens to no other, on any replica."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import Figure
from tests.fleet.cluster import HALF, Cluster, SharedRegistry, running_cluster
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SICK, FATAL = "sick", 2
"""A registered model, and the version of it that ends its process when it is asked to."""


@pytest.fixture
def two_models(fleet_registry: SharedRegistry, tmp_path: Path) -> Iterator[Cluster]:
    """`sentiment` as ever, and `sick`, whose production ends when it is asked to."""
    fleet_registry.reset()
    fleet_registry.copy(SICK, FATAL)
    models = f"  sentiment: {HALF}\n  {SICK}: {{split: {{production: 100}}}}\n"
    with running_cluster(fleet_registry, tmp_path, models=models) as cluster:
        yield cluster


def killed(gateway: GatewayProcess) -> None:
    """Its production of `sick`, by a request; whoever sent it is refused."""
    url = f"{gateway.url}/models/{SICK}/invocations"
    headers = {"Content-Type": "application/json"}
    assert requests.post(url, data=body_of("os._exit"), headers=headers, timeout=60).status_code >= 500


def workers(gateway: GatewayProcess) -> list[int]:
    found: list[int] = gateway.model(SICK)["versions"][str(FATAL)]["workers"]
    return found


def test_a_model_without_a_production_worker_leaves_all_others_untouched_on_all_replicas(
    two_models: Cluster, slack: float, figure: Figure
) -> None:
    """Row 124. No replica leaves the Service for it, and no request of the other model fails."""
    cluster = two_models
    cluster.start_all()
    without = set[str]()
    with Load(cluster.url, clients=8, rate=60 / slack) as load:
        for _ in range(6):
            for gateway in cluster.gateways.values():
                killed(gateway)
                if not workers(gateway):
                    without.add(gateway.url)
                assert len(cluster.envoy.healthy()) == 3
        assert len(without) == 3, "its workers came back too soon to be missed"
        cluster.everywhere(workers, 60 * slack)
        seen = len(load.seen)
        wait_until(lambda: len(load.seen) > seen + 60, 30 * slack)
    assert load.failed == [], load.summary()
    figure(load.summary())
