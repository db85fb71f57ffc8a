"""Where versions lie in the cache, and whether those directories can be trusted."""

import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

_NAME_BYTES = 180
_SIGN = "="
"""Begins an escape where URIs have `%`: MLflow takes the path it loads from for a URI, and decodes that."""
_WRITERS = stat.S_IWGRP | stat.S_IWOTH


class DirectoryRefused(Exception):
    """The cache directory cannot be trusted or used."""


def model_directory(cache_dir: Path, model: str) -> Path:
    """Where the versions of `model` lie; made for us alone.

    Raises DirectoryRefused unless it and the cache are real directories that nobody else can write to.
    """
    name = _name_of(model)
    for directory in (cache_dir, cache_dir / name):
        with suppress(FileExistsError):  # a file or a link that leads nowhere: told below
            # 0700: whoever can write here can run code in a worker.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _trust(directory)
    return cache_dir / name


def model_of(directory: Path) -> str:
    """The registered model whose versions lie in this `model_directory`; of a long name, its beginning."""
    return unquote(directory.name.replace(_SIGN, "%"), errors="replace")


def place_of(cache_dir: Path, model: str, number: int, fingerprint: str) -> Path:
    """Where this version lies, or will lie. Raises as `model_directory` does, also for the place itself."""
    place = model_directory(cache_dir, model) / f"{number}-{fingerprint}"
    with suppress(FileNotFoundError):
        _trust(place)
    return place


def wrong_with(status: os.stat_result) -> str:
    """Why something in the cache cannot be trusted: its owner, or who may write to it. Empty when it can."""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid} and this is user {os.geteuid()}"
    if status.st_mode & _WRITERS:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}: others can write to it"
    return ""


def _name_of(model: str) -> str:
    # No two models share one: `quote` leaves no sign of ours as it is.
    name = quote(model, safe="").replace("%", _SIGN)
    if name.startswith("."):
        name = f"{_SIGN}2E{name[1:]}"
    if len(name) > _NAME_BYTES:
        name = f"{name[:_NAME_BYTES]}-{sha256(model.encode()).hexdigest()[:12]}"
    return name


def _trust(directory: Path) -> None:
    status = os.lstat(directory)
    if stat.S_ISLNK(status.st_mode):
        raise DirectoryRefused(f"{directory} in the cache is a symbolic link; it has to be a directory")
    if not stat.S_ISDIR(status.st_mode):
        raise DirectoryRefused(f"{directory} in the cache is not a directory")
    if status.st_uid != os.geteuid():
        raise DirectoryRefused(
            f"{directory} in the cache belongs to user {status.st_uid} and this is user {os.geteuid()};"
            " name a directory of its own as registry.cache_dir"
        )
    if status.st_mode & _WRITERS:
        raise DirectoryRefused(
            f"{directory} in the cache has mode {stat.S_IMODE(status.st_mode):04o}: others can write to it,"
            " and what lies there is run; empty it and run `chmod go-w` on it,"
            " or name another registry.cache_dir"
        )
