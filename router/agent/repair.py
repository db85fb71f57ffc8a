"""A copy of which files changed: what is as it was published is taken over, and only the rest fetched."""

import os
import shutil
from pathlib import Path

from router.agent.manifest import FILES, MANIFEST, MODEL_FILE, is_as_published, read_manifest


def changed_files(place: Path) -> list[str] | None:
    """Names of the files that are not as they were published, sorted; None where no manifest says how.

    Reads them all. Where nothing changed, the manifest's time is set, so that the next look needs not.
    """
    manifest = read_manifest(place / MANIFEST)
    if manifest is None or MODEL_FILE not in manifest:
        return None
    changed = sorted(name for name in manifest if not is_as_published(place / FILES / name, manifest[name]))
    if not changed:
        os.utime(place / MANIFEST)
    return changed


def take_over(place: Path, changed: list[str], target: Path) -> None:
    """Copy into `target` every published file but those that `changed`. Raises OSError."""
    for name in (read_manifest(place / MANIFEST) or {}).keys() - set(changed):
        into = target / name
        into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(place / FILES / name, into, follow_symlinks=False)
        shutil.copymode(place / FILES / name, into, follow_symlinks=False)
