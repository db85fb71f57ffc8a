"""Prometheus's and Alertmanager's configuration, checked by their own tools."""

import json
import re
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from tests.deploy.conftest import DEPLOY
from tests.deploy.promtool import alerts, run

ALERTMANAGER = DEPLOY / "alertmanager.yml"


def amtool(*arguments: str) -> str:
    if shutil.which("amtool") is None:
        pytest.skip("amtool is missing; the Debian package `prometheus-alertmanager` has it")
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_scrape_configuration_and_finds_the_rules() -> None:
    checked = run("check", "config", "--lint-fatal", str(DEPLOY / "prometheus.yml"))

    reported = checked.stdout + checked.stderr
    assert checked.returncode == 0, reported
    assert "warning" not in reported.lower()
    assert "2 rule files found" in reported


def test_amtool_accepts_the_alertmanager_configuration() -> None:
    assert "SUCCESS" in amtool("check-config", str(ALERTMANAGER))


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "on-call"), ("warning", "team"), ("info", "record")]
)
def test_each_severity_reaches_its_receiver(severity: str, receiver: str) -> None:
    reported = amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")

    assert reported.split() == [receiver]
    assert severity in {rule["labels"]["severity"] for rule in alerts().values()}


def test_what_inhibits_and_what_is_inhibited_exists() -> None:
    """A name with a slip would inhibit nothing, silently."""
    rules = YAML(typ="safe").load(ALERTMANAGER.read_text())["inhibit_rules"]
    assert len(rules) >= 8
    for rule in rules:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = re.fullmatch(r'alertname (?:=|!=|=~) "?([^"]+)"?', matcher)
            assert pattern, matcher
            assert any(re.fullmatch(pattern[1], name) for name in alerts()), matcher
            for part in re.findall(r"\((.+)\)", pattern[1]):
                assert {f"CanaryRouter{name}" for name in part.split("|")} <= set(alerts()), matcher


def test_prometheus_sends_to_where_alertmanager_listens() -> None:
    reported = YAML(typ="safe").load((DEPLOY / "prometheus.yml").read_text())

    assert json.dumps(reported["alerting"]).count("127.0.0.1:9093") == 1  # its default
