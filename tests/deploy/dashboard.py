"""The shipped dashboard as data, and its queries as Grafana sends them."""

import json
from collections.abc import Iterator
from typing import Any

from tests.deploy.conftest import DEPLOY

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
ROWS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
ANNOTATIONS: list[dict[str, Any]] = DASHBOARD["annotations"]["list"]


def filled_in(expression: str, model: str = "sentiment") -> str:
    """The query as Grafana sends it, with all gateways chosen and the last minute shown."""
    for variable, value in (
        ("$model", model),
        ("$job", "canary-router"),
        ("$instance", VARIABLES["instance"]["allValue"]),
        ("$__rate_interval", "1m"),
        ("$__range", "1m"),
    ):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def questions(model: str = "sentiment") -> Iterator[tuple[str, str]]:
    """Every query of every panel, with what it is called."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", filled_in(target["expr"], model)
