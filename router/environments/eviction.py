"""Keeps what environments take below its bound.

First the packages that were downloaded for them go, then environments that nobody needs, the one used longest
ago first. Needed is what a gateway uses, which holds a shared lock on its place, and the environment in which
a version was prepared last that a record of last good versions names.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.agent.cache import used_by_nobody
from router.agent.last_known_good import PREFIX, places_named
from router.core.version_environment import FOLDER
from router.environments import store

PACKAGES_NAME = "packages"
"""What stands for the downloaded packages among the names of what was removed."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was done."""

    left_bytes: int
    """Of environments and packages that are left."""
    removed: tuple[str, ...]
    """The first 12 digits of keys, and PACKAGES_NAME."""
    removed_bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    used_at: float
    place: Path
    size: int
    name: str


def evict(cache_dir: Path, bound_bytes: int, *, spare: Path | None = None) -> Swept:
    """Remove what is not needed until all that is left has `bound_bytes` at most, never `spare`."""
    root = cache_dir / FOLDER
    found = sorted(map(_found, store.places_in(root)), key=lambda one: one.used_at)
    packages = root / store.UV / store.PACKAGES
    packages_bytes = store.size_of(packages)
    left_bytes = packages_bytes + sum(one.size for one in found)
    removed: list[tuple[str, int]] = []
    if left_bytes > bound_bytes and packages_bytes and _remove_packages(packages):
        removed.append((PACKAGES_NAME, packages_bytes))
        left_bytes -= packages_bytes
    needed = needed_places(cache_dir) if left_bytes > bound_bytes else set()
    for one in found:
        if left_bytes <= bound_bytes:
            break
        if one.place != spare and one.place not in needed and _remove(cache_dir, one.place):
            left_bytes -= one.size
            removed.append((one.name, one.size))
    return Swept(left_bytes, tuple(name for name, _ in removed), sum(size for _, size in removed))


def needed_places(cache_dir: Path) -> set[Path]:
    """The environments in which last good versions were prepared last."""
    root = cache_dir / FOLDER
    directories = {record.parent for record in cache_dir.glob(f"*/{PREFIX}*.json")}
    copies = (directory / place for directory in directories for place in places_named(directory))
    latest = (store.latest_of(root, store.version_name(copy)) for copy in copies)
    return {place for place in latest if place is not None}


def _found(place: Path) -> _Found:
    used_at = 0.0
    with suppress(OSError):
        used_at = os.lstat(place).st_mtime
    kept = store.read(place)
    if kept is None:  # torn: nothing can use it
        return _Found(0.0, place, store.size_of(place), place.name[:12])
    return _Found(used_at, place, kept.about.size_bytes, kept.about.short)


def _remove(cache_dir: Path, place: Path) -> bool:
    if store.is_in_use(place):
        return False
    with used_by_nobody(place) as unused:
        # Looked up under the lock: who recorded it as last good holds it, or has let go after that.
        if not unused or place in needed_places(cache_dir):
            return False
        try:
            aside = store.set_aside(place)
        except OSError:
            return False
    with suppress(OSError):
        store.discard(aside)
    return True


def _remove_packages(packages: Path) -> bool:
    """Unless an installer is at work: each holds a shared lock on the directory above."""
    with used_by_nobody(packages.parent) as unused:
        if unused:
            store.remove(packages)
        return unused
