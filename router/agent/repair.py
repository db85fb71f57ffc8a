"""A copy of which files changed: what is as it was published is taken over, and only the rest fetched."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from router.agent.manifest import FILES, MANIFEST, MODEL_FILE, differences, read_manifest


def changed_files(place: Path) -> list[str] | None:
    """Names of the files that are not as they were published, sorted; None where no manifest says how.

    Reads them all. Where nothing changed, the manifest's time is set, so that the next look needs not.
    """
    manifest = read_manifest(place / MANIFEST)
    if manifest is None or MODEL_FILE not in manifest:
        return None
    changed = sorted(differences(place / FILES, manifest))
    if not changed:
        os.utime(place / MANIFEST)
    return changed


def take_over(place: Path, names: Collection[str], target: Path) -> None:
    """Copy the files of these `names` into `target`. Raises OSError."""
    for name in names:
        into = target / name
        into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(place / FILES / name, into, follow_symlinks=False)
        shutil.copymode(place / FILES / name, into, follow_symlinks=False)
