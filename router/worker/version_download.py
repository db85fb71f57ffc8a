"""Files of a version, fetched by MLflow's client: for a process that no gateway gives a copy."""

import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path

import mlflow
import mlflow.artifacts
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository


def download_version(source: str) -> Path:
    """Directory with the files at `source`, below the temporary directory: what all processes of this user
    that ask for the same files load, now and later.

    `source`: whatever MLflow reads. Of `models:/NAME/NUMBER` the registry is asked each time, because a name
    that was registered anew has other files. Raises what MLflow raises; RuntimeError where somebody else owns
    the place.
    """
    if ModelsArtifactRepository.is_models_uri(source):
        source = ModelsArtifactRepository.get_underlying_uri(source)
    copies = Path(tempfile.gettempdir(), f"canary-router-{os.getuid()}")
    copies.mkdir(mode=0o700, exist_ok=True)
    if copies.is_symlink() or copies.stat().st_uid != os.getuid():
        raise RuntimeError(f"{copies} is somebody else's")
    # `mlflow-artifacts:` has no host: it is that of the tracking server.
    named = json.dumps([mlflow.get_tracking_uri(), source])
    copy = copies / sha256(named.encode()).hexdigest()
    if not copy.exists():
        with tempfile.TemporaryDirectory(prefix="part-", dir=copies) as part:
            into = Path(part, "files")
            into.mkdir()
            found = mlflow.artifacts.download_artifacts(source, dst_path=str(into))
            try:
                os.rename(Path(found), copy)
            except OSError:
                if not copy.exists():  # else another process was faster
                    raise
    return copy
