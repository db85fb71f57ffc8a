"""What the Dockerfile promises, as far as reading it can show; tests/fleet/test_built_image.py builds it."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from router.cli import root as commands
from router.cli.health import TIMEOUT_SECONDS
from tests.deploy.conftest import DEPLOY

ROOT = DEPLOY.parent
TEXT = (DEPLOY / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """`(INSTRUCTION, arguments)`, comments dropped and continued lines joined."""
    code = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", code)
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, arguments) for name, arguments in pairs]


def final_stage() -> list[tuple[str, str]]:
    last = max(i for i, (name, _) in enumerate(instructions()) if name == "FROM")
    return instructions()[last:]


def only(name: str) -> str:
    """The arguments of the one instruction of that name in the final stage."""
    (found,) = (arguments for instruction, arguments in final_stage() if instruction == name)
    return found


def test_every_base_image_has_a_full_version_in_its_tag() -> None:
    bases = [arguments.split()[0] for name, arguments in instructions() if name == "FROM"]

    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.12\.\d+-slim-\w+", base), base


def test_it_runs_as_a_user_without_rights() -> None:
    """As numbers: Kubernetes' runAsNonRoot can not check a name."""
    user, group = (int(part) for part in only("USER").split(":"))

    assert user > 0
    assert group > 0
    after = [name for name, _ in final_stage()[final_stage().index(("USER", only("USER"))) :]]
    assert not {"COPY", "ADD", "RUN"} & set(after)


def test_any_user_in_group_0_may_write_where_versions_are_kept() -> None:
    """The last is what the gateway looks for; tests/e2e/test_any_user.py shows what it makes there, and it
    makes the same for its state."""
    (made,) = [arguments for name, arguments in final_stage() if name == "RUN"]
    words = shlex.split(made.partition("install -d ")[2])
    options, directories = words[:6], words[6:]
    environment = dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))

    assert options == ["-o", only("USER").partition(":")[0], "-g", "0", "-m", "1770"]
    assert directories[-1] == f"{environment['XDG_CACHE_HOME']}/canary-router"
    assert environment["HOME"] in directories
    assert environment["STATE_DIRECTORY"] in directories
    assert environment["USER"]


def test_the_entry_point_is_the_console_script_and_pid_1() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert only("ENTRYPOINT") == '["canary-router"]'  # a list: no shell between the signals and the gateway
    assert "canary-router" in scripts
    assert only("CMD") == '["serve"]'


def test_health_is_asked_by_the_command_that_reads_the_configuration() -> None:
    """Of /livez, as tests/cli/test_health.py proves: a gateway that waits for its registry is alive."""
    check = only("HEALTHCHECK")

    assert check.partition("CMD ")[2] == '["canary-router", "health"]'
    assert "health" in commands.commands
    seconds = re.search(r"--timeout=(\d+)s", check)
    assert seconds is not None
    assert float(seconds[1]) > TIMEOUT_SECONDS + 1, "time to start, too"
    assert "readyz" not in TEXT


def test_what_it_copies_exists_and_may_be_seen_by_the_build() -> None:
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [shlex.split(arguments) for name, arguments in instructions() if name == "COPY"]
    sources = [source for words in copied if "--from" not in words[0] for source in words[:-1]]

    assert set(sources) == {"pyproject.toml", "README.md", "LICENSE", "router"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed


@pytest.mark.parametrize("word", ["password", "secret", "token", "AWS_", "MLFLOW_TRACKING_"])
def test_it_holds_no_secrets(word: str) -> None:
    assert word.lower() not in "\n".join(" ".join(pair) for pair in instructions()).lower()
    assert [arguments for name, arguments in instructions() if name == "ARG"] == [
        "EXTRAS=",
        "PYTHONS=",
    ]


@pytest.mark.parametrize(
    ("argument", "installed"), [("", "."), ("s3", ".[s3]"), ("s3,gcs,azure", ".[s3,gcs,azure]")]
)
def test_its_argument_names_the_extras_that_it_installs(argument: str, installed: str) -> None:
    (build,) = [
        arguments for name, arguments in instructions() if name == "RUN" and "pip install" in arguments
    ]
    word = build.rpartition("--no-cache-dir ")[2]
    shown = subprocess.run(
        ["sh", "-c", f"printf %s {word}"],
        env={"EXTRAS": argument},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == installed

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"s3", "gcs", "azure"} < set(extras)
    assert "--build-arg EXTRAS=s3" in (DEPLOY / "README.md").read_text()


@pytest.mark.parametrize(
    ("argument", "minors"), [("", []), ("3.13", ["3.13"]), ("3.11,3.13", ["3.11", "3.13"])]
)
def test_its_other_argument_names_the_pythons_that_uv_installs(
    argument: str, minors: list[str], tmp_path: Path
) -> None:
    """Each where the image's PATH ends, so that none stands over the image's own."""
    (install,) = [
        arguments for name, arguments in instructions() if name == "RUN" and "python install" in arguments
    ]
    program = tmp_path / "uv"
    program.write_text('#!/bin/sh\necho "$UV_PYTHON_BIN_DIR" "$@"\n')
    program.chmod(0o755)
    command = install.replace("/opt/canary-router/bin/uv", str(program))
    command = command.replace("mkdir -p /opt/pythons/bin", "true")
    shown = subprocess.run(
        ["sh", "-c", command], env={"PYTHONS": argument}, capture_output=True, text=True, check=True
    )
    asked = [f"/opt/pythons/bin python install --install-dir /opt/pythons {minor}" for minor in minors]
    assert shown.stdout.splitlines() == asked
    environment = dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))
    assert environment["PATH"].split(":")[0::2] == ["/opt/canary-router/bin", "/opt/pythons/bin"]
    assert "--build-arg PYTHONS=3.11,3.13" in (DEPLOY / "README.md").read_text()


def test_an_image_is_not_built_without_a_python_that_was_asked_for(tmp_path: Path) -> None:
    (install,) = [
        arguments for name, arguments in instructions() if name == "RUN" and "python install" in arguments
    ]
    command = install.replace("/opt/canary-router/bin/uv", str(tmp_path / "not-installed"))
    command = command.replace("mkdir -p /opt/pythons/bin", "true")

    assert subprocess.run(["sh", "-c", command], env={"PYTHONS": "3.11"}, capture_output=True).returncode != 0


def test_the_readme_names_every_file() -> None:
    reported = (DEPLOY / "README.md").read_text()
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "README.md"]

    assert files
    for path in files:
        assert any(part in reported for part in (path.name, *path_prefixes(path))), path


def path_prefixes(path: Path) -> list[str]:
    """`grafana/provisioning/` for a file below it."""
    parents = path.relative_to(DEPLOY).parents
    return [f"{parent}/" for parent in parents if len(parent.parts) >= 2]
