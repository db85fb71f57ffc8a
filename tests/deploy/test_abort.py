"""Real Prometheus and Alertmanager take the share of a canary that the comparison fails, by themselves."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.conftest import (
    BAD_BODY,
    BAD_CANARY,
    DEPLOY,
    alertmanager_program,
    hurried,
    running_alertmanager,
    running_prometheus,
)
from tests.e2e.conftest import built_registry  # noqa: F401 - a fixture, found by name
from tests.support.gateway import CONFIG, GatewayProcess
from tests.support.load import Load
from tests.support.registry import copied
from tests.support.waiting import wait_until

LOWER = "alertmanagers-only-0123456789"


def test_an_alert_that_says_abort_caps_the_canary_through_the_shipped_route(
    built_registry: Path,  # noqa: F811 - the fixture, by its name
    tmp_path: Path,
    slack: float,
) -> None:
    """With the token that may only lower."""
    alertmanager = alertmanager_program()
    if alertmanager is None or shutil.which("prometheus") is None:
        pytest.skip("Prometheus or Alertmanager is missing; the Debian packages have them")
    registry = copied(built_registry, tmp_path)
    registry.move("canary", BAD_CANARY)
    config, token = tmp_path / "router.yaml", tmp_path / "lower"
    head = CONFIG.format(uri=registry.uri, poll_seconds=1, cache=tmp_path / "cache")
    config.write_text(f"{head}  sentiment: {{split: {{production: 50, canary: 50}}}}\n")
    token.write_text(LOWER)
    variables = {
        "CANARY_ROUTER_SERVER__ADMIN_TOKEN": "operators-only-0123456789",
        "CANARY_ROUTER_SERVER__LOWER_TOKEN_FILE": str(token),
    }
    with ExitStack() as ends:
        gateway = GatewayProcess(tmp_path, config, variables)
        ends.callback(gateway.stop)
        gateway.wait_bound(BAD_CANARY, "canary", 60 * slack)
        gateway.wait_compared()
        routes = tmp_path / "alertmanager.yml"
        routes.write_text(_configured(gateway.admin, token))
        address = ends.enter_context(running_alertmanager(alertmanager, routes, tmp_path / "alertmanager"))
        prometheus = tmp_path / "prometheus.yml"
        rules = (DEPLOY / "prometheus/rules/alerts.yml").read_text()
        prometheus.write_text(
            hurried(gateway.url.removeprefix("http://"), address).replace(
                f"{DEPLOY}/prometheus/rules/*.yml", f"{tmp_path}/alerts.yml"
            )
        )
        (tmp_path / "alerts.yml").write_text(rules.replace("for: 30s", "for: 1s"))
        ends.enter_context(running_prometheus(prometheus, tmp_path / "data", slack))
        ends.enter_context(Load(gateway.url, rate=60, body=BAD_BODY))

        wait_until(lambda: gateway.model()["caps"], 60 * slack, gateway.story)

        [cap] = gateway.model()["caps"]
        assert (cap["alias"], cap["to_percent"], cap["by"]) == ("canary", 0.0, "alertmanager")
        assert "the comparison with production says FAIL" in cap["reason"]
        assert gateway.model()["verdicts"]["canary"]["verdict"] == "fail"


def _configured(admin: str, token: Path) -> str:
    """The shipped configuration of Alertmanager, for this gateway and its token."""
    shipped = (DEPLOY / "alertmanager.yml").read_text()
    ours = shipped.replace("http://127.0.0.1:8081", admin).replace(
        "# http_config: {authorization: {credentials_file: /etc/alertmanager/canary-router-lower-token}}",
        f"http_config: {{authorization: {{credentials_file: {token}}}}}",
    )
    assert str(token) in ours
    return ours
