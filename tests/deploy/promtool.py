"""`promtool` on the shipped rules: cases of series in, alerts and values out."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
GROUPS = ("canary-router-recording", "canary-router-alerts")


def all_rules() -> list[dict[str, Any]]:
    """Every rule of the shipped files, in their order."""
    loaded = [YAML(typ="safe").load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in loaded for group in file["groups"] for rule in group["rules"]]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Alerting rules by name."""
    return {rule["alert"]: rule for rule in all_rules() if "alert" in rule}


@dataclass(frozen=True)
class Case:
    """Series, and what one alert makes of them."""

    alert: str
    name: str
    """A sentence that goes on after the alert's name."""
    series: dict[str, str]
    """Values in promtool's notation, one sample every `interval`."""
    at: str
    """When it is looked, since the first sample."""
    fires: dict[str, str] | None = None
    """Labels of the one alert that fires, without alertname and severity; None when none may."""
    summary: str = ""
    not_yet: str = ""
    """When it is true already and `for` is not over."""
    interval: str = "15s"

    def document(self) -> dict[str, Any]:
        """As promtool's unit tests want it."""
        rule = alerts()[self.alert]
        expected = []
        if self.fires is not None:
            annotations = {**rule["annotations"], "summary": self.summary}
            labels = {**rule["labels"], **self.fires}
            expected.append({"exp_labels": labels, "exp_annotations": annotations})
        looks = [{"eval_time": self.at, "alertname": self.alert, "exp_alerts": expected}]
        if self.not_yet:
            looks.append({"eval_time": self.not_yet, "alertname": self.alert, "exp_alerts": []})
        return {
            "name": f"{self.alert} {self.name}",
            "interval": self.interval,
            "input_series": listed(self.series),
            "alert_rule_test": looks,
        }


@dataclass(frozen=True)
class Worth:
    """Series, and what an expression is worth then."""

    name: str
    series: dict[str, str]
    expression: str
    at: str
    expected: dict[str, float] = field(default_factory=dict)
    """By labels, as PromQL writes them."""
    interval: str = "1m"

    def document(self) -> dict[str, Any]:
        """As promtool's unit tests want it."""
        samples = [{"labels": labels, "value": value} for labels, value in self.expected.items()]
        look = {"expr": self.expression, "eval_time": self.at, "exp_samples": samples}
        return {
            "name": self.name,
            "interval": self.interval,
            "input_series": listed(self.series),
            "promql_expr_test": [look],
        }


def listed(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """promtool; the test is skipped where it is missing."""
    done = run_on(b"", *arguments)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_on(typed: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """promtool with something on its standard input."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    command = ["promtool", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, timeout=120, check=False)


def unit_test(directory: Path, *cases: Case | Worth) -> str:
    """What promtool says against these cases; empty when all hold. Rules are evaluated at every sample."""
    paths = []
    for interval in sorted({case.interval for case in cases}):
        reported = {
            "rule_files": [str(one) for one in sorted(RULES.glob("*.yml"))],
            "evaluation_interval": interval,
            "group_eval_order": list(GROUPS),
            "tests": [case.document() for case in cases if case.interval == interval],
        }
        paths.append(directory / f"cases-{interval}.yml")
        paths[-1].write_text(json.dumps(reported))  # which is YAML, too
    done = run("test", "rules", *map(str, paths))
    return "" if done.returncode == 0 else done.stdout + done.stderr
