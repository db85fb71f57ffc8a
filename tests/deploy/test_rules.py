"""The rules in promtool's hands: valid, worth what they should be, firing when they should and only then."""

import re
from pathlib import Path

import pytest

from tests.deploy.alerting import CASES, OF_TRAFFIC
from tests.deploy.promtool import RULES, Case, alerts, all_rules, run, unit_test
from tests.deploy.samples import (
    FIRES,
    LITTLE,
    SILENT,
)

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
SCRAPE_SECONDS = 15
LISTED = """error rate, refused, against production, verdict fail, evidence stale, cap in force,
rollback not ready, pre-flight failed, production ungated, notifications failing, state not
durable, latency regression, score drift, K-S significant, invalid scores, canary receives no
traffic, fallback in use, swap failed, alias pending, registry unreachable, replica version skew,
replica environment skew, replica config skew, config reload failed, not ready, model not ready,
internal errors, down, loop lag, sample-ratio mismatch"""


def test_promtool_accepts_the_rules() -> None:
    checked = run("check", "rules", "--lint=all", "--lint-fatal", *map(str, sorted(RULES.glob("*.yml"))))

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_does_what_its_cases_say(alert: str, tmp_path: Path) -> None:
    """It fires, not before its time; it stays silent, and also on figures as bad from too little traffic."""
    reported = unit_test(tmp_path, *(case for case in CASES if case.alert == alert))

    assert not reported, reported


def test_a_case_that_expects_the_wrong_thing_is_noticed(tmp_path: Path) -> None:
    """Else all the others would prove nothing."""
    [fires] = (case for case in CASES if (case.alert, case.name) == ("CanaryRouterNotReady", FIRES))

    assert "got" in unit_test(tmp_path, Case(fires.alert, SILENT, fires.series, fires.at))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    kinds = {(case.alert, case.name) for case in CASES}
    of_traffic = {case.alert for case in OF_TRAFFIC}
    assert len(alerts()) == len(LISTED.split(","))

    for alert in alerts():
        assert (alert, FIRES) in kinds
        assert (alert, SILENT) in kinds
        assert (alert, LITTLE) in kinds or alert not in of_traffic, f"{alert} fires on a handful of requests"
    for case in CASES:
        assert bool(case.not_yet) == bool(case.summary) == (case.fires is not None), case.name


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_waits_for_two_scrapes_and_says_what_to_do(alert: str) -> None:
    rule = alerts()[alert]
    count, unit = re.fullmatch(r"(\d+)([sm])", rule["for"]).groups()
    assert int(count) * {"s": 1, "m": 60}[unit] >= 2 * SCRAPE_SECONDS
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page == RUNBOOKS / f"{alert}.md"
    assert page.read_text().startswith(f"# {alert}\n")


SECTIONS = ["What it means", "Is a user hurt?", "Look", "Do", "Roll back", "Over when"]


@pytest.mark.parametrize("alert", alerts())
def test_every_runbook_answers_the_same_six_questions(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()

    assert re.findall(r"(?m)^## (.+)$", page) == SECTIONS
    for section in page.split("\n## ")[1:]:
        assert len(section.split()) > 3, section
    assert "```promql\n" in page
    assert "$ canary-router " in page


def test_the_index_of_the_runbooks_names_every_alert_and_its_severity() -> None:
    rows = re.findall(r"\| \[`(\w+)`\]\((\w+)\.md\) \| (\w+) \|", (RUNBOOKS / "README.md").read_text())

    assert rows == [(name, name, rule["labels"]["severity"]) for name, rule in alerts().items()]


def test_no_runbook_is_left_without_its_alert() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}

    assert pages - {"README"} == set(alerts())


def test_every_recorded_series_is_named_after_its_level_metric_and_operation() -> None:
    names = [rule["record"] for rule in all_rules() if "record" in rule]
    assert len(set(names)) == len(names) >= 30
    for name in names:
        level, metric, operation = name.split(":")
        assert level in ("version", "version_le", "version_bin", "alias")
        assert metric.startswith("canary_router_")
        assert operation
