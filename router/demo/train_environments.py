"""Registers two versions that no one Python environment loads: `… DIRECTORY`, a process of its own.

Each version gets an environment that is built as the gateway builds them, in the gateway's own cache, and is
trained and pickled by that environment's Python. Both name as requirements what the environment was resolved
from, so the gateway resolves the same pins later, and finds the environments built.
"""

import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow

from router.core.package_index import index_variables
from router.core.version_environment import FOLDER
from router.demo.dataset import (
    BASIC,
    FULL,
    SENT,
    Dataset,
    TrainedVersion,
    churn_holdout,
    churn_rows,
    customers,
)
from router.demo.gateway_process import clean_environment
from router.demo.workspace import ALIASES, EXPERIMENT, OWN_ENVIRONMENTS, Workspace
from router.environments.build_main import main as answer_order
from router.environments.store import VENV, place_of
from router.errors import RouterError
from router.protocol.channel import Channel

Say = Callable[[str], None]
CHURN = OWN_ENVIRONMENTS.model
TRAINER = Path(__file__).with_name("train_boosting.py")
MOST_BYTES = 20 << 30
BOOSTING = {"n_estimators": 120, "max_depth": 3, "learning_rate": 0.1, "random_state": 7}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one version is trained, and in what."""

    libraries: Sequence[str]
    """Requirements of the environment."""
    customers: int
    seed: int
    columns: Sequence[str]


RECIPES: Mapping[int, Recipe] = {
    1: Recipe(
        # numpy 1.26 has no wheels for later Pythons.
        ("scikit-learn==1.5.2", "pandas==2.2.*", 'numpy==1.26.*; python_version < "3.13"'),
        *(700, 1, BASIC),
    ),
    2: Recipe(("scikit-learn>1.5.2", "pandas>=3", "numpy>=2"), 4000, 2, FULL),
}


class TrainingFailed(RouterError):
    """A version could not be trained in its environment."""


def seed(place: Workspace, say: Say) -> None:
    """Build, train, log and register, in a registry that replaces whatever `place` had."""
    shutil.rmtree(place.registry, ignore_errors=True)
    place.registry.mkdir()
    mlflow.set_tracking_uri(place.registry_uri)
    mlflow.create_experiment(EXPERIMENT, artifact_location=(place.registry / "artifacts").as_uri())
    client = mlflow.MlflowClient(place.registry_uri, place.registry_uri)
    client.create_registered_model(CHURN)
    versions = {number: _train(place, number, recipe, say) for number, recipe in RECIPES.items()}
    for alias, number in ALIASES.items():
        client.set_registered_model_alias(CHURN, alias, str(number))
    place.note_seeded([Dataset(CHURN, churn_rows(), versions)])


def _train(place: Workspace, number: int, recipe: Recipe, say: Say) -> TrainedVersion:
    began = time.monotonic()
    environment = _environment(place, number, recipe)
    say(
        f"built an environment for v{number}: {time.monotonic() - began:.1f} s, "
        f"{environment['size_bytes'] / 2**20:.0f} MiB"
    )
    python = place_of(place.cache / FOLDER, environment["key"]) / VENV / "bin" / "python"
    began = time.monotonic()
    trained = _trained(place, number, recipe, python)
    libraries = ", ".join(f"{name} {release}" for name, release in trained["installed"].items())
    quality = f"holdout AUC {trained['auc']:.2f}"
    say(f"trained v{number} by {libraries}: {quality} ({time.monotonic() - began:.1f} s)")
    if trouble := _trouble_here(Path(trained["files"])):
        say(f"  the gateway's own environment can not load it: {trouble}")
    return TrainedVersion(number, quality, trained["expected"][:SENT])


def _environment(place: Workspace, number: int, recipe: Recipe) -> Mapping[str, Any]:
    """What was built, as the gateway builds it: by the process that it starts for that, in this one."""
    files = place.registry / "recipes" / str(number) / "files"
    files.mkdir(parents=True)
    (files / "requirements.txt").write_text("".join(f"{line}\n" for line in recipe.libraries))
    (files / "python_env.yaml").write_text(f"python: {platform.python_version()}\n")
    # Later the version has a time, too, by which releases are left out that came after it.
    (files / "MLmodel").write_text(f"utc_time_created: '{datetime.now(UTC):%Y-%m-%d %H:%M:%S}'\n")
    order = {
        "op": "prepare",
        "model": CHURN,
        "version": number,
        "cache_dir": str(place.cache),
        "token": f"demo{number}",
        "files": str(files),
        "rules": {},
        "index": index_variables(os.environ, None, os.getcwd()),
        "max_bytes": MOST_BYTES,
        "build": True,
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours_channel = Channel(ours)
        ours_channel.send({"id": number, **order})
        answer_order(theirs)
        answer = ours_channel.receive()
    if answer is None or answer.header["op"] != "prepared":
        raise TrainingFailed(f"v{number}: {answer.header['error'] if answer else 'no answer'}")
    about: Mapping[str, Any] = answer.header["about"]
    return about


def _trained(place: Workspace, number: int, recipe: Recipe, python: Path) -> Mapping[str, Any]:
    """What the trainer answers. Raises TrainingFailed."""
    with tempfile.TemporaryDirectory() as scratch:
        table, holdout, order, answer = (
            Path(scratch, name) for name in ("table.csv", "holdout.csv", "order.json", "answer.json")
        )
        customers(recipe.customers, recipe.seed).to_csv(table, index=False)
        churn_holdout().to_csv(holdout, index=False)
        asked = {
            "registry": place.registry_uri,
            "experiment": EXPERIMENT,
            "model": CHURN,
            "name": f"{CHURN} v{number}",
            "table": str(table),
            "holdout": str(holdout),
            "columns": list(recipe.columns),
            "recipe": BOOSTING,
            "libraries": list(recipe.libraries),
        }
        order.write_text(json.dumps(asked), encoding="utf-8")
        ended = subprocess.run(  # noqa: S603 - the interpreter that was just built
            [str(python), "-I", "-W", "ignore", str(TRAINER), str(order), str(answer)],
            cwd=scratch,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
        if ended.returncode:
            raise TrainingFailed(f"training v{number} in its environment ended with {ended.returncode}")
        trained: Mapping[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return trained


def _trouble_here(files: Path) -> str:
    """Why this process, which has the gateway's own libraries, can not load that version; empty if it can."""
    try:
        mlflow.pyfunc.load_model(str(files))
    except Exception as error:  # noqa: BLE001 # whatever it is, it is what is to be shown
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Print what was built and registered; returns the exit code."""
    logging.basicConfig(level=logging.WARNING)
    try:
        seed(Workspace(Path(arguments[0]), OWN_ENVIRONMENTS), lambda line: print(line, flush=True))
    except TrainingFailed as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
