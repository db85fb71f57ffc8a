"""What a version in the cache consists of: written once, when it is published, and compared ever after."""

import json
import os
import stat
from hashlib import file_digest
from pathlib import Path

MODEL_FILE = "MLmodel"
Manifest = dict[str, tuple[int, str]]
"""Size in bytes and SHA-256 in hex by path relative to the version's files."""


def manifest_of(files: Path) -> Manifest:
    """Read every file below `files`."""
    paths = [Path(folder, name) for folder, _, names in os.walk(files) for name in names]
    return {str(path.relative_to(files)): (path.stat().st_size, _digest(path)) for path in paths}


def write(path: Path, manifest: Manifest) -> None:
    """Write `manifest` to the new file `path`; whoever publishes it syncs it."""
    # Not orjson, which refuses the surrogates that stand for a file name that is no text.
    path.write_text(json.dumps(manifest))


def read(path: Path) -> Manifest | None:
    """The manifest in `path`; None when there is none, or it is not one of ours."""
    try:
        written = json.loads(path.read_bytes())
        return {name: (int(size), str(digest)) for name, (size, digest) in written.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def has_its_sizes(files: Path, manifest: Manifest) -> bool:
    """Whether every file is there with its size; reads none. Files that a load left there do not matter."""
    return MODEL_FILE in manifest and all(_size(files / name) == size for name, (size, _) in manifest.items())


def has_its_content(files: Path, manifest: Manifest) -> bool:
    """Whether every file is there with its content; reads them all."""
    return first_difference(files, manifest) is None


def first_difference(files: Path, manifest: Manifest) -> str | None:
    """Name of a file that is missing or has another content; reads them all. None when there is none."""
    if MODEL_FILE not in manifest:
        return MODEL_FILE
    for name, (size, digest) in manifest.items():
        if _size(files / name) != size or _digest(files / name) != digest:
            return name
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int | None:
    """Of a plain file; None for anything else, links included."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
