"""The cache on disk: one directory per version, complete or absent, shared safely by several gateways.

A version's place holds its `files`, which MLflow reads, and a manifest beside them. A download goes into a
`.part-…` beside its place and is renamed when it is whole. Nothing else is a lock: two gateways may download
the same version, and whoever is second throws its copy away.
"""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

from router.agent.errors import DirectoryRefused
from router.agent.manifest import (
    FILES,
    MANIFEST,
    MODEL_FILE,
    WRITERS,
    Manifest,
    differences,
    manifest_of,
    plain_file,
    read_manifest,
    write_manifest,
    wrong_with,
)

PART = ".part-"
OLD = ".old-"
OWN = "own-"
"""In the place of a version, the directory that a worker has for itself; `router.processes.own_copies`."""
LEFTOVER_SECONDS = 24 * 3600.0
"""A `.part` of another host that is older than this belongs to nobody."""
OLD_SECONDS = 3600.0
"""Whoever was loading from a copy when it was replaced has long ended."""
_NAME_BYTES = 180
_SIGN = "="
"""Begins an escape where URIs have `%`: MLflow takes the path it loads from for a URI, and decodes that."""


def model_directory(cache_dir: Path, model: str) -> Path:
    """Where the versions of `model` lie; made for us alone.

    Raises DirectoryRefused unless it and the cache are real directories that nobody else can write to.
    """
    name = _name_of(model)
    for directory in (cache_dir, cache_dir / name):
        with suppress(FileExistsError):  # a file or a link that leads nowhere: refused below
            # 0700: whoever can write here can run code in a worker.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        trust_directory(directory)
    return cache_dir / name


def model_of(directory: Path) -> str:
    """The registered model whose versions lie in this `model_directory`; of a long name, its beginning."""
    return unquote(directory.name.replace(_SIGN, "%"), errors="replace")


def place_of(cache_dir: Path, model: str, number: int, fingerprint: str, *, described: bool = False) -> Path:
    """Where this version lies, or will lie; `described`: where what describes it lies, without the rest.

    Raises as `model_directory` does, also for the place itself.
    """
    if described:  # in a place of its own: another gateway may need all of it
        fingerprint = sha256(f"description {fingerprint}".encode()).hexdigest()[: len(fingerprint)]
    place = model_directory(cache_dir, model) / f"{number}-{fingerprint}"
    with suppress(FileNotFoundError):
        trust_directory(place)
    return place


def _name_of(model: str) -> str:
    # No two models share one: `quote` leaves no sign of ours as it is.
    name = quote(model, safe="").replace("%", _SIGN)
    if name.startswith("."):
        name = f"{_SIGN}2E{name[1:]}"
    if len(name) > _NAME_BYTES:
        name = f"{name[:_NAME_BYTES]}-{sha256(model.encode()).hexdigest()[:12]}"
    return name


def trust_directory(directory: Path) -> None:
    """Raises DirectoryRefused unless it is a real directory of ours that nobody else can write to, OSError
    where nothing is there."""
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
    if status.st_mode & WRITERS:
        raise DirectoryRefused(
            f"{directory} in the cache has mode {stat.S_IMODE(status.st_mode):04o}: others can write to it,"
            " and what lies there is run; empty it and run `chmod go-w` on it,"
            " or name another registry.cache_dir"
        )


def is_complete(place: Path) -> bool:
    """Whether a version lies there whole, by the sizes of its files, and none was written to since.

    Reads none of them. Files that a load left beside them do not matter.
    """
    recorded, manifest = plain_file(place / MANIFEST), read_manifest(place / MANIFEST)
    if recorded is None or manifest is None or MODEL_FILE not in manifest:
        return False
    found = ((plain_file(place / FILES / name), size) for name, (size, _) in manifest.items())
    return all(
        status is not None and status.st_size == size and status.st_mtime_ns <= recorded.st_mtime_ns
        for status, size in found
    )


@contextmanager
def part_of(directory: Path, token: str) -> Iterator[Path]:
    """A new place to download into, its `files` empty; gone afterwards unless it was published."""
    part = directory / part_name(token)
    part.mkdir(mode=0o700)
    (part / FILES).mkdir(mode=0o700)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def part_name(token: str) -> str:
    """Of a directory in which this process makes something that is renamed when it is whole."""
    return f"{PART}{_place()}-{os.getpid()}-{token}"


def is_orphaned(part: Path) -> bool:
    """Whether the process is gone that began to fill this `part_name`; another host's counts for a day."""
    mine = f"{PART}{_place()}-"
    owner = part.name.removeprefix(mine).partition("-")[0] if part.name.startswith(mine) else ""
    gone = owner.isdecimal() and not Path("/proc", owner).exists()
    return gone or _age_seconds(part) > LEFTOVER_SECONDS


def publish(part: Path, place: Path, *, fresh: bool = False) -> None:
    """Make the whole `part` the version at `place`, safe on disk; where one already is, that one stays.

    `fresh`: only when it is the same to the last byte; else it is replaced.
    """
    _make_ours(part / FILES)
    manifest = manifest_of(part / FILES)
    write_manifest(part / MANIFEST, manifest)
    _sync(part)
    while True:  # another turn only when another gateway published in between
        try:
            part.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            sync_one(place.parent)
            return
        if _is_same(place, manifest) if fresh else is_complete(place):
            return
        _set_aside(place)


def remove_leftovers(cache_dir: Path) -> None:
    """Remove what nobody uses: every `.part` whose process is gone, or that is a day old; copies that were
    replaced; and copies that workers had for themselves."""
    for part in cache_dir.glob(f"*/{PART}*"):
        if is_orphaned(part):
            shutil.rmtree(part, ignore_errors=True)
    for old in cache_dir.glob(f"*/{OLD}*"):
        _remove_unused(old, even_used=_age_seconds(old) > OLD_SECONDS)
    for own in cache_dir.glob(f"*/*/{OWN}*"):
        with used_by_nobody(own.parent) as unused:
            if unused:
                shutil.rmtree(own, ignore_errors=True)


def _is_same(place: Path, manifest: Manifest) -> bool:
    # The bytes too: a disk may have changed them since the manifest was written.
    same = read_manifest(place / MANIFEST) == manifest
    return same and _is_ours(place) and not any(differences(place / FILES, manifest))


def _is_ours(place: Path) -> bool:
    """Whether nobody else owns or may write any of it: else it would be refused at a start from the cache."""
    return not any(
        wrong_with(os.lstat(os.path.join(folder, name)))
        for folder, folders, names in os.walk(place)
        for name in (*folders, *names)
    )


def _set_aside(place: Path) -> None:
    """Make room. Where a gateway loads from it, it is removed later."""
    with suppress(FileNotFoundError):  # another gateway was faster
        old = renamed_aside(place)
        os.utime(old)
        _remove_unused(old)


def _remove_unused(old: Path, *, even_used: bool = False) -> None:
    with used_by_nobody(old) as unused:
        if unused or even_used:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def used_by_nobody(place: Path) -> Iterator[bool]:
    """Whether no gateway uses `place`; then none begins to until the block ends."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def renamed_aside(place: Path) -> Path:
    """Where the copy is now, which was at `place`. Raises OSError."""
    old = place.with_name(f"{OLD}{place.name}-{secrets.token_hex(4)}")
    return place.rename(old)


def _make_ours(files: Path) -> None:
    """Take every right from others, and that to write from us: versions are to leave what is published."""
    for folder, _, names in os.walk(files):
        os.chmod(folder, 0o700)
        for name in names:
            path = Path(folder, name)
            path.chmod(0o400 | path.stat().st_mode & 0o100)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _place() -> str:
    """Names this boot and process namespace: only within one do process ids say who is alive."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]


def _sync(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            sync_one(Path(folder, name))
        sync_one(Path(folder))


def sync_one(path: Path) -> None:
    """A file, or the names in a directory, safe on disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
