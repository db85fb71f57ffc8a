"""The demo's traffic against a gateway and a registry of somebody's."""

import subprocess
import sys

from mlflow import MlflowClient

from router.demo.gateway_process import clean_environment
from router.demo.workspace import Workspace


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)


def test_a_registered_model_that_no_demo_made_is_left_alone(seeded_place: Workspace) -> None:
    """Its name may be `sentiment` by chance, and callers may depend on it."""
    client = MlflowClient(seeded_place.registry_uri, seeded_place.registry_uri)
    before = client.get_registered_model("sentiment")

    done = run("router.demo.registered", seeded_place.registry_uri)

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
