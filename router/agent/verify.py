"""Whether a copy in the cache still is, to the last byte, what was recorded of it, and ours alone."""

import os
import stat
from hashlib import sha256
from pathlib import Path

from router.agent import manifest as manifests
from router.agent.cache import FILES, MANIFEST
from router.agent.cache_layout import wrong_with


class CopyRefused(Exception):
    """A copy in the cache is not what was recorded."""


def digest_of_manifest(place: Path) -> str:
    """SHA-256 in hex of the manifest at `place`, which holds that of every file. Raises CopyRefused."""
    _check_file(place / MANIFEST)
    return sha256((place / MANIFEST).read_bytes()).hexdigest()


def verified(place: Path, manifest_digest: str) -> Path:
    """The directory of the version's files, after every byte was compared with its manifest.

    Raises CopyRefused, naming what differs, is a link, is missing, or could have been written by others.
    Files that a load left there, such as bytecode, are not compared.
    """
    for directory in (place, place / FILES):
        _check_directory(directory)
    if digest_of_manifest(place) != manifest_digest:
        raise CopyRefused(f"{place.name}: its manifest is not the recorded one")
    for folder, folders, names in os.walk(place / FILES):
        for name in folders:
            _check_directory(Path(folder, name))
        for name in names:
            _check_file(Path(folder, name))
    manifest = manifests.read(place / MANIFEST)
    if manifest is None:
        raise CopyRefused(f"{place.name}: its manifest is torn")
    if (different := manifests.first_difference(place / FILES, manifest)) is not None:
        raise CopyRefused(f"{place.name}: {different} is not as it was published")
    return place / FILES


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
        raise CopyRefused(f"{path.name} is missing from the cache: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise CopyRefused(f"{path.name} is a symbolic link")
    return status


def _check_owner(path: Path, status: os.stat_result) -> None:
    if wrong := wrong_with(status):
        raise CopyRefused(f"{path.name} {wrong}")
