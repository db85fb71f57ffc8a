"""The cache on disk: one directory per version, complete or absent, shared safely by several gateways.

A download goes into a `.part-…` beside its place and is renamed when it is whole. Nothing else is a lock:
two gateways may download the same version, and whoever is second throws its copy away.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

MODEL_FILE = "MLmodel"
PART = ".part-"
LEFTOVER_SECONDS = 24 * 3600.0
"""A `.part` of another host that is older than this belongs to nobody."""
_NAME_BYTES = 180


class DirectoryRefused(Exception):
    """The cache directory cannot be trusted or used."""


def model_directory(cache_dir: Path, model: str) -> Path:
    """Where the versions of `model` lie; made for us alone. Raises DirectoryRefused when another owns it."""
    name = quote(model, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _NAME_BYTES:
        name = f"{name[:_NAME_BYTES]}-{sha256(model.encode()).hexdigest()[:12]}"
    directory = cache_dir / name
    # 0700: whoever can write here can run code in a worker.
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.geteuid():
        raise DirectoryRefused(f"{directory} belongs to another user")
    return directory


def place_of(cache_dir: Path, model: str, number: int, fingerprint: str) -> Path:
    """Where this version lies, or will lie. Raises as `model_directory` does."""
    return model_directory(cache_dir, model) / f"{number}-{fingerprint}"


def is_complete(directory: Path) -> bool:
    """Whether a version lies there whole; parts are renamed only when they are."""
    return (directory / MODEL_FILE).is_file()


@contextmanager
def part_of(directory: Path, token: str) -> Iterator[Path]:
    """A new directory to download into; gone afterwards unless it was published."""
    part = directory / f"{PART}{_place()}-{os.getpid()}-{token}"
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def publish(part: Path, place: Path) -> None:
    """Make the whole `part` the version at `place`, safe on disk; where one already is, that one stays."""
    _sync(part)
    try:
        part.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if is_complete(place):
            return
        # Someone removed files from it. A leftover by its name, whatever happens to us in between.
        damaged = part.with_name(f"{part.name}-damaged")
        place.rename(damaged)
        part.rename(place)
        shutil.rmtree(damaged, ignore_errors=True)
    _sync_one(place.parent)


def remove_leftovers(cache_dir: Path) -> None:
    """Remove every `.part` whose process is gone, or that is a day old."""
    mine = f"{PART}{_place()}-"
    for part in cache_dir.glob(f"*/{PART}*"):
        try:
            age_seconds = time.time() - part.stat().st_mtime
        except FileNotFoundError:
            continue
        owner = part.name.removeprefix(mine).partition("-")[0] if part.name.startswith(mine) else ""
        orphaned = owner.isdecimal() and not Path("/proc", owner).exists()
        if orphaned or age_seconds > LEFTOVER_SECONDS:
            shutil.rmtree(part, ignore_errors=True)


def _place() -> str:
    """Names this boot and process namespace: only within one do process ids tell who is alive."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]


def _sync(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync_one(Path(folder, name))
        _sync_one(Path(folder))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
