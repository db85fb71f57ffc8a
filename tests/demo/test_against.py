"""The demo's traffic against a gateway and a registry of somebody's."""

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

from router.demo.gateway_process import clean_environment


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)


def test_a_registered_model_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    """Its name may be `sentiment` by chance, and callers may depend on it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("sentiment", tags={"team": "another"})
    client.create_model_version("sentiment", source=(tmp_path / "model").as_uri())
    client.set_registered_model_alias("sentiment", "production", "1")
    before = client.get_registered_model("sentiment")

    done = run("router.demo.registered", uri)

    after = client.get_registered_model("sentiment")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "the registry has a registered model sentiment that no demo made: it is left alone\n"
    )
    assert "Traceback" not in done.stderr
    assert (after.aliases, after.tags, after.last_updated_timestamp) == (
        before.aliases,
        before.tags,
        before.last_updated_timestamp,
    )


def test_without_a_registry_it_is_asked_for() -> None:
    done = run("router", "demo", "--against", "http://127.0.0.1:1")

    assert done.returncode == 2
    assert done.stderr == "which registry? say --registry URI, or set MLFLOW_TRACKING_URI\n"


def test_a_registry_without_a_gateway_is_refused() -> None:
    done = run("router", "demo", "--registry", "sqlite:///mlflow.db")

    assert done.returncode == 2
    assert "--registry goes with --against" in done.stderr
