"""`canary-router render`: prints YAML, asks nobody, and says what does not fit."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from router.cli import root

CONFIG = """
registry: {uri: "http://me:secret@mlflow.mlflow:5000"}
models:
  fraud: {split: {production: 100}, where: {http: "http://fraud-v{version}.models:8080"}}
  local: {split: {production: 100}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(CONFIG)
    return path


def test_objects_are_printed_as_yaml_without_credentials(config: Path) -> None:
    done = CliRunner().invoke(root, ["render", "fraud", "7", "--as", "deployment", "-c", str(config)])

    assert done.exit_code == 0, done.output
    found = list(YAML(typ="safe").load_all(done.stdout))
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("Deployment", "fraud-v7"),
        ("Service", "fraud-v7"),
    ]
    assert "secret" not in done.stdout
    assert "&id" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["local", "7", "--as", "deployment"], "models.local.where is local"),
        (["fraud", "7", "--as", "inferenceservice"], "KServe answers at NAME-predictor"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_printed(config: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(root, ["render", *arguments, "-c", str(config)])

    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
