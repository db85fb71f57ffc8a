"""What served last: recorded whole or not at all, and trusted only when it is the same to the last byte."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from router.agent import last_known_good as last_good
from router.agent.cache import model_directory, part_of, publish
from router.agent.errors import CopyRefused, RecordRefused
from router.agent.last_known_good import identity_of, places_named, read, remember
from router.agent.manifest import FILES, MANIFEST, digest_of_manifest, verified
from tests.agent.test_cache import bring, writable

HERE = identity_of("http://mlflow")
PLACE = "1-0123456789ab"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of the model `m`, with the copies of its versions 1 and 2."""
    directory = model_directory(tmp_path / "cache", "m")
    for number in (1, 2):
        bring(directory / f"{number}-0123456789ab", f"version {number}")
    return directory


def record(directory: Path, *pending: str, **served: int) -> None:
    places = {name: (n, str(directory / f"{n}-0123456789ab" / FILES)) for name, n in served.items()}
    remember(directory.parent, "m", HERE, places, pending)


def recorded(directory: Path) -> dict[str, int]:
    return {name: entry.version for name, entry in read(directory, "m", HERE).items()}


def path_of(directory: Path) -> Path:
    [path] = directory.glob("last-good-*.json")
    return path


def test_what_is_recorded_is_read_again_and_is_ours_alone(directory: Path) -> None:
    record(directory, production=1, canary=2)

    assert recorded(directory) == {"production": 1, "canary": 2}
    assert path_of(directory).stat().st_mode & 0o777 == 0o600
    assert places_named(directory) == {"1-0123456789ab", "2-0123456789ab"}


def test_without_a_record_there_is_nothing(directory: Path) -> None:
    assert recorded(directory) == {}


def test_an_alias_whose_version_is_pending_keeps_its_entry_and_one_that_is_gone_loses_it(
    directory: Path,
) -> None:
    record(directory, production=1, canary=2)
    record(directory, "canary", production=1)
    assert recorded(directory) == {"production": 1, "canary": 2}

    record(directory, production=1)
    assert recorded(directory) == {"production": 1}


def test_what_did_not_change_is_not_written_again(directory: Path) -> None:
    record(directory, production=1)
    before = path_of(directory).stat().st_ino
    record(directory, production=1)

    assert path_of(directory).stat().st_ino == before


def test_a_write_that_fails_leaves_the_former_record(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(directory, production=1)

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(last_good.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        record(directory, production=2)

    assert recorded(directory) == {"production": 1}
    assert [path.name for path in directory.iterdir() if path.name.startswith(".last-good")] == []


def test_a_place_of_another_version_or_model_is_not_recorded(directory: Path) -> None:
    elsewhere = str(directory.parent / "other" / PLACE / FILES)
    for version, files in ((2, str(directory / PLACE / FILES)), (1, elsewhere)):
        with pytest.raises(CopyRefused, match="no place of version"):
            remember(directory.parent, "m", HERE, {"production": (version, files)}, ())


@pytest.mark.parametrize("length", [0, 1, 30, -1])
def test_a_torn_record_is_refused_and_the_next_one_replaces_it(directory: Path, length: int) -> None:
    record(directory, production=1)
    path = path_of(directory)
    os.truncate(path, length % path.stat().st_size)

    with pytest.raises(RecordRefused, match="is torn"):
        recorded(directory)
    record(directory, production=2)
    assert recorded(directory) == {"production": 2}


@pytest.mark.parametrize(
    "entry", [[1, "../other/1-a", "d"], [1, ".old-1", "d"], ["1", PLACE, "d"], [True, PLACE, "d"], [1], 7]
)
def test_an_entry_that_is_not_ours_is_refused(directory: Path, entry: object) -> None:
    record(directory, production=1)
    reported = json.loads(path_of(directory).read_bytes())
    path_of(directory).write_text(json.dumps({**reported, "aliases": {"production": entry}}))

    with pytest.raises(RecordRefused, match="is torn"):
        recorded(directory)


def test_a_record_of_another_registry_or_model_is_refused(directory: Path) -> None:
    """Also when somebody gave it this one's name."""
    record(directory, production=1)
    other = identity_of("http://other")
    assert read(directory, "m", other) == {}
    copied = directory / f"last-good-{other[:16]}.json"
    shutil.copy(path_of(directory), copied)

    with pytest.raises(RecordRefused, match="another registry"):
        read(directory, "m", other)
    copied.unlink()
    with pytest.raises(RecordRefused, match="another model"):
        read(directory, "n", HERE)


def test_a_changed_password_is_no_other_registry_and_a_relative_path_is_no_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert identity_of("postgresql://ada:old@db/mlflow") == identity_of("postgresql://ada:new@db/mlflow")
    assert identity_of("http://mlflow/") == identity_of("http://mlflow") != identity_of("http://mlflow2")
    monkeypatch.chdir(tmp_path)
    here = identity_of("sqlite:///mlflow.db")
    monkeypatch.chdir("/")
    assert here == identity_of(f"sqlite:///{tmp_path}/mlflow.db") != identity_of("sqlite:///mlflow.db")


def _record_others_can_write(directory: Path) -> str:
    path_of(directory).chmod(0o620)
    return "others can write"


def _record_is_a_link(directory: Path) -> str:
    path_of(directory).rename(directory / "elsewhere")
    (directory / f"last-good-{HERE[:16]}.json").symlink_to(directory / "elsewhere")
    return "cannot be opened"


def _record_of_another_user(directory: Path) -> str:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(path_of(directory), 12345, -1)
    return "belongs to user 12345"


@pytest.mark.parametrize("damage", [_record_others_can_write, _record_is_a_link, _record_of_another_user])
def test_a_record_that_others_could_have_written_is_refused(
    directory: Path, damage: Callable[[Path], str]
) -> None:
    record(directory, production=1)
    reported = damage(directory)

    with pytest.raises(RecordRefused, match=reported):
        recorded(directory)


def _other_bytes(place: Path) -> str:
    writable(place / FILES / "data" / "weights").write_text("version 7")
    return "weights is not as it was published"


def _lost(place: Path) -> str:
    (place / FILES / "data" / "weights").unlink()
    return "weights is not as it was published"


def _link(place: Path) -> str:
    path = place / FILES / "MLmodel"
    path.rename(place / "elsewhere")
    path.symlink_to(place / "elsewhere")
    return "MLmodel is a symbolic link"


def _linked_folder(place: Path) -> str:
    (place / FILES / "data").rename(place / "elsewhere")
    (place / FILES / "data").symlink_to(place / "elsewhere")
    return "data is a symbolic link"


def _extra_link(place: Path) -> str:
    (place / FILES / "more").symlink_to("/etc/passwd")
    return "more is a symbolic link"


def _writable(place: Path) -> str:
    (place / FILES / "data").chmod(0o770)
    return "data has mode 0770: others can write to it"


def _foreign(place: Path) -> str:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(place / FILES / "MLmodel", 12345, -1)
    return "MLmodel belongs to user 12345"


def _pipe(place: Path) -> str:
    os.mkfifo(place / FILES / "pipe")
    return "pipe is not a plain file"


def _other_manifest(place: Path) -> str:
    reported = json.loads((place / MANIFEST).read_bytes())
    (place / MANIFEST).write_text(json.dumps(reported, indent=1))
    return "its manifest is not the recorded one"


def _no_manifest(place: Path) -> str:
    (place / MANIFEST).unlink()
    return "manifest.json is missing"


def _gone(place: Path) -> str:
    place.rename(place.with_name("9-0123456789ab"))
    return "1-0123456789ab is missing"


@pytest.mark.parametrize(
    "damage",
    [
        *(_other_bytes, _lost, _link, _linked_folder, _extra_link, _writable, _foreign, _pipe),
        *(_other_manifest, _no_manifest, _gone),
    ],
)
def test_a_copy_that_is_not_what_was_recorded_is_refused_by_name(
    directory: Path, damage: Callable[[Path], str]
) -> None:
    record(directory, production=1)
    entry = read(directory, "m", HERE)["production"]
    reported = damage(directory / PLACE)

    with pytest.raises(CopyRefused, match=reported):
        verified(directory / PLACE, entry.manifest)


def test_a_copy_that_is_as_recorded_is_given_also_with_what_a_load_left_there(directory: Path) -> None:
    record(directory, production=1)
    entry = read(directory, "m", HERE)["production"]
    (directory / PLACE / FILES / "__pycache__").mkdir()
    (directory / PLACE / FILES / "__pycache__" / "m.pyc").touch()
    os.chmod(directory / PLACE / FILES / "__pycache__", 0o755)

    assert verified(directory / PLACE, entry.manifest) == directory / PLACE / FILES


def test_bytecode_that_others_could_have_written_is_removed_and_the_copy_given(directory: Path) -> None:
    """As a load leaves it under the umask that is usual for users: group may write there what is then run."""
    record(directory, production=1)
    entry = read(directory, "m", HERE)["production"]
    files = directory / PLACE / FILES
    before = os.umask(0o002)
    try:
        for folder in (files, files / "data"):
            folder.mkdir(exist_ok=True, mode=0o700)
            (folder / "__pycache__").mkdir()
            (folder / "__pycache__" / "m.pyc").touch()
    finally:
        os.umask(before)

    assert verified(directory / PLACE, entry.manifest) == files
    assert list(files.rglob("__pycache__")) == []


def test_bytecode_that_was_published_stays_and_is_checked(tmp_path: Path) -> None:
    with part_of(tmp_path, "t") as part:
        (part / FILES / "MLmodel").touch()
        (part / FILES / "__pycache__").mkdir()
        (part / FILES / "__pycache__" / "m.pyc").touch()
        publish(part, tmp_path / PLACE)
    digest = digest_of_manifest(tmp_path / PLACE)

    assert verified(tmp_path / PLACE, digest) == tmp_path / PLACE / FILES
    assert (tmp_path / PLACE / FILES / "__pycache__" / "m.pyc").exists()

    os.chmod(tmp_path / PLACE / FILES / "__pycache__", 0o775)
    with pytest.raises(CopyRefused, match="others can write"):
        verified(tmp_path / PLACE, digest)


def test_what_is_published_is_writable_by_us_alone_whatever_its_modes_in_the_store(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        bring(tmp_path / PLACE, "shared")
    finally:
        os.umask(before)

    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / PLACE / FILES).rglob("*")}
    assert modes == {0}
