"""Keeps the cache below its bound: copies that nobody uses go, the one used longest ago first.

Who uses a copy holds a shared lock on its directory, in whatever gateway; the kernel gives the lock of a dead
process back. Who removes one needs the lock alone, and renames the directory before it lets go.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.agent.cache import model_of, renamed_aside, used_by_nobody
from router.agent.last_known_good import places_named
from router.agent.manifest import MANIFEST, read_manifest

_PLACE = re.compile(r"[0-9]+-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Swept:
    """What was done."""

    cache_bytes: int
    """Size of all copies that are left."""
    removed: tuple[str, ...]
    """`sentiment v7` and so on."""


@dataclass(frozen=True, slots=True)
class _Copy:
    used_at: float
    place: Path
    size: int


def evict(cache_dir: Path, bound_bytes: int, *, spare: Path) -> Swept:
    """Remove copies until all that are left have `bound_bytes` at most, or are in use.

    Never `spare`, nor what a record of last good versions names. What is in `cache_dir` and is no copy of
    ours is neither counted nor touched.
    """
    copies = sorted(_copies(cache_dir), key=lambda copy: copy.used_at)
    left_bytes, removed = sum(copy.size for copy in copies), []
    for copy in copies:
        if left_bytes <= bound_bytes:
            break
        if copy.place != spare and _remove(copy.place):
            left_bytes -= copy.size
            removed.append(_name(copy.place))
    return Swept(left_bytes, tuple(removed))


def _copies(cache_dir: Path) -> Iterator[_Copy]:
    for place in cache_dir.glob("*/*"):
        with suppress(OSError):
            status = os.lstat(place)
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            manifest = read_manifest(place / MANIFEST) if ours and _PLACE.fullmatch(place.name) else None
            if manifest is not None:
                yield _Copy(status.st_mtime, place, sum(size for size, _ in manifest.values()))


def _remove(place: Path) -> bool:
    with used_by_nobody(place) as ours:
        # Looked up under the lock: who recorded it holds it, or has let go after the record was written.
        if not ours or place.name in places_named(place.parent):
            return False
        try:
            old = renamed_aside(place)
        except OSError:
            return False
    shutil.rmtree(old, ignore_errors=True)
    return True


def _name(place: Path) -> str:
    return f"{model_of(place.parent)} v{place.name.partition('-')[0]}"
