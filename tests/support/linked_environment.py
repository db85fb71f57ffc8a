"""A virtual environment made of links to the libraries of this one, in which the gateway is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import router
from router.core.version_environment import VersionEnvironment
from router.processes.child import ChildPython

_OURS = ("router", "mlflow_canary_router", "__editable__")


def linked_environment(directory: Path) -> Path:
    """Its Python, in a new virtual environment in `directory`: made in a second, it takes next to no disk."""
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    subprocess.run([base, "-m", "venv", "--without-pip", directory], check=True)
    (libraries,) = directory.glob("lib/python3*/site-packages")
    for place in map(Path, sys.path):
        if place.name not in ("site-packages", "dist-packages"):
            continue
        for entry in place.iterdir():
            link = libraries / entry.name
            if not entry.name.startswith(_OURS) and entry.suffix != ".pth" and not os.path.lexists(link):
                link.symlink_to(entry)
    return directory / "bin" / "python"


def package_directory(directory: Path) -> Path:
    """`directory`, made, with nothing in it but a link to this package."""
    directory.mkdir()
    (directory / "router").symlink_to(Path(router.__file__).parent)
    return directory


def child_python(directory: Path) -> ChildPython:
    """The Python of a new environment in `directory`, for children."""
    directory.mkdir(exist_ok=True)
    return ChildPython(str(linked_environment(directory / "venv")), package_directory(directory / "package"))


def environment_of(python: Path, key: str = "0123456789ab" + "c" * 52) -> VersionEnvironment:
    """The environment of `python`, as what built it would describe it."""
    return VersionEnvironment(key, str(python), "3.11.7", "d" * 64, 1000, 1.0)
