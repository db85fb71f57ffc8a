"""Seeds a SQLite registry with versions that were really trained. A process of its own: `… DIRECTORY`.

MLflow's settings are process-wide and its libraries heavy; the demo needs neither while it sends traffic.
"""

import asyncio
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from router.demo.gateway_process import clean_environment
from router.demo.material import Material
from router.demo.workspace import Workspace
from router.errors import RouterError

ALIASES = {"production": 1, "canary": 2}
"""Where the demo starts: v1 in production, v2 as the canary."""


class SeedFailed(RouterError):
    """The versions could not be trained, logged or registered."""


def seeded(place: Workspace) -> dict[str, Material] | None:
    """What the registry in `place` holds, or None when it is not there, not whole, or of another recipe."""
    try:
        document = json.loads(_summary(place).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if document["recipe"] != _recipe(place):
        return None
    return {one["model"]: Material.from_json(one) for one in document["materials"]}


async def seed_beside(place: Workspace, say: Callable[[str], None]) -> None:
    """`seed` in a child process, which ends with this call. Raises SeedFailed."""
    with place.seed_log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "router.demo.registry_seed", str(place.root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=clean_environment(),
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            say(line.decode().rstrip())
        if code := await process.wait():
            raise SeedFailed(f"training ended with code {code}; see {place.seed_log}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def seed(place: Workspace, say: Callable[[str], None]) -> None:
    """Train, log and register all versions, in a registry that replaces whatever `place` had."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    from router.demo.train import seed_sentiment
    from router.demo.train_churn import seed_churn

    shutil.rmtree(place.registry, ignore_errors=True)
    place.registry.mkdir()
    mlflow.set_tracking_uri(place.registry_uri)
    mlflow.set_registry_uri(place.registry_uri)
    mlflow.create_experiment("demo", artifact_location=(place.registry / "artifacts").as_uri())
    mlflow.set_experiment("demo")
    materials = []
    with tempfile.TemporaryDirectory() as scratch:
        trainings: tuple[Callable[[], Material], ...] = (lambda: seed_sentiment(Path(scratch)), seed_churn)
        for train in trainings:
            began = time.monotonic()
            material = train()
            materials.append(material)
            told = ", ".join(f"v{number} {one.told}" for number, one in material.versions.items())
            say(f"trained and registered {material.model}: {told} ({time.monotonic() - began:.1f} s)")
    # Written last: a registry without it is not whole, and the next start makes a new one.
    document = {"recipe": _recipe(place), "materials": [asdict(one) for one in materials]}
    _summary(place).write_text(json.dumps(document), encoding="utf-8")


def _summary(place: Workspace) -> Path:
    return place.registry / "seeded.json"


def _recipe(place: Workspace) -> str:
    """Changes when the registry must be made anew: other code, data or libraries, or a moved directory."""
    here = Path(__file__).parent
    ours = (
        "registry_seed.py",
        "train_*.py",
        "dataset.py",
        "customers.py",
        "rows.py",
        "material.py",
        "*/*_model.py",
        "data/*.jsonl",
    )
    sources = sorted(found for pattern in ours for found in here.glob(pattern))
    digest = hashlib.sha256(str(place.registry).encode())
    for library in ("mlflow", "scikit-learn", "numpy"):
        digest.update(version(library).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING)
    seed(Workspace(Path(sys.argv[1])), lambda line: print(line, flush=True))
