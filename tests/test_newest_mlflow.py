"""CI runs under the newest MLflow that installs: one that an index has, with the packages it asks for."""

import json
import os
import subprocess
import sys

import mlflow
import pytest
from packaging.version import Version

OURS = Version(mlflow.__version__)


@pytest.mark.skipif(
    not os.environ.get("TESTS_MUST_RUN"), reason="only CI makes its environment anew each time"
)
def test_no_newer_mlflow_installs_than_the_one_that_runs(slack: float) -> None:
    """In an environment of its own: what holds ours back may be a library beside it. Where no index answers
    none installs, either."""
    newer = f"mlflow>{OURS},<{OURS.major + 1}"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-input"]
    found = subprocess.run(
        [*command, "--quiet", "--disable-pip-version-check", "--retries", "0", "--report", "-", newer],
        capture_output=True,
        text=True,
        timeout=120 * slack,
    )

    assert "No module named pip" not in found.stderr
    assert found.returncode != 0, f"MLflow {version_in(found.stdout)} installs, and {OURS} is what runs here"


def version_in(report: str) -> str:
    """MLflow's, as pip reports what it would install."""
    installed = (one["metadata"] for one in json.loads(report)["install"])
    return next(str(one["version"]) for one in installed if one["name"] == "mlflow")
