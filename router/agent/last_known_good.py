"""The record of what served last, one per registered model and registry.

It lies beside the versions it names, so it goes with the cache. Who writes last wins; a record that is torn,
or that others could have written, is none.
"""

import json
import os
import secrets
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from router.agent import sqlite_file
from router.agent.cache import sync_one
from router.agent.cache_layout import model_directory, wrong_with
from router.agent.verify import CopyRefused, digest_of_manifest
from router.core.redaction import redact_uri

PREFIX = "last-good-"
_FORMAT = 1
_MOST_BYTES = 1 << 20


class RecordRefused(Exception):
    """What lies there is no record of ours."""


class Entry(NamedTuple):
    """What served under one alias."""

    version: int
    place: str
    """Name of the version's directory, with the fingerprint of its registration."""
    manifest: str
    """SHA-256 of its manifest file, which holds that of every file."""


Record = dict[str, Entry]
"""By the registry's name of the alias, so that another `aliases` in the configuration finds no wrong one."""


def identity_of(registry_uri: str) -> str:
    """64 hex digits that tell one registry from another; a changed password is no other registry."""
    if sqlite_file.is_sqlite(registry_uri):
        named = f"sqlite {os.path.realpath(sqlite_file.path_of(registry_uri))}"
    elif "://" in registry_uri:
        named = redact_uri(registry_uri).rstrip("/")
    else:
        named = registry_uri
    return sha256(named.encode()).hexdigest()


def read(directory: Path, model: str, registry: str) -> Record:
    """The record of `model` below its `directory`; empty when there is none.

    `registry` is an `identity_of`. Raises RecordRefused for one that is torn, of another registry or model,
    or that anybody else could have written.
    """
    path = _path(directory, registry)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecordRefused(f"{path.name} cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if wrong := "is not a plain file" if not stat.S_ISREG(status.st_mode) else wrong_with(status):
            raise RecordRefused(f"{path.name} {wrong}")
        written = file.read(_MOST_BYTES)
    try:
        told = json.loads(written)
        wanted = (_FORMAT, registry, model)
        if (told["format"], told["registry"], told["model"]) != wanted:
            raise RecordRefused(f"{path.name} is about another registry or another model")
        return {alias: _entry(*fields) for alias, fields in told["aliases"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordRefused(f"{path.name} is torn") from error


def write(directory: Path, model: str, registry: str, record: Record) -> None:
    """Replace the record, safe on disk when this returns. Raises OSError; the former one stands then."""
    told = {"format": _FORMAT, "registry": registry, "model": model, "aliases": record}
    path = _path(directory, registry)
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(descriptor)
        beside.rename(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_one(directory)


def remember(
    cache_dir: Path,
    model: str,
    registry: str,
    served: Mapping[str, tuple[int, str]],
    pending: Collection[str],
) -> None:
    """Record what serves: by alias, the version and the directory of its files.

    Aliases in `pending` are still named by the registry and serve nothing yet: what was recorded of them
    stays. All others go. Raises OSError, CopyRefused, and DirectoryRefused as `places` does.
    """
    directory = model_directory(cache_dir, model)
    former: Record = {}
    with suppress(RecordRefused):
        former = read(directory, model, registry)
    kept = {alias: entry for alias, entry in former.items() if alias in pending}
    new = {
        alias: _served(directory, version, Path(files).parent) for alias, (version, files) in served.items()
    }
    if (record := {**kept, **new}) != former:
        write(directory, model, registry, record)


def places_named(directory: Path) -> set[str]:
    """Every place that any record in `directory` names, whatever its registry."""
    named: set[str] = set()
    for path in directory.glob(f"{PREFIX}*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            aliases = json.loads(path.read_bytes())["aliases"]
            named |= {_entry(*fields).place for fields in aliases.values()}
    return named


def _path(directory: Path, registry: str) -> Path:
    return directory / f"{PREFIX}{registry[:16]}.json"


def _served(directory: Path, version: int, place: Path) -> Entry:
    if place.parent != directory or not place.name.startswith(f"{version}-"):
        raise CopyRefused(f"{place.name} is no place of version {version}")
    return Entry(version, place.name, digest_of_manifest(place))


def _entry(version: int, place: str, manifest: str) -> Entry:
    # A name, never a path: what it names is loaded.
    if type(version) is not int or not isinstance(manifest, str) or "/" in place or place.startswith("."):
        raise ValueError("no entry of ours")
    return Entry(version, place, manifest)
