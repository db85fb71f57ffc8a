"""Versions logged in Python environments that are not the gateway's, and a registry that has them.

`fraud` 1 was trained, pickled and asked by scikit-learn 1.5.2, pandas 2.2 and numpy 1.26, 2 by the newest of
all three. Their environments are made by plain uv, once in a run, and end with the training; what uv has
downloaded for them lies where a gateway that uses `cache` finds it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.support.built_once import made_once
from tests.support.empty_database import empty_database
from tests.support.registry import Registry
from tests.support.slowness import slack

MODEL = "fraud"
SCRIPT = Path(__file__).with_name("save_foreign_version.py")
OLD, NEW = 1, 2
LIBRARIES: Mapping[int, Sequence[str]] = {
    OLD: ("scikit-learn==1.5.2", "pandas==2.2.*", "numpy==1.26.*"),
    NEW: ("scikit-learn>1.5.2", "pandas>=3", "numpy>=2"),
}
HAS_OLD_WHEELS = sys.version_info < (3, 13)
"""numpy 1.26 has none for later Pythons."""
UV_CACHE = Path(".environments", ".uv", "cache")
"""Where a gateway keeps uv's cache, below its own."""


@dataclass(frozen=True)
class Offline:
    """What one version answered in a process of its own."""

    asked: Mapping[str, Any]
    """A request's `dataframe_split`."""
    answers: Sequence[Mapping[str, Any]]

    @property
    def body(self) -> Mapping[str, Any]:
        """The request."""
        return {"dataframe_split": {name: self.asked[name] for name in ("columns", "data")}}


@dataclass(frozen=True)
class ForeignVersions:
    """What was built once: it is only read, but for the cache, which gateways share."""

    directory: Path

    @property
    def cache(self) -> Path:
        """For `registry.cache_dir`."""
        return self.directory / "cache"

    def files(self, number: int) -> Path:
        """A version's files."""
        return self.directory / str(number) / "model"

    def writer(self) -> Path:
        """Those of one like the newer version, which writes into its environment's scikit-learn."""
        return self.directory / str(NEW) / "writer"

    def offline(self, number: int) -> Offline:
        """What it answers."""
        return Offline(**json.loads((self.directory / str(number) / "offline.json").read_text()))


def uv_program() -> str | None:
    """The program, where it is installed."""
    try:
        import uv
    except ModuleNotFoundError:
        return shutil.which("uv")
    return str(uv.find_uv_bin())


@cache
def missing() -> str | None:
    """What is not here to build environments; None where all is."""
    program = uv_program()
    if program is None:
        return "uv is missing; install the extra `environments`"
    if not HAS_OLD_WHEELS:
        return "numpy 1.26 has no wheels for this Python; run these tests by Python 3.11 or 3.12"
    asked = subprocess.run(
        [program, "--no-config", "pip", "compile", "--quiet", "--no-cache", "--no-deps", "-"],
        input="cloudpickle\n",
        capture_output=True,
        text=True,
        timeout=60 * slack(),
    )
    return None if asked.returncode == 0 else f"no package index is reached: {asked.stderr.strip()[-300:]}"


def foreign_versions(tmp_path_factory: pytest.TempPathFactory) -> ForeignVersions:
    """Saved and registered once in a run; skips where they can not be built."""
    if why := missing():
        pytest.skip(why)
    return ForeignVersions(
        made_once("foreign-versions", lambda at: _make(at, tmp_path_factory), tmp_path_factory)
    )


def _make(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copy(empty_database(tmp_path_factory), directory)
    (directory / "cache").mkdir(mode=0o700)
    with ThreadPoolExecutor() as both:
        for saved in [both.submit(_save, directory, number) for number in LIBRARIES]:
            saved.result()
    registry = Registry(directory)
    registry.client.create_registered_model(MODEL)
    for number in LIBRARIES:
        register(registry, directory / str(number) / "model")
    registry.move("production", OLD, MODEL)
    registry.move("canary", NEW, MODEL)


def register(registry: Registry, files: Path) -> int:
    """One more version of `fraud`; returns its number."""
    return int(registry.client.create_model_version(MODEL, source=files.as_uri()).version)


def _save(directory: Path, number: int) -> None:
    own, venv = directory / str(number), directory / f"venv-{number}"
    own.mkdir()
    # Skinny: MLflow's server and its database are of no use for saving.
    wanted = [*LIBRARIES[number], f"mlflow-skinny=={version('mlflow')}"]
    environment = {
        **os.environ,
        "UV_CACHE_DIR": str(directory / "cache" / UV_CACHE),
        "UV_LINK_MODE": "symlink",
    }
    program = uv_program()
    assert program is not None
    python = venv / "bin" / "python"
    for command in (
        [program, "--no-config", "venv", "--quiet", "--python", sys.executable, str(venv)],
        [
            program,
            "--no-config",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--only-binary",
            ":all:",
            *wanted,
        ],
        [str(python), "-I", str(SCRIPT), str(own)],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(venv)


def version_with(registry: Registry, foreign: ForeignVersions, directory: Path, requirements: str) -> int:
    """One more version, like the newer one, with these `requirements`, logged now; its files are in
    `directory`."""
    shutil.copytree(foreign.files(NEW), directory)
    about = directory / "MLmodel"
    created = f"utc_time_created: '{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}'"
    text, found = re.subn(r"(?m)^utc_time_created: .*$", created, about.read_text())
    assert found == 1
    about.write_text(text)
    (directory / "requirements.txt").write_text(requirements)
    return register(registry, directory)
