"""What a version was logged with, and what is here."""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from time import perf_counter

import pytest

from router.protocol.messages import MISMATCH_CHARACTERS, MOST_MISMATCHES
from router.worker.environment_check import differing, installed_versions, mismatches
from router.worker.load import load_version
from tests.conftest import Figure
from tests.support.saved_versions import spec_of

HERE = {"numpy": "2.1.0", "scikit-learn": "1.5.2", "torch": "2.3.0+cpu", "beta": "1.0rc1"}
FOUND = {
    "met": ("numpy==2.1.0", []),
    "without a version": ("numpy", []),
    "other version": ("numpy==1.26.4", ["numpy==1.26.4 is required and 2.1.0 is installed"]),
    "out of the range": ("numpy<2,>=1.20", ["numpy<2,>=1.20 is required and 2.1.0 is installed"]),
    "absent": ("lightgbm==4", ["lightgbm==4 is required and not installed"]),
    "build of a version": ("torch==2.3.0", []),
    "other build": ("torch==2.3.0+cu118", ["torch==2.3.0+cu118 is required and 2.3.0+cpu is installed"]),
    "release candidate": ("beta>=0.9", []),
    "extra": ("numpy[dev]==2.1.0", []),
    "comment": ("numpy==2.1.0  # the last good one", []),
    "hash": ("numpy==2.1.0 --hash=sha256:aa \\", []),
    "marker of another system": ("nowhere==1; sys_platform == 'plan9'", []),
    "marker of an extra": ("nowhere==1; extra == 'dev'", []),
    "option": ("-r others.txt", []),
    "path": ("./wheels/x.whl", []),
    "URL": ("git+https://ada:hunter2@host/x.git", []),
    "name at a URL": ("x @ https://ada:hunter2@host/x.whl", ["x is required and not installed"]),
    "nonsense": ("%%%", []),
}


@pytest.mark.parametrize(("line", "reported"), FOUND.values(), ids=FOUND)
def test_a_requirement_that_is_not_met_is_reported(line: str, reported: list[str]) -> None:
    assert list(differing([line], HERE.get)) == reported


def test_in_an_environment_of_its_own_what_the_gateway_brings_is_no_difference(tmp_path: Path) -> None:
    """All else that is not as asked for is."""
    asked = ["MLflow[extras]==2.9.0", "mlflow_skinny==2.9.0", "msgspec==0.1", "psutil<1", "numpy==0.1"]
    (tmp_path / "requirements.txt").write_text("\n".join(asked))

    off = f"numpy==0.1 is required and {version('numpy')} is installed"
    assert mismatches(str(tmp_path), python_version(), own=True) == (off,)
    assert len(mismatches(str(tmp_path), python_version())) == len(asked)
    assert mismatches(str(tmp_path), "3.8.1", own=True)[0].startswith("logged with Python 3.8.1")


def test_the_environments_own_versions_are_found_under_any_spelling(tmp_path: Path) -> None:
    own = version("prometheus-client")
    (tmp_path / "requirements.txt").write_text(f"Prometheus_Client=={own}\nMLflow=={version('mlflow')}\n")

    assert mismatches(str(tmp_path), python_version()) == ()
    assert installed_versions()["numpy"] == version("numpy")


def test_a_distribution_of_an_older_manner_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory names no version, its metadata does; or it is a file that names one."""
    (tmp_path / "mine.egg-info").mkdir()
    (tmp_path / "mine.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.5\n")
    (tmp_path / "of_debian-2.0-py3.11.egg-info").write_text("")
    (tmp_path / "requirements.txt").write_text("mine==1.5\nof-debian==2.0\nmine==1.6")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_versions.cache_clear()
    try:
        assert mismatches(str(tmp_path), None) == ("mine==1.6 is required and 1.5 is installed",)
    finally:
        installed_versions.cache_clear()


@pytest.mark.parametrize(
    ("mlmodel", "python_env", "differs"),
    [
        (python_version(), "", False),
        (f"{sys.version_info.major}.{sys.version_info.minor}.99", "", False),
        ("3.8.1", "", True),
        (None, "python: 3.8.1\nbuild_dependencies: []\n", True),
        (None, f"python: {python_version()}\n", False),
        (None, "", False),
        (["no", "version"], "", True),
    ],
)
def test_another_python_is_reported_another_patch_release_is_not(
    tmp_path: Path, mlmodel: object, python_env: str, *, differs: bool
) -> None:
    (tmp_path / "python_env.yaml").write_text(python_env)

    assert [line[:18] for line in mismatches(str(tmp_path), mlmodel)] == ["logged with Python"] * differs


def test_a_long_or_hostile_list_stays_short(tmp_path: Path) -> None:
    names = "\n".join(f"absent-{number}=={'1' * 300}" for number in range(400))
    (tmp_path / "requirements.txt").write_bytes(b"\xff\x00\n" + names.encode() + b"\n" * 10_000_000)
    reported = mismatches(str(tmp_path), "9.9\x1b[31m" + "9" * 1000)

    assert len(reported) == MOST_MISMATCHES
    assert reported[-1].endswith(" more")
    assert all(len(line) <= MISMATCH_CHARACTERS and line.isprintable() for line in reported)


def test_a_version_reports_its_mismatches_and_loads_all_the_same(versions: Path, tmp_path: Path) -> None:
    directory = tmp_path / "plain"
    shutil.copytree(versions / "plain", directory)
    (directory / "requirements.txt").write_text("numpy==0.1\nno-such-library==1\n")
    recipe = directory / "MLmodel"
    recipe.write_text(
        recipe.read_text().replace(f"python_version: {python_version()}", "python_version: 3.8.1")
    )

    assert load_version(spec_of(tmp_path, "plain")).info.mismatches == (
        f"logged with Python 3.8.1, this is {python_version()}",
        f"numpy==0.1 is required and {version('numpy')} is installed",
        "no-such-library==1 is required and not installed",
    )


def test_looking_costs_next_to_nothing_of_the_time_to_ready(
    tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Thirty requirements of which one is absent; a worker inherits the list of what is installed."""
    names = sorted(installed_versions())[:29]
    lines = [f"{name}=={installed_versions()[name]}" for name in names] + ["no-such-library==1"]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    mismatches(str(tmp_path), "3.8.1")
    started = perf_counter()
    reported = mismatches(str(tmp_path), "3.8.1")
    seconds = perf_counter() - started

    figure(f"{len(lines)} requirements in {seconds * 1e3:.1f} ms")
    assert len(reported) == 2
    assert seconds < 0.01 * slack
