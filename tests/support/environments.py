"""Versions that ask for packages, and environments of a few kilobytes, none of which holds MLflow."""

import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from router.adapters.environments.builds import BuildPolicy
from router.agent.cache import model_directory
from router.core.package_index import index_variables
from router.core.version_environment import VersionEnvironment
from router.environments import store
from router.environments.integrity import seal
from router.environments.pins import Pins
from router.serving.ports import Loader
from tests.support.fakes import FakeWorld

NO_RULES: Mapping[str, Any] = {"own": [], "bounds": [], "exclude_newer": "off"}
"""Of an order: nothing is installed but what the version asks for."""
FINGERPRINT = "0123456789ab"


def add_version(cache: Path, model: str, number: int, *lines: str) -> str:
    """The files of a version in the cache, which asks for what `lines` require."""
    files = model_directory(cache, model) / f"{number}-{FINGERPRINT}" / "files"
    files.mkdir(parents=True, mode=0o700)
    files.parent.chmod(0o700)
    (files / "MLmodel").write_text("utc_time_created: '2025-01-01 00:00:00.000000'\n")
    (files / "requirements.txt").write_text("\n".join(lines) + "\n")
    (files / "python_env.yaml").write_text(f"python: {platform.python_version()}\n")
    return str(files)


def policy_for(uri: str, **changed: Any) -> BuildPolicy:
    """One that asks the index at `uri` and gives up on it soon."""
    variables = index_variables({**os.environ, "UV_HTTP_RETRIES": "0"}, uri, os.getcwd())
    return BuildPolicy(**{"rules": NO_RULES, "index": variables, "timeout_seconds": 120.0, **changed})


def make_environment(
    cache: Path, key: str, files: Mapping[str, str] | None = None, pins: str = "", gateway: str = "0.1.0"
) -> store.Kept:
    """One that nobody built: `files` by path, sealed as those that are built. Scripts can be run."""
    place = store.place_of(store.open_root(cache), key)
    venv = place / store.VENV
    for name, text in (files or {"lib/one.py": "x = 1\n"}).items():
        (venv / name).parent.mkdir(parents=True, exist_ok=True)
        (venv / name).write_text(text)
        (venv / name).chmod(0o700 if text.startswith("#!") else 0o600)
    place.chmod(0o700)
    manifest, size = seal(venv)
    about = VersionEnvironment(key, "", platform.python_version(), "f" * 64, size, 1.0)
    store.write(place, about, Pins(pins, ""), gateway, manifest)
    made = store.find(place.parent, key)
    assert isinstance(made, store.Kept)
    return made


class RecordingLoaders:
    """Implements `EnvironmentLoaders` with loaders that load nothing."""

    def __init__(self) -> None:
        self.retained: set[str] = set()
        self.built_anew: list[str] = []
        """Keys of environments, in that order."""

    def loader(self, about: VersionEnvironment) -> Loader:
        return FakeWorld()

    def retain(self, keys: Collection[str]) -> None:
        self.retained = set(keys)

    def rebuilt(self, key: str) -> None:
        self.built_anew.append(key)
