"""Directories that are this gateway's alone, whatever user it runs as; or a sentence that says which is not.

What lies there is run. Where a directory that was named belongs to somebody else, such as a volume that its
group may write to, the gateway makes one in it, named by its user id.
"""

import errno
import logging
import os
import secrets
import stat
from dataclasses import replace
from pathlib import Path

from router.errors import ConfigRefused
from router.processes.disk import remove_tree
from router.processes.working_directories import FOLDER
from router.settings.gateway import RegistryPlaces

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""A disk may be emptied while the gateway runs: what can not be written now is tried again."""
_HOME = ".home"

_log = logging.getLogger(__name__)


def own_directories(places: RegistryPlaces) -> RegistryPlaces:
    """`places` with a cache that is there, is ours alone and can be written to. Raises ConfigRefused.

    A cache of ours that others could write to is emptied: nobody knows what lies there. Where this user has
    no home directory, one beside the copies becomes that of children.
    """
    try:
        own = _own(places)
        _have_home(own.working_directories / _HOME)
        return own
    except OSError as error:
        if error.errno in _FULL:
            return places
        where = error.filename or places.cache_dir
        problem = (
            f"{where}, for copies of versions, can not be used by user {os.geteuid()}: {error.strerror};"
            " name a directory that this user can write to as registry.cache_dir"
        )
        raise ConfigRefused([problem]) from error


def _own(places: RegistryPlaces) -> RegistryPlaces:
    named, cache = places.working_directories, places.cache_dir
    named.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = named
    if not _may_be_used(cache, named):
        parent = named / str(os.geteuid())
        cache = parent / cache.relative_to(named)
    for directory in dict.fromkeys((parent, cache)):
        directory.mkdir(mode=0o700, exist_ok=True)
    if cache != named and _others_may_write(cache):
        _empty(cache)
    for directory in (parent / FOLDER, *([parent] if parent != named else [])):
        if _is_ours(directory) and _others_may_write(directory):
            directory.chmod(0o700)
    for directory in (parent, cache):
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    return replace(places, cache_dir=cache, working_directories=parent)


def _have_home(otherwise: Path) -> None:
    try:
        Path.home()
    except RuntimeError:  # a user id without an entry in /etc/passwd: MLflow can not even be imported then
        otherwise.mkdir(mode=0o700, exist_ok=True)
        os.environ["HOME"] = str(otherwise)


def _may_be_used(cache: Path, named: Path) -> bool:
    """Whether copies may lie at `cache`, which is the directory that was `named`, or one of our own in it."""
    if not os.path.lexists(cache):
        return _is_ours(named)
    return _is_ours(cache) and (cache != named or not _others_may_write(cache))


def _is_ours(directory: Path) -> bool:
    return os.path.lexists(directory) and os.lstat(directory).st_uid == os.geteuid()


def _others_may_write(directory: Path) -> bool:
    return bool(os.lstat(directory).st_mode & _OTHERS_MAY_WRITE)


def _empty(cache: Path) -> None:
    _log.warning(
        "%s has mode %04o: others could write to it, so it is emptied, and versions are fetched anew."
        " On a volume of Kubernetes, `fsGroupChangePolicy: OnRootMismatch` leaves modes as they are",
        cache,
        stat.S_IMODE(os.lstat(cache).st_mode),
    )
    aside = cache.rename(cache.with_name(f"{cache.name}.old-{secrets.token_hex(4)}"))
    cache.mkdir(mode=0o700)
    remove_tree(aside)  # environments of versions in it are read-only
