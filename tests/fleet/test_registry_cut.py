"""The way to the registry is cut, slow or broken: all gateways serve on, and the skew shows."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from router.control.alias_watch import JITTER
from tests.conftest import Figure
from tests.deploy.conftest import DEPLOY, NOBODY, Prometheus, hurried, running_prometheus
from tests.fleet.cluster import POLL_SECONDS, Cluster
from tests.support.load import Load
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

MOVED_TO = 3
SPOILT_SECONDS = 12.0
"""Of which a delayed request takes 3."""
POLLS = 20
"""Of each gateway, whose distances are looked at."""


@pytest.fixture
def prometheus(cluster: Cluster, tmp_path: Path, slack: float) -> Iterator[Prometheus]:
    """It scrapes three gateways, as one job."""
    config = tmp_path / "prometheus.yml"
    targets = '", "'.join(f"{host.address}:8080" for host in cluster.network.hosts[:3])
    config.write_text(hurried(targets, NOBODY))
    with running_prometheus(config, tmp_path / "prometheus", slack) as running:
        yield running


def expression(alert: str) -> str:
    """Of an alert, as it is shipped."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules/alerts.yml").read_text())["groups"]
    [found] = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    return str(found)


def test_a_gateway_that_is_cut_off_from_its_registry_serves_on_and_the_skew_shows(
    cluster: Cluster, prometheus: Prometheus, slack: float, figure: Figure
) -> None:
    """Row 121. What the others do is seen by the shipped alert's expression, and it ends with the cut."""
    cluster.start_all()
    skew = expression("CanaryRouterReplicaVersionSkew")

    def skewed() -> list[dict[str, str]]:
        return [one["metric"] for one in prometheus.query(skew)["data"]["result"]]

    wait_until(lambda: prometheus.query("count(canary_router_model_info) == 6")["data"]["result"], 30 * slack)
    assert skewed() == []
    with Load(cluster.url, clients=8, rate=60 / slack) as load:
        cluster.host(0).cut_registry()
        cluster.registry.move("production", MOVED_TO)
        cluster.everywhere(lambda one: one.bound() == MOVED_TO, 60 * slack, [1, 2])
        seen = wait_until(skewed, 30 * slack, pause_seconds=0.2)
        assert [(one["model"], one["alias"]) for one in skewed()] == [("sentiment", "production")]
        assert cluster.gateways[0].bound() == 1
        assert cluster.host(0).address in cluster.envoy.healthy()

        cluster.host(0).mend_registry()
        followed = cluster.everywhere(lambda one: one.bound() == MOVED_TO, 60 * slack)
        wait_until(lambda: skewed() == [], 30 * slack, pause_seconds=0.2)
    assert load.failed == [], load.summary()
    figure(
        f"{load.summary()}; the expression true {seen:.1f} s after the others moved; the one that was cut off"
        f" moved {followed:.1f} s after the cut ended"
    )


@pytest.mark.parametrize("fault", ["delay_percent", "abort_percent"])
def test_a_registry_that_is_slow_or_refuses_costs_no_request_and_no_gateway(
    cluster: Cluster, slack: float, figure: Figure, fault: str
) -> None:
    """Row 121. Each request to it takes 3 s longer, or is answered 503; then a move is followed by all."""
    cluster.start_all()
    with Load(cluster.url, clients=8, rate=60 / slack) as load:
        cluster.envoy.spoil_registry(**{fault: 100})
        wait_until(lambda: load.seen and load.seen[-1].sent_at > load.seen[0].sent_at + SPOILT_SECONDS, 60)
        cluster.registry.move("canary", MOVED_TO)
        assert len(cluster.envoy.healthy()) == 3
        cluster.envoy.spoil_registry()
        took = cluster.everywhere(lambda one: one.bound("canary") == MOVED_TO, 60 * slack)
    assert load.failed == [], load.summary()
    figure(f"{fault}: {load.summary()}; a move on all {took:.1f} s after it ended")


def test_gateways_that_start_together_do_not_go_on_asking_their_registry_together(
    cluster: Cluster, slack: float, figure: Figure
) -> None:
    """Row 121. Between two polls of a gateway lies its time, and evenly up to a fifth more or less."""
    cluster.start_all()

    def polls() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {host.registry_side: [] for host in cluster.network.hosts[:3]}
        for one in cluster.envoy.requests("registry"):
            if one["path"].startswith("/api/2.0/mlflow/registered-models/get?"):
                found[one["asked"]].append(float(one["at"]))
        return found

    before = {address: len(times) for address, times in polls().items()}
    wait_until(
        lambda: all(len(times) > before[address] + POLLS for address, times in polls().items()),
        120 * slack,
        lambda: str(cluster.envoy.requests("registry")[-5:]),
        pause_seconds=0.5,
    )
    for address, times in polls().items():
        these = times[before[address] :]
        distances = [later - earlier for earlier, later in pairwise(these)]
        # What else the machine does may make a poll late, never early.
        assert min(distances) > POLL_SECONDS * (1 - JITTER) - 0.05, distances
        assert max(distances) - min(distances) > POLL_SECONDS * JITTER, distances
        figure(
            f"{len(distances)} polls, {min(distances):.2f} to {max(distances):.2f} s apart,"
            f" {fmean(distances):.2f} on average"
        )
