"""Files of a version, fetched by MLflow's client: for a process that no gateway gives a copy.

Its processes share a cache of the same kind as the gateway's, in the temporary directory, where others may
remove files at any time: `systemd-tmpfiles` takes old ones and leaves the directories.
"""

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import mlflow
import mlflow.artifacts
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from router.agent.cache import is_complete, model_directory, part_of, place_of, publish, remove_leftovers
from router.agent.errors import DirectoryRefused
from router.agent.manifest import FILES
from router.core.ids import VersionId

_FINGERPRINT = 16
"""Hexadecimal digits."""
_NO_ANSWER = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""What MLflow's client says where nothing was answered, or by a proxy that had no answer either."""


def download_version(version: VersionId, source: str) -> Path:
    """Directory with the files of `version` at `source`, below the temporary directory: what all processes of
    this user that ask for the same files load, now and later, and none may write to.

    Processes that start together wait for the one that downloads. A copy from which something was removed, or
    that was written to, is replaced.

    `source`: whatever MLflow reads. Of `models:/NAME/NUMBER` the registry is asked each time, because a name
    that was registered anew has other files; where it gives no answer, what it said last is taken.

    Raises what MLflow raises; RuntimeError where somebody else owns the place, or may write to it.
    """
    cache = Path(tempfile.gettempdir(), f"canary-router-{os.getuid()}")
    try:
        if ModelsArtifactRepository.is_models_uri(source):
            record = model_directory(cache, version.model) / f".source-{_fingerprint(source)}"
            source = _looked_up(source, record)
        place = place_of(cache, version.model, version.number, _fingerprint(source))
    except DirectoryRefused as error:
        # Serve's controller gets it, where our own classes may not be installed.
        why = str(error).partition(";")[0]  # what follows speaks of the gateway's settings
        raise RuntimeError(f"{why}: TMPDIR in env_vars of its runtime_env can name another place") from None
    with _one_process(place.with_name(f".lock-{place.name}")):
        if not is_complete(place):
            remove_leftovers(cache)
            _download(source, place)
    return place / FILES


def _fingerprint(source: str) -> str:
    # `mlflow-artifacts:` has no host: it is that of the tracking server.
    named = json.dumps([mlflow.get_tracking_uri(), source])
    return sha256(named.encode()).hexdigest()[:_FINGERPRINT]


def _looked_up(source: str, record: Path) -> str:
    """Where the files of `models:/…` lie, by the registry; by `record`, where it gives no answer at all."""
    try:
        found = str(ModelsArtifactRepository.get_underlying_uri(source))
    except MlflowException as error:
        # Any answer counts, such as that the version is not there any more.
        if isinstance(error, RestException) or error.error_code not in _NO_ANSWER or not record.exists():
            raise
        logging.getLogger(__name__).warning("the registry gives no answer: %s lies where it did last", source)
        return record.read_text(encoding="utf-8")
    written = record.with_name(f"{record.name}-{os.getpid()}")
    written.write_text(found, encoding="utf-8")
    written.rename(record)
    return found


def _download(source: str, place: Path) -> None:
    with part_of(place.parent, place.name) as part:
        # Where they are below it is the store's affair.
        into = part / "download"
        into.mkdir()
        found = mlflow.artifacts.download_artifacts(source, dst_path=str(into))
        os.rename(found, part / FILES)
        shutil.rmtree(into, ignore_errors=True)
        publish(part, place)


@contextmanager
def _one_process(lock: Path) -> Iterator[None]:
    """Wait until no other process is in this block; one that ends leaves it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
