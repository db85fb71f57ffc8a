"""Environments on disk: one directory each, whole or absent, shared by versions and by gateways.

The place of an environment is named by the beginning of its key. It holds the virtual environment `venv`,
`about.json`, the manifest `files.json`, and in `versions` an empty file for each version that was prepared in
it, whose time is that of the last preparation. Who uses an environment holds a shared lock on its place; see
`eviction`. One that is replaced or removed is renamed first, so that nothing half built or half removed is
ever found.
"""

import json
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from router.agent.cache import PART, is_orphaned, model_of, trust_directory, used_by_nobody
from router.agent.errors import DirectoryRefused
from router.agent.manifest import plain_file, wrong_with
from router.core.redaction import redact_line
from router.core.version_environment import FOLDER, VersionEnvironment
from router.environments.integrity import Manifest, differences, read_manifest, walk, with_moved
from router.environments.pins import Pins

UV = ".uv"
"""In FOLDER, what the installer keeps for itself: its package cache, and directories while it runs."""
PACKAGES = "cache"
VENV = "venv"
ABOUT = "about.json"
MANIFEST = "files.json"
VERSIONS = "versions"
REPLACED = ".replaced-"
"""An environment that has left its place. Its directory stays while a gateway, which still uses the one that
is now there, holds the lock that it took on this one."""

_FORMAT = 1
_KEY_DIGITS = 32
_MOST_NAMED = 3
_BETWEEN = "@"
"""Between a model's directory and a version's place: model_directory escapes it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An environment that is here, whole."""

    place: Path
    about: VersionEnvironment
    pins: Pins
    """What was installed."""
    gateway: str
    """Version of the gateway that built it."""
    mended: str = ""
    """A sentence, where files had been added since, which are removed now."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """What lies at an environment's place is not as it was built, and can not be put right."""

    why: str
    """Names what differs, and the versions that used it."""


def open_root(cache_dir: Path) -> Path:
    """The directory of this cache's environments; made for us alone. Raises DirectoryRefused, OSError."""
    for directory in (cache_dir, cache_dir / FOLDER, cache_dir / FOLDER / UV):
        with suppress(FileExistsError):  # a file or a link that leads nowhere: refused below
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        trust_directory(directory)
    return cache_dir / FOLDER


def place_of(root: Path, key: str) -> Path:
    """Where the environment of this key lies, or will lie."""
    return root / key[:_KEY_DIGITS]


def places_in(root: Path) -> list[Path]:
    """All places below `root`, in no order."""
    hexadecimal = set("0123456789abcdef")
    return [
        place
        for place in root.glob("[0-9a-f]*")
        if len(place.name) == _KEY_DIGITS and hexadecimal.issuperset(place.name)
    ]


def read(place: Path) -> Kept | None:
    """What `about.json` says of the environment at `place`, none of whose files are looked at; None where
    it is torn, or of another one."""
    path = place / ABOUT
    try:
        if (status := plain_file(path)) is None or wrong_with(status):
            return None
        document = json.loads(path.read_bytes())
        fields = document["about"]
        about = VersionEnvironment(**{**fields, "differences": tuple(fields["differences"])})
        if document["format"] != _FORMAT or place_of(place.parent, about.key) != place:
            return None
        about = replace(about, interpreter=str(place / VENV / "bin" / "python"))
        return Kept(place, about, Pins(str(document["pins"]), ""), str(document["gateway"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find(root: Path, key: str) -> Kept | Damaged | None:
    """The environment of `key`, after each of its files was looked at; None where there is none. Files that
    were added since it was built are removed. Takes as long as `integrity.differences`.
    """
    place = place_of(root, key)
    if not os.path.lexists(place):
        return None
    try:
        trust_directory(place)
    except DirectoryRefused as error:
        return Damaged(str(error))
    kept, manifest = read(place), read_manifest(place / MANIFEST)
    if kept is None or kept.about.key != key or manifest is None:
        return Damaged(f"the environment {key[:12]} is torn; {used_by(place)}")
    found = differences(place / VENV, manifest)
    if found.changed:
        return Damaged(_sentence(kept, found.changed, "changed since it was built"))
    if found.moved:
        with suppress(OSError):  # a full disk: they are read at the next use again
            _replace(place / MANIFEST, with_moved(manifest, found.moved))
    for name in found.added:
        _remove_added(place / VENV / name)
    if not found.added:
        return kept
    return replace(kept, mended=_sentence(kept, found.added, "had been added and was removed"))


def write(place: Path, about: VersionEnvironment, pins: Pins, gateway: str, manifest: Manifest) -> None:
    """Write the two files that make it an environment; whoever publishes it syncs them. Raises OSError."""
    document = {"format": _FORMAT, "about": asdict(about), "pins": pins.text, "gateway": gateway}
    # Not orjson, which refuses the surrogates that stand for a file name that is no text.
    for name, content in ((MANIFEST, manifest), (ABOUT, document)):
        _replace(place / name, content)


def _replace(path: Path, content: object) -> None:
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        beside.write_text(json.dumps(content))
        beside.chmod(0o400)
        beside.rename(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def note_use(place: Path, files: Path) -> None:
    """Record that the version whose `files` are there was prepared in this environment."""
    with suppress(OSError):  # a full disk: it is used all the same
        (place / VERSIONS).mkdir(mode=0o700, exist_ok=True)
        (place / VERSIONS / version_name(files.parent)).touch(mode=0o600)
        os.utime(place)


def version_name(copy: Path) -> str:
    """Of the file that stands for a version, from the place of its copy in the cache."""
    return f"{copy.parent.name}{_BETWEEN}{copy.name}"


def latest_of(root: Path, pattern: str) -> Path | None:
    """Place of the environment in which the version was prepared last whose `version_name` is `pattern`, as
    `glob` has it; None where there is none any more."""
    noted = []
    for note in root.glob(f"*/{VERSIONS}/{pattern}"):
        with suppress(OSError):
            noted.append((note.stat().st_mtime_ns, note.parent.parent))
    places = set(places_in(root))
    return max(((when, place) for when, place in noted if place in places), default=(0, None))[1]


def versions_of(place: Path) -> list[str]:
    """`fraud v7` and so on: those that were prepared in it, the last one first."""
    noted = []
    with suppress(OSError):
        for note in os.scandir(place / VERSIONS):
            directory, _, copy = note.name.partition(_BETWEEN)
            version = f"{model_of(Path(directory))} v{copy.partition('-')[0]}"
            noted.append((-note.stat().st_mtime_ns, version))
    return list(dict.fromkeys(version for _, version in sorted(noted)))


def used_by(place: Path) -> str:
    """A clause that names the versions that used it."""
    versions = versions_of(place)
    return f"it was used by {_some(versions)}" if versions else "no version used it"


def set_aside(place: Path) -> Path:
    """Take what lies there out of its place. Where it is now; `discard` removes it. Raises OSError.

    Processes that run in it go on: what they have loaded stays, and the next environment at this place holds
    the same files.
    """
    return place.rename(place.with_name(f"{REPLACED}{place.name}-{secrets.token_hex(4)}"))


def discard(aside: Path) -> None:
    """Remove what was `set_aside`; its directory stays as long as a gateway has locked it."""
    if not stat.S_ISDIR(os.lstat(aside).st_mode):  # where a link leads is not ours
        aside.unlink()
        return
    remove(aside / VENV)
    with used_by_nobody(aside) as unused:
        if unused:
            remove(aside)


def carry_versions(place: Path, to: Path) -> None:
    """The versions that were noted in the environment at `place` are noted in the one at `to`, too."""
    with suppress(OSError):
        shutil.copytree(place / VERSIONS, to / VERSIONS)


def is_in_use(place: Path) -> bool:
    """Whether a gateway uses it, also one that began before it was built anew."""
    former = place.parent.glob(f"{REPLACED}{place.name}-*")
    return any(_is_locked(directory) for directory in (place, *former))


def remove_leftovers(root: Path) -> None:
    """Remove what was half built by a process that is gone, and what was replaced and nobody uses."""
    for part in root.glob(f"{PART}*"):
        if is_orphaned(part):
            remove(part)
    for aside in root.glob(f"{REPLACED}*"):
        with suppress(OSError):
            discard(aside)


def remove(directory: Path) -> None:
    """Remove a tree, also where it is read-only, as far as that is possible."""
    for folder, _, _ in os.walk(directory):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(directory, ignore_errors=True)


def size_of(directory: Path) -> int:
    """Bytes of all files below `directory`; 0 where there is none."""
    size = 0
    for _, entries in walk(directory):
        for entry in entries:
            with suppress(OSError):  # the installer removes its own files meanwhile
                size += entry.stat(follow_symlinks=False).st_size
    return size


def _remove_added(path: Path) -> None:
    with suppress(OSError):
        path.parent.chmod(0o700)
        path.unlink()
        path.parent.chmod(0o500)


def _sentence(kept: Kept, names: list[str], what: str) -> str:
    return f"{_some(names)} of the environment {kept.about.short} {what}; {used_by(kept.place)}"


def _some(names: list[str]) -> str:
    # Of files that a version may have written: a name can be of any bytes.
    shown = ", ".join(redact_line(name) for name in names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _is_locked(directory: Path) -> bool:
    with used_by_nobody(directory) as unused:
        return not unused and os.path.lexists(directory)
