"""A version that was logged in another environment serves, and it is reported where it differs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import CONFIG, GatewayProcess
from tests.support.registry import Registry
from tests.support.waiting import wait_until

ODD = 7
MISMATCH = "no-such-library==1.0 is required and not installed"


@pytest.mark.slow
def test_a_version_that_requires_what_is_not_here_serves_and_says_so_in_state_and_log(
    start: Callable[..., GatewayProcess], registry: Registry
) -> None:
    registry.move("production", ODD)
    gateway = start("  sentiment: {split: {production: 100}}\n")

    assert gateway.ask("user-1").json() == {"predictions": [ODD / 10]}
    assert gateway.model()["versions"][str(ODD)]["mismatches"] == [MISMATCH]
    lines = [line for line in gateway.log.read_text().splitlines() if "logged in another environment" in line]
    assert len(lines) == 1
    assert MISMATCH in lines[0]


def test_check_reports_what_differs_and_that_all_is_well(registry: Registry, tmp_path: Path) -> None:
    registry.move("canary", ODD)
    path = tmp_path / "router.yaml"
    head = CONFIG.format(uri=registry.uri, poll_seconds=1, cache=tmp_path / "cache")
    path.write_text(f"{head}  sentiment: {{}}\n")
    command = [sys.executable, "-m", "router", "check", "sentiment", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    production, canary = done.stdout.split("ok   sentiment@")[1:]
    assert MISMATCH not in production
    assert canary.splitlines()[-1] == f"     {MISMATCH}"


def test_a_switch_that_has_mlflow_refuse_models_reaches_gateway_and_check_alike(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path, slack: float
) -> None:
    registry.move("canary", 2)
    switch = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    gateway = start("  sentiment: {}\n", wait=False, MLFLOW_UNHEARD_OF="1", **switch)

    def refused() -> bool:
        versions = gateway.model()["versions"].values()
        return len(versions) == 2 and all("disallowed" in (version["error"] or "") for version in versions)

    wait_until(refused, 60 * slack, gateway.story)
    assert gateway.get("/readyz").status_code == 503
    named = [line for line in gateway.log.read_text().splitlines() if "MLFLOW_UNHEARD_OF" in line]
    warnings = [line for line in named if '"warning"' in line]
    assert len(warnings) == 1, "once, beside the line that lists all that is withheld"
    assert "versions do not get it" in warnings[0]

    checked = gateway.command("check", "sentiment", **switch)
    assert checked.returncode == 1
    assert checked.stdout.count("disallowed") == 2
