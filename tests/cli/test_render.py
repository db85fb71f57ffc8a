"""`canary-router render`: prints YAML, asks nobody, and says what does not fit."""

from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from router.cli import root

CONFIG = """
registry: {uri: "http://me:secret@mlflow.mlflow:5000"}
models:
  fraud: {split: {production: 100}, where: {http: "http://fraud-v{version}.models:8080"}}
  local: {split: {production: 100}}
  writes:
    split: {production: 100}
    writable: true
    where: {http: "http://ray-serve.ray:8000", protocol: mlflow, path: "/writes-v{version}/invocations"}
  on_ray:
    split: {production: 100}
    nan: "null"
    model_config: {k: 1}
    predict_timeout_seconds: 30
    where: {http: "http://ray-serve.ray:8000", protocol: mlflow, path: "/on_ray-v{version}/invocations"}
"""

OTHERS = """\
applications:
- name: chat  # of another team
  route_prefix: /chat
  import_path: chat:app
  args:
    a: "yes"
    b: 'on'
    c: "12:30:45"
    d: on
    e: 12:30:45
    f: 0o17
    g: '1e3'
    h: 1.0e-05
    i: 010
    j: 2026-11-29
    k: |
      two
      lines
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
        (["fraud", "7", "8", "--as", "ray"], "another application (fraud 7) has the name fraud-v8"),
        (["on_ray", "7", "--as", "ray", "--image", "a"], "--image is not of ray"),
        (["writes", "7", "--as", "ray"], "models.writes.writable"),
        (["fraud", "7", "--as", "deployment", "--files", "a"], "are of ray"),
        (["on_ray", "7", "8", "--as", "ray", "--source", "s3://a/7"], "--source has to hold {version}"),
        (
            ["on_ray", "7", "--as", "ray", "--files", "/nowhere"],
            "on_ray 7, /nowhere: it has no requirements.txt",
        ),
        (["on_ray", "7", "--as", "ray", "--source", "https://me:secret@a/7"], "--source holds credentials"),
        (["fraud", "7", "--as", "deployment", "--source", "https://token@a/7"], "--source holds credentials"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_printed(config: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(root, ["render", *arguments, "-c", str(config)])

    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr


def render(config: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(root, ["render", *arguments, "-c", str(config)])
    assert done.exit_code == 0, done.output
    return done


def test_several_versions_have_objects_each(config: Path) -> None:
    source = ["--source", "s3://models/fraud/{version}"]

    done = render(config, "fraud", "7", "8", "--as", "deployment", *source)

    found = list(YAML(typ="safe").load_all(done.stdout))
    assert [one["metadata"]["name"] for one in found] == ["fraud-v7", "fraud-v7", "fraud-v8", "fraud-v8"]
    assert "s3://models/fraud/8" in str(found[2])


def test_what_the_settings_say_about_answers_goes_along(config: Path) -> None:
    """Serve is not asked anything, so an application knows what stands in its file alone."""
    done = render(config, "on_ray", "7", "--as", "ray")

    [application] = YAML(typ="safe").load(done.stdout)["applications"]
    assert application["args"] == {
        "model": "on_ray",
        "version": 7,
        "source": "models:/on_ray/7",
        "max_rows": 100_000,
        "nan_is_null": True,
        "model_config": {"k": 1},
        "predict_timeout_seconds": 30.0,
    }
    assert "pip" not in application["runtime_env"]
    assert "secret" not in done.stdout


def test_a_version_gets_what_it_was_logged_with_but_for_what_our_own_code_needs(
    config: Path, tmp_path: Path
) -> None:
    """As an environment of its own here: MLflow is the gateway's, all else the version's."""
    for number in ("7", "8"):
        files = tmp_path / f"v{number}"
        files.mkdir()
        (files / "requirements.txt").write_text(f"mlflow==2.9.0\nscikit-learn==1.5.{number}\n")
        (files / "python_env.yaml").write_text("python: 3.11.7\n")

    done = render(config, "on_ray", "7", "8", "--as", "ray", "--files", str(tmp_path / "v{version}"))

    first, second = (one["runtime_env"]["pip"] for one in YAML(typ="safe").load(done.stdout)["applications"])
    assert {"scikit-learn==1.5.7", f"mlflow=={version('mlflow')}"} <= set(first)
    assert "mlflow==2.9.0" not in first
    assert first[0] == f"mlflow-canary-router=={version('mlflow-canary-router')}"
    assert "scikit-learn==1.5.8" in second
    assert "on_ray 7 was logged under Python 3.11.7" in done.stderr


def requirements_of(config: Path, files: Path, text: str) -> Result:
    (files / "requirements.txt").write_text(text)
    arguments = ["on_ray", "7", "--as", "ray", "--files", str(files), "-c", str(config)]
    return CliRunner().invoke(root, ["render", *arguments])


def test_what_only_narrows_is_not_installed(config: Path, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("tensorflow==2.15\nscikit-learn<2\nray==2.40\n")

    done = requirements_of(config, tmp_path, "-c constraints.txt\nscikit-learn>=1.5\n")

    [application] = yaml.safe_load(done.stdout)["applications"]
    pip = application["runtime_env"]["pip"]
    assert "scikit-learn<2" in pip
    assert not [line for line in pip if line.startswith(("tensorflow", "ray", "numpy", "pandas"))]


@pytest.mark.parametrize("line", ["mlflow-canary-router==9", "ray[serve]==2.40", "Ray"])
def test_what_the_cluster_has_to_have_is_no_version_s_to_choose(
    config: Path, tmp_path: Path, line: str
) -> None:
    done = requirements_of(config, tmp_path, f"{line}\n")

    assert (done.exit_code, done.stdout) == (2, "")
    assert f"on_ray 7, {tmp_path}: it asks for " in done.stderr


def test_what_azure_has_before_the_host_is_no_user(config: Path) -> None:
    done = render(config, "on_ray", "7", "--as", "ray", "--source", "abfss://models@a.dfs.core.windows.net/7")

    assert "abfss://models@a.dfs.core.windows.net/7" in done.stdout


def test_requirements_that_name_an_index_are_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("--index-url https://example.com\n")

    arguments = ["on_ray", "7", "--as", "ray", "--files", str(tmp_path), "-c", str(config)]
    done = CliRunner().invoke(root, ["render", *arguments])

    assert (done.exit_code, done.stdout) == (2, "")
    assert "requirements.txt line 1 has the option --index-url" in done.stderr


def test_a_version_is_added_to_the_file_that_was_deployed_last(config: Path, tmp_path: Path) -> None:
    """Comments and all: `serve deploy` ends what its file does not have."""
    deployed = tmp_path / "serve.yaml"
    first = render(config, "on_ray", "7", "--as", "ray").stdout
    deployed.write_text(first.replace("num_replicas: 1", "num_replicas: 3  # for the sale"))

    done = render(config, "on_ray", "7", "8", "--as", "ray", "--beside", str(deployed))

    assert done.stdout.startswith(deployed.read_text())
    found = YAML(typ="safe").load(done.stdout)["applications"]
    assert [one["name"] for one in found] == ["on_ray-v7", "on_ray-v8"]
    assert f"{deployed} has on_ray-v7 already, which is left as it is" in done.stderr


def test_what_the_file_has_is_printed_as_serve_reads_it(config: Path, tmp_path: Path) -> None:
    """Args that changed, if only by lost quotes, would have Serve replace the application's processes."""
    deployed = tmp_path / "serve.yaml"
    deployed.write_text(OTHERS)

    done = render(config, "on_ray", "7", "--as", "ray", "--beside", str(deployed))

    assert done.stdout.startswith(OTHERS)
    found = yaml.safe_load(done.stdout)
    assert found["applications"][:-1] == yaml.safe_load(OTHERS)["applications"]
    assert found["applications"][-1]["args"]["model"] == "on_ray"


def test_what_the_settings_say_is_printed_as_serve_reads_it(config: Path, tmp_path: Path) -> None:
    values = '{mode: "off", t: "12:30:45", rate: 1.0e-05, n: "0o17", when: "2026-11-29"}'
    config.write_text(CONFIG.replace("{k: 1}", values))
    (tmp_path / "serve.yaml").write_text("applications: []\n")

    for beside in ([], ["--beside", str(tmp_path / "serve.yaml")]):
        done = render(config, "on_ray", "7", "--as", "ray", *beside)

        assert yaml.safe_load(done.stdout)["applications"][0]["args"]["model_config"] == {
            "mode": "off",
            "t": "12:30:45",
            "rate": 1e-05,
            "n": "0o17",
            "when": "2026-11-29",
        }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1: "),
        ("a", "no configuration file of Ray Serve"),
        ("applications: 3", "no configuration file of Ray Serve"),
        ("", "is empty: print into another file than the one of --beside"),
        ("# nothing\n", "is empty"),
    ],
)
def test_a_file_that_serve_would_not_read_is_refused(
    config: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "serve.yaml").write_text(text)

    arguments = ["on_ray", "7", "--as", "ray", "--beside", str(tmp_path / "serve.yaml"), "-c", str(config)]
    done = CliRunner().invoke(root, ["render", *arguments])

    assert (done.exit_code, done.stdout) == (2, "")
    assert str(tmp_path / "serve.yaml") in done.stderr
    assert said in done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit)
