"""One download: list what is there, see that it can be taken, copy it, see that all of it came."""

import os
import shutil
import stat
from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from mlflow.models.utils import SERVING_INPUT_FILENAME
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from router.agent.errors import DownloadRefused
from router.agent.manifest import MODEL_FILE
from router.core.artifact_source import local_path

_MOST_FILES = 100_000
_RESERVE_BYTES = 64 << 20
"""Left free on the disk: a full one is everyone's fault to find."""

_EXTRAS = {"s3": "s3", "r2": "s3", "b2": "s3", "gs": "gcs", "wasbs": "azure", "abfss": "azure"}
"""By the scheme of a source, the extra of this package that installs what MLflow reads it with."""

_EXAMPLES = ("input_example.", SERVING_INPUT_FILENAME)
"""How MLflow names the input example, of which the second one is a request to its server."""

Listing = dict[str, int | None]
"""Size in bytes by path relative to the version's root; None where the store does not say."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version's files in an artifact store, as they were listed."""

    repository: Any
    """MLflow's, of that store."""
    listing: Listing
    digest: str
    """SHA-256 in hex of all that the store says of the files: names and sizes, of local files also when each
    was changed. Equal digests: as far as can be seen without reading them, the files are the same."""
    is_part: bool = False
    """Whether more of it lies there than is listed."""

    def description(self) -> "StoredVersion":
        """What says what the version is, without what it computes with: its MLmodel and its input example."""
        listing = {path: size for path, size in self.listing.items() if _describes(path)}
        return replace(self, listing=listing, is_part=True)

    def copy_to(self, target: Path, *, but: Collection[str] = ()) -> None:
        """Copy all of it into the directory `target`, which is empty, or holds the files of `but` already.

        Raises DownloadRefused, MlflowException and OSError; what is in `target` then is not to be used.
        """
        # Listed before, so that a wrong source is not copied first, and compared after: a body cut by a proxy
        # and a failure that a repository swallows leave less than was listed.
        missing = {path: size for path, size in self.listing.items() if path not in but}
        _check_room(missing, target)
        for path in missing if but or self.is_part else [""]:
            self.repository.download_artifacts(path, dst_path=str(target))
        _compare(self.listing, target)


def list_version(uri: str, tracking_uri: str, registry_uri: str) -> StoredVersion:
    """List the version at `uri`. Raises DownloadRefused, MlflowException and OSError."""
    try:
        repository = get_artifact_repository(uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
        listing = _listed(repository)
    except ImportError as error:
        if (missing := not_installed(uri, error)) is None:
            raise
        raise DownloadRefused(f"its source {missing}") from error
    _check_names(listing)
    root = local_path(uri)
    changed = {} if root is None else {path: _changed_at(Path(root, path)) for path in listing}
    # MLflow's listing gives no times, and those of other stores have no common form.
    facts = sorted((os.fsencode(path).hex(), size, changed.get(path)) for path, size in listing.items())
    return StoredVersion(repository, listing, sha256(orjson.dumps(facts)).hexdigest())


def not_installed(uri: str, error: ImportError) -> str | None:
    """What to install so that `uri` can be read; None where no extra of this package has what is missing."""
    scheme = uri.partition(":")[0].lower()
    if (extra := _EXTRAS.get(scheme)) is None:
        return None
    return (
        f"lies at {scheme}://, and what reads that is not installed ({error}):"
        f" pip install 'mlflow-canary-router[{extra}]'"
    )


def _describes(path: str) -> bool:
    return path == MODEL_FILE or path.startswith(_EXAMPLES)


def _listed(repository: Any) -> Listing:
    listing: Listing = {}
    folders: list[str | None] = [None]
    seen: set[str | None] = {None}
    while folders:
        for entry in repository.list_artifacts(folders.pop()):
            if not entry.is_dir:
                listing[entry.path] = entry.file_size
            elif entry.path not in seen:
                seen.add(entry.path)
                folders.append(entry.path)
        if len(listing) + len(seen) > _MOST_FILES:
            raise DownloadRefused(f"it has over {_MOST_FILES} files")
    return listing


def _changed_at(path: Path) -> tuple[int, int]:
    """Nanoseconds since 1970, and the file's number: a copy may keep the time of what it replaces."""
    status = os.stat(path)
    return status.st_mtime_ns, status.st_ino


def _check_names(listing: Listing) -> None:
    if MODEL_FILE not in listing:
        raise DownloadRefused(f"there is no {MODEL_FILE} file at its source")
    for path in listing:
        if path.startswith("/") or ".." in path.split("/"):
            raise DownloadRefused("an artifact's name leads out of its directory")


def _check_room(listing: Listing, target: Path) -> None:
    needed_bytes = sum(size or 0 for size in listing.values())
    free_bytes = shutil.disk_usage(target).free - _RESERVE_BYTES
    if needed_bytes > free_bytes:
        raise DownloadRefused(
            f"it needs {needed_bytes >> 20} MiB and {max(0, free_bytes) >> 20} MiB are free"
        )


def _compare(listing: Listing, target: Path) -> None:
    for path, size in listing.items():
        try:
            status = os.lstat(target / path)
        except FileNotFoundError:
            raise DownloadRefused(f"{path} did not come") from None
        if size is not None and status.st_size != size:
            raise DownloadRefused(f"{path} came with {status.st_size} of {size} bytes")
    for folder, folders, names in os.walk(target):
        for name in (*folders, *names):
            mode = os.lstat(os.path.join(folder, name)).st_mode
            # A link would be followed by whoever loads the version, wherever it leads.
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DownloadRefused(f"{name} is neither a file nor a directory")
