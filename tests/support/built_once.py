"""What takes seconds to make: made once in a run, by whichever of its processes asks first, and only read."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def run_script(script: Path, directory: Path, *more: str) -> None:
    """Have `script` make what it makes in `directory`, in a process of its own; `more`: further arguments."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(directory), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def built_once(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `script` filled."""
    return made_once(script.stem, lambda directory: run_script(script, directory), tmp_path_factory)


def made_once(name: str, make: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory called `built-NAME` that `make` filled; who comes while it is made waits."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the run, where each process has one of its own
    directory = base / f"built-{name}"
    whole = directory / "whole"
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            make(directory)
            whole.touch()
    return directory
