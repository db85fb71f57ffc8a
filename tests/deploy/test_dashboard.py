"""The dashboard as far as it can be judged without Grafana: whole, readable, parsed by Prometheus."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from router.adapters.prometheus.catalog import Catalog
from tests.deploy.conftest import DEPLOY
from tests.deploy.dashboard import ANNOTATIONS, DASHBOARD, PANELS, ROWS, VARIABLES, filled_in, questions
from tests.deploy.promtool import Worth, alerts, all_rules, run, unit_test
from tests.deploy.samples import A, info

RUNBOOKS = DEPLOY.parent / "docs" / "runbooks"
COLORS = {"production": "blue", "canary": "orange"}
UNITS = {"short", "none", "percentunit", "reqps", "cps", "s", "bytes"}
"""Of Grafana's, those that fit: shares as 0 to 1, seconds, bytes with binary prefixes, per second."""
OF_GRAFANA_9 = {"timeseries", "table", "barchart", "state-timeline", "row"}

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def test_seven_rows_in_their_order() -> None:
    assert [row["title"] for row in ROWS] == [
        "Is it going well?",
        "Rate, errors, duration",
        "Scores",
        "Registry and swaps",
        "Evidence",
        "Levers",
        "Process",
    ]
    assert {panel["type"] for panel in DASHBOARD["panels"]} <= OF_GRAFANA_9
    assert DASHBOARD["schemaVersion"] == 37  # Grafana 9.0; later ones migrate it by themselves
    assert "id" not in DASHBOARD, "a number of one Grafana's own"


def test_the_documents_count_the_panels_and_the_alerts_that_there_are() -> None:
    reported = (DEPLOY.parent / "README.md").read_text()
    assert f" {len(alerts())} alerts; each" in (DEPLOY.parent / "docs/operating.md").read_text()
    of_deploy = (DEPLOY / "README.md").read_text()
    assert f"| {len(alerts())} alerts, each" in of_deploy
    assert len(ROWS) == 7
    assert "| seven rows; Grafana" in of_deploy
    assert all(f"\n| {row['title']} | " in of_deploy for row in ROWS)
    assert f"a Grafana dashboard of {len(PANELS)} panels in seven rows" in reported
    assert f"{len(alerts())} alerts with a runbook each" in reported


def test_ids_and_titles_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


def test_panels_fill_the_grid_and_none_lies_on_another() -> None:
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for box in boxes:
        assert box["w"] > 0
        assert box["h"] > 0
        assert 0 <= box["x"] <= 24 - box["w"]
    for one, other in combinations(boxes, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    covered = sum(box["w"] * box["h"] for box in boxes)
    assert covered == 24 * max(box["y"] + box["h"] for box in boxes), "there are holes"


@every_panel
def test_a_panel_says_what_it_shows_and_leads_to_a_runbook(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 30
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["links"], "what is to be done is on a page"
    for link in panel["links"]:
        page = re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", link["url"])
        assert page, link
        assert (RUNBOOKS / f"{page[1]}.md").exists(), link


def test_every_alert_is_led_to_from_some_panel() -> None:
    linked = {link["title"] for panel in PANELS for link in panel["links"]}

    assert set(alerts()) <= linked


@every_panel
def test_production_is_blue_and_the_canary_orange(panel: dict[str, Any]) -> None:
    """By series name, or by the text of a cell; and whoever can not distinguish them reads their names."""
    of_aliases = any("alias" in target["expr"] or ":" in target["expr"] for target in panel["targets"])
    shown = colors(panel)
    if panel["type"] == "table":
        assert not of_aliases or shown == COLORS
    elif any(re.search(r"\{\{(from_)?alias\}\}", target["legendFormat"]) for target in panel["targets"]):
        assert shown == COLORS
        for target in panel["targets"]:
            starts = re.match(r"\{\{(from_)?alias\}\}|by chance, \{\{alias\}\}", target["legendFormat"])
            assert starts, "its color is found by how the name begins"
    else:
        assert shown == {}
        assert not of_aliases


def colors(panel: dict[str, Any]) -> dict[str, str]:
    """Alias to color, as the overrides of a panel say."""
    found: dict[str, str] = {}
    for override in panel["fieldConfig"]["overrides"]:
        for one in override["properties"]:
            if one["id"] == "mappings":
                options = one["value"][0]["options"]
                found |= {alias: options[alias]["color"] for alias in COLORS if alias in options}
            elif one["id"] == "color":
                pattern = re.compile(override["matcher"]["options"].strip("/"))
                assert override["matcher"]["id"] == "byRegexp"
                reported = {
                    alias: one["value"]["fixedColor"] for alias in COLORS if pattern.search(f"{alias} v1")
                }
                found |= reported
    return found


def test_nothing_names_a_data_source_of_its_own() -> None:
    """It must open in a Grafana that never saw it: everything goes through the template variable."""
    assert {name: one["type"] for name, one in VARIABLES.items()} == {
        "datasource": "datasource",
        "job": "query",
        "model": "query",
        "instance": "query",
        "runbooks": "textbox",
    }
    of_prometheus = [*PANELS, *ANNOTATIONS, *(one for one in VARIABLES.values() if one["type"] == "query")]
    used = [one["datasource"] for one in of_prometheus]
    used += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in used)


def test_every_query_is_one_to_prometheus(tmp_path: Path) -> None:
    expressions = dict(questions())
    expressions |= {one["name"]: filled_in(one["expr"]) for one in ANNOTATIONS}
    rules = [{"record": f"q{n}", "expr": expression} for n, expression in enumerate(expressions.values())]
    path = tmp_path / "questions.yml"
    with path.open("w") as file:
        YAML().dump({"groups": [{"name": "questions", "rules": rules}]}, file)

    checked = run("check", "rules", str(path))

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_query_asks_for_what_there_is_in_this_job_only() -> None:
    families = {family.name for family in Catalog().families}
    samples = {f"{name}_{part}" for name in families for part in ("bucket", "count", "sum")}
    recorded = {rule["record"] for rule in all_rules() if "record" in rule}
    for name, query in questions():
        selected = re.findall(r"([\w:]+)\{([^}]*)\}", query)
        assert selected, name
        for metric, matchers in selected:
            assert 'job="canary-router"' in matchers, name
            if metric.startswith("process_") or metric == "ALERTS":
                continue
            assert metric in (recorded if ":" in metric else families | samples), f"{name}: {metric}"


def test_every_series_of_one_panel_has_a_name_of_its_own() -> None:
    for panel in PANELS:
        names = [target["legendFormat"] for target in panel["targets"]]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names), panel["title"]
        assert len(set(refs)) == len(refs), panel["title"]


def test_the_annotations_show_aliases_splits_and_alerts(tmp_path: Path) -> None:
    """Production moves at minute 5, the share at minute 10; each is shown for a minute and no longer."""
    reported = {one["name"]: filled_in(one["expr"], "m") for one in ANNOTATIONS}
    assert set(reported) == {"Alias moved", "Split changed", "Alert firing"}
    where = A.replace("gateways", "canary-router")
    moved = 'model="m",alias="production",version="2"'
    series = {
        **info('model="m",alias="production",version="1"', "1+0x9 stale", where),
        **info(moved, "_x10 1+0x60", where),
        f'canary_router_split_ratio{{{where},model="m",alias="canary"}}': "0.05+0x19 0.25+0x60",
        f'ALERTS{{{where},alertname="CanaryRouterNotReady",alertstate="firing"}}': "_x30 1+0x9 stale",
    }
    of_move = {'{alias="production", version="2"}': 1.0}
    alert = f'ALERTS{{{where.replace(",", ", ")}, alertname="CanaryRouterNotReady", alertstate="firing"}}'

    wrong = unit_test(
        tmp_path,
        Worth("before", series, reported["Alias moved"], "4m30s", {}, "30s"),
        Worth("moved", series, reported["Alias moved"], "5m30s", of_move, "30s"),
        Worth("after", series, reported["Alias moved"], "7m", {}, "30s"),
        Worth("split before", series, reported["Split changed"], "9m", {}, "30s"),
        Worth("split", series, reported["Split changed"], "10m30s", {'{alias="canary"}': 1.0}, "30s"),
        Worth("split after", series, reported["Split changed"], "12m", {}, "30s"),
        Worth("fires", series, reported["Alert firing"], "16m", {alert: 1.0}, "30s"),
    )

    assert not wrong, wrong
