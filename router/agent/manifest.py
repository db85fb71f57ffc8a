"""What a copy in the cache consists of: recorded when it is published, and compared to the last byte."""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path

from router.agent.errors import CopyMissing, CopyRefused

FILES = "files"
"""Directory of a version's files, in its place in the cache."""
MANIFEST = "manifest.json"
"""Beside it."""
MODEL_FILE = "MLmodel"
WRITERS = stat.S_IWGRP | stat.S_IWOTH
"""Modes by which others than the owner may write."""

_BYTECODE = "__pycache__"

Manifest = dict[str, tuple[int, str]]
"""Size in bytes and SHA-256 in hex by path relative to the version's files."""


def manifest_of(files: Path) -> Manifest:
    """Read every file below `files`."""
    paths = [Path(folder, name) for folder, _, names in os.walk(files) for name in names]
    return {str(path.relative_to(files)): (path.stat().st_size, _digest(path)) for path in paths}


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest` to the new file `path`; whoever publishes it syncs it."""
    # Not orjson, which refuses the surrogates that stand for a file name that is no text.
    path.write_text(json.dumps(manifest))


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in `path`; None when there is none, or it is not one of ours."""
    try:
        written = json.loads(path.read_bytes())
        return {name: (int(size), str(digest)) for name, (size, digest) in written.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def size_of(files: Path) -> int:
    """Bytes of all files below `files`."""
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(files) for name in names)
    return sum(os.lstat(path).st_size for path in paths)


def plain_file(path: Path) -> os.stat_result | None:
    """What the system says of the plain file at `path`; None for anything else, links included."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def differences(files: Path, manifest: Manifest) -> Iterator[str]:
    """Names of the files that are missing or have another content; each is read when its turn comes.

    MODEL_FILE is among them where the manifest lacks it. Files that are not in the manifest do not matter.
    """
    if MODEL_FILE not in manifest:
        yield MODEL_FILE
    for name, (size, digest) in manifest.items():
        status = plain_file(files / name)
        if status is None or status.st_size != size or _digest(files / name) != digest:
            yield name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def wrong_with(status: os.stat_result) -> str:
    """Why something in the cache cannot be trusted: its owner, or who may write to it. Empty when it can."""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid} and this is user {os.geteuid()}"
    if status.st_mode & WRITERS:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}: others can write to it"
    return ""


def digest_of_manifest(place: Path) -> str:
    """SHA-256 in hex of the manifest at `place`, which holds that of every file. Raises CopyRefused."""
    _check_file(place / MANIFEST)
    return sha256((place / MANIFEST).read_bytes()).hexdigest()


def verified(place: Path, manifest_digest: str) -> Path:
    """The directory of the version's files, after every byte was compared with its manifest.

    Raises CopyRefused, naming what differs, is a link, or could have been written by others; CopyMissing.
    Bytecode that was not published is removed, as nothing says whose it is. Other files that a load left
    there are not compared.
    """
    for directory in (place, place / FILES):
        _check_directory(directory)
    if digest_of_manifest(place) != manifest_digest:
        raise CopyRefused(f"{place.name}: its manifest is not the recorded one")
    manifest = read_manifest(place / MANIFEST)
    if manifest is None:
        raise CopyRefused(f"{place.name}: its manifest is torn")
    _remove_bytecode(place / FILES, manifest)
    for folder, folders, names in os.walk(place / FILES):
        for name in folders:
            _check_directory(Path(folder, name))
        for name in names:
            _check_file(Path(folder, name))
    if (different := next(differences(place / FILES, manifest), None)) is not None:
        kind = CopyRefused if os.path.lexists(place / FILES / different) else CopyMissing
        raise kind(f"{place.name}: {different} is not as it was published")
    return place / FILES


def _remove_bytecode(files: Path, manifest: Manifest) -> None:
    published = {str(parent) for name in manifest for parent in Path(name).parents}
    for folder, folders, _ in os.walk(files):
        for path in (Path(folder, name) for name in folders if name == _BYTECODE):
            if str(path.relative_to(files)) not in published and not path.is_symlink():
                shutil.rmtree(
                    path, ignore_errors=True
                )  # what is left of it is looked at as any other directory
        folders[:] = [name for name in folders if name != _BYTECODE]


def _check_directory(path: Path) -> None:
    if not stat.S_ISDIR((status := _status(path)).st_mode):
        raise CopyRefused(f"{path.name} is not a directory")
    _check_owner(path, status)


def _check_file(path: Path) -> None:
    if not stat.S_ISREG((status := _status(path)).st_mode):
        raise CopyRefused(f"{path.name} is not a plain file")
    _check_owner(path, status)


def _status(path: Path) -> os.stat_result:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise CopyMissing(f"{path.name} is missing from the cache: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise CopyRefused(f"{path.name} is a symbolic link")
    return status


def _check_owner(path: Path, status: os.stat_result) -> None:
    if wrong := wrong_with(status):
        raise CopyRefused(f"{path.name} {wrong}")
