"""The dashboard and the scrape configuration, asked of a real Prometheus."""

import json
import shutil
import subprocess
import time
import urllib.request
from typing import Any

import pytest

from tests.deploy.conftest import DEPLOY, Prometheus, Target

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
COLORS = {"production": "blue", "canary": "orange"}


def filled_in(expression: str, model: str) -> str:
    """The query as Grafana sends it."""
    for variable, value in (("$model", model), ("$__rate_interval", "1m"), ("$__range", "1m")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def test_every_panel_has_an_answer_for_both_aliases(
    prometheus: Prometheus, target: Target, slack: float
) -> None:
    """Asked of a Prometheus that scrapes; a warning or an empty panel is a failure."""
    queries = {
        panel["title"]: filled_in(question["expr"], target.model)
        for panel in PANELS
        for question in panel["targets"]
    }
    assert len(queries) == len(PANELS)
    give_up = time.monotonic() + 30 * slack
    while missing := {title: why for title, query in queries.items() if (why := lacking(prometheus, query))}:
        assert time.monotonic() < give_up, missing
        time.sleep(0.2)


def lacking(prometheus: Prometheus, query: str) -> str:
    """Why this query does not fill its panel yet; empty when it does."""
    answer = prometheus.query(query)
    assert answer["status"] == "success", answer
    assert not answer.get("warnings"), answer
    assert not answer.get("infos"), answer
    series = answer["data"]["result"]
    if any(one["value"][1] == "NaN" for one in series):
        return "a value is NaN"
    aliases = {one["metric"].get("alias") for one in series}
    return "" if aliases == set(COLORS) else f"aliases {aliases}"


def test_the_score_panel_shows_shares_of_one(prometheus: Prometheus, target: Target, slack: float) -> None:
    (panel,) = (panel for panel in PANELS if panel["title"] == "Score bins by alias")
    query = f"sum by (alias) ({filled_in(panel['targets'][0]['expr'], target.model)})"
    give_up = time.monotonic() + 30 * slack
    while lacking(prometheus, query):
        assert time.monotonic() < give_up
        time.sleep(0.2)

    sums = [float(one["value"][1]) for one in prometheus.query(query)["data"]["result"]]
    assert sums == [pytest.approx(1.0), pytest.approx(1.0)]


def test_the_model_variable_finds_the_model(prometheus: Prometheus, target: Target, slack: float) -> None:
    (variable,) = (v for v in DASHBOARD["templating"]["list"] if v["name"] == "model")
    metric = variable["query"]["query"].removeprefix("label_values(").partition(",")[0]
    give_up = time.monotonic() + 30 * slack
    while not (found := prometheus.query(f"count by (model) ({metric})")["data"]["result"]):
        assert time.monotonic() < give_up
        time.sleep(0.2)

    assert [one["metric"]["model"] for one in found] == [target.model]


def test_production_is_blue_and_the_canary_orange_in_every_panel() -> None:
    for panel in PANELS:
        shown = {
            alias: override["properties"][0]["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            for alias in COLORS
            if alias in override["matcher"]["options"]
        }
        assert shown == COLORS, panel["title"]


def test_the_dashboard_names_no_data_source_of_its_own() -> None:
    """It must open in a Grafana that never saw it: everything goes through the template variable."""
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "model": "query"}
    used = {panel["datasource"]["uid"] for panel in PANELS}
    used |= {question["datasource"]["uid"] for panel in PANELS for question in panel["targets"]}
    assert used == {"${datasource}"}
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) == 4


def test_promtool_accepts_the_scrape_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    checked = subprocess.run(
        ["promtool", "check", "config", "--lint-fatal", str(DEPLOY / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "warning" not in (checked.stdout + checked.stderr).lower()


def test_promtool_has_no_remark_about_what_a_gateway_under_traffic_exports(target: Target) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    with urllib.request.urlopen(f"http://{target.address}/metrics", timeout=10) as answer:
        exported = answer.read()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exported, capture_output=True, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
