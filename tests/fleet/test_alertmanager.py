"""An alert's `abort` goes to the Service, so to any gateway, and holds on all."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.deploy.conftest import (
    DEPLOY,
    alertmanager_program,
    hurried,
    running_alertmanager,
    running_prometheus,
)
from tests.fleet.cluster import LOWER_TOKEN, Cluster
from tests.support.faulty_registry import body_of
from tests.support.load import Load

pytestmark = pytest.mark.slow


def test_an_alert_that_says_abort_to_the_service_holds_on_all(
    cluster: Cluster, tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Row 126. Through a real Prometheus, a real Alertmanager, and Envoy before the admin listeners."""
    alertmanager = alertmanager_program()
    if alertmanager is None or shutil.which("prometheus") is None:
        pytest.skip("Prometheus or Alertmanager is missing; the Debian packages have them")
    cluster.start_all()
    token, routes, rules = tmp_path / "token", tmp_path / "alertmanager.yml", tmp_path / "alerts.yml"
    token.write_text(LOWER_TOKEN)
    shipped = (DEPLOY / "alertmanager.yml").read_text()
    routes.write_text(
        shipped.replace("http://127.0.0.1:8081", cluster.admin).replace(
            "# http_config: {authorization: {credentials_file: /etc/alertmanager/canary-router-lower-token}}",
            f"http_config: {{authorization: {{credentials_file: {token}}}}}",
        )
    )
    assert str(token) in routes.read_text()
    rules.write_text((DEPLOY / "prometheus/rules/alerts.yml").read_text().replace("for: 30s", "for: 1s"))
    targets = '", "'.join(f"{host.address}:8080" for host in cluster.network.hosts[:3])
    with ExitStack() as ends:
        address = ends.enter_context(running_alertmanager(alertmanager, routes, tmp_path / "alertmanager"))
        config = tmp_path / "prometheus.yml"
        config.write_text(
            hurried(targets, address).replace(f"{DEPLOY}/prometheus/rules/*.yml", f"{tmp_path}/alerts.yml")
        )
        ends.enter_context(running_prometheus(config, tmp_path / "prometheus", slack))
        cluster.everywhere(
            lambda one: one.metric("canary_router_fleet_members", state="counted") == 3, 90 * slack
        )
        ends.enter_context(Load(cluster.url, clients=8, rate=80 / slack, keys=2000))
        ends.enter_context(Load(cluster.url, clients=8, rate=20 / slack, keys=2000, body=body_of("raise")))
        took = cluster.everywhere(lambda one: one.model()["caps"], 150 * slack)

        for gateway in cluster.gateways.values():
            [cap] = gateway.model()["caps"]
            assert (cap["alias"], cap["to_percent"], cap["by"]) == ("canary", 0.0, "alertmanager")
            assert gateway.model()["split"]["canary"] == 0
    taken = [one for one in cluster.envoy.requests("admin") if one["path"] == "/-/alertmanager"]
    assert {one["status"] for one in taken} == {200}
    figure(f"all at 0 % {took:.1f} s after the traffic began, by {len(taken)} request to the Service")
