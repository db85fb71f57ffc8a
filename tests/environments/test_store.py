"""An environment is found as it was built, or not at all; what lies there is named, and never believed."""

import errno
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from router.agent.cache import part_name
from router.core.version_environment import FOLDER
from router.environments import store
from router.environments.pins import Pins
from router.protocol.frames import encode_frame
from tests.support.environments import FINGERPRINT, make_environment

KEY = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def kept(cache: Path) -> store.Kept:
    return make_environment(cache, KEY, {"lib/one.py": "x = 1\n", "lib/deep/two.py": "y = 2\n"}, "one==1.0")


def root_of(cache: Path) -> Path:
    return cache / FOLDER


def damage(cache: Path) -> str:
    found = store.find(root_of(cache), KEY)
    assert isinstance(found, store.Damaged), found
    return found.why


def write_over(path: Path, text: str) -> None:
    """As a version may that owns the file, and root anyway."""
    path.chmod(0o600)
    path.write_text(text)


def test_what_was_built_is_found_with_all_that_was_recorded(cache: Path, kept: store.Kept) -> None:
    assert store.find(root_of(cache), KEY) == kept
    assert kept.about.key == KEY
    assert kept.about.size_bytes == 12
    assert kept.about.interpreter == str(root_of(cache) / KEY[:32] / "venv" / "bin" / "python")
    assert kept.pins == Pins("one==1.0", "")
    assert store.find(root_of(cache), "b" * 64) is None


def test_an_environment_is_read_only_and_of_this_user_alone(kept: store.Kept) -> None:
    venv = kept.place / store.VENV
    modes = {str(path.relative_to(venv)): path.stat().st_mode & 0o777 for path in venv.rglob("*")}

    assert modes == {"lib": 0o500, "lib/one.py": 0o400, "lib/deep": 0o500, "lib/deep/two.py": 0o400}
    assert [path.stat().st_mode & 0o777 for path in (kept.place, root_of(kept.place.parent.parent))] == [
        0o700,
        0o700,
    ]


def test_a_changed_file_is_named_with_the_versions_that_used_the_environment(
    cache: Path, kept: store.Kept
) -> None:
    for number in range(1, 6):
        store.note_use(kept.place, cache / "fraud" / f"{number}-{FINGERPRINT}" / "files")
        note = kept.place / store.VERSIONS / f"fraud@{number}-{FINGERPRINT}"
        os.utime(note, (number, number))
    write_over(kept.place / "venv/lib/one.py", "x = 2\n")

    assert damage(cache) == (
        "lib/one.py of the environment aaaaaaaaaaaa changed since it was built;"
        " it was used by fraud v5, fraud v4, fraud v3 and 2 more"
    )


def test_a_file_of_equal_size_with_its_old_time_set_back_in_another_file_s_place_is_found(
    cache: Path, kept: store.Kept
) -> None:
    """By its inode."""
    one = kept.place / "venv/lib/one.py"
    before = one.stat()
    one.parent.chmod(0o700)
    one.rename(one.with_name("aside"))
    one.write_text("x = 9\n")
    one.chmod(0o400)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    one.with_name("aside").unlink()
    (kept.place / "filler").touch()  # takes the inode that was given back, should the disk do so

    if one.stat().st_ino == before.st_ino:
        pytest.skip("this file system gave the new file the old one's number")
    assert damage(cache).startswith("lib/one.py of ")


def test_one_that_was_copied_to_another_place_is_the_same_to_the_last_byte(
    cache: Path, kept: store.Kept, tmp_path: Path
) -> None:
    """As an image's layers are unpacked, or a cache is filled on a machine that reaches an index."""
    shutil.copytree(cache, tmp_path / "copy", symlinks=True)
    copy = root_of(tmp_path / "copy")
    for path in (copy / KEY[:32] / store.VENV).rglob("*"):
        os.utime(path, (0, 0))
    before = (copy / KEY[:32] / store.MANIFEST).read_bytes()

    found = store.find(copy, KEY)

    assert isinstance(found, store.Kept)
    assert found.mended == ""
    assert (copy / KEY[:32] / store.MANIFEST).read_bytes() != before  # at the next use none is read
    assert store.find(copy, KEY) == found


def test_a_link_that_leads_elsewhere_is_a_change(cache: Path, kept: store.Kept, tmp_path: Path) -> None:
    venv = kept.place / store.VENV
    for folder in (venv, venv / "lib"):
        folder.chmod(0o700)
    (venv / "lib/one.py").rename(tmp_path / "one.py")
    (venv / "lib/one.py").symlink_to("/" + "x" * 5)  # of the same size

    assert damage(cache).startswith("lib/one.py of ")


def test_a_missing_file_and_one_that_others_may_write_are_changes(cache: Path, kept: store.Kept) -> None:
    venv = kept.place / "venv"
    (venv / "lib").chmod(0o700)
    (venv / "lib/one.py").unlink()
    (venv / "lib/deep/two.py").chmod(0o422)

    assert damage(cache).startswith("lib/deep/two.py, lib/one.py of ")


def test_files_that_were_added_are_removed_and_the_environment_is_as_it_was(
    cache: Path, kept: store.Kept
) -> None:
    """Such as what a library compiles beside itself, where it may: another version would run it."""
    deep = kept.place / "venv/lib/deep"
    deep.chmod(0o700)
    (deep / "extra.nbi").write_text("")
    (deep / "link").symlink_to("/etc/passwd")

    found = store.find(root_of(cache), KEY)

    assert isinstance(found, store.Kept)
    names = "lib/deep/extra.nbi, lib/deep/link"
    assert found.mended.startswith(f"{names} of the environment aaaaaaaaaaaa had been added")
    assert [path.name for path in deep.iterdir()] == ["two.py"]
    assert store.find(root_of(cache), KEY) == kept


def test_a_name_that_is_no_text_can_be_said_to_the_gateway(cache: Path, kept: store.Kept) -> None:
    lib = kept.place / "venv/lib"
    lib.chmod(0o700)
    (lib / os.fsdecode(b"\xff\nx")).write_text("")

    found = store.find(root_of(cache), KEY)

    assert isinstance(found, store.Kept)
    assert found.mended.startswith("lib/? x of the environment aaaaaaaaaaaa had been added")
    assert encode_frame({"rebuilt": found.mended})


@pytest.mark.parametrize("name", [store.ABOUT, store.MANIFEST])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"null", b"\xff"])
def test_a_torn_record_makes_it_an_environment_no_more(
    cache: Path, kept: store.Kept, name: str, content: bytes
) -> None:
    (kept.place / name).chmod(0o600)
    (kept.place / name).write_bytes(content)

    assert damage(cache) == "the environment aaaaaaaaaaaa is torn; no version used it"


def test_an_environment_under_another_key_is_not_believed(cache: Path, kept: store.Kept) -> None:
    kept.place.rename(store.place_of(root_of(cache), "c" * 64))

    assert isinstance(store.find(root_of(cache), "c" * 64), store.Damaged)


@pytest.mark.parametrize("name", ["", store.ABOUT, store.MANIFEST])
def test_what_others_may_write_is_not_believed(cache: Path, kept: store.Kept, name: str) -> None:
    (kept.place / name).chmod(0o720)

    assert damage(cache)


def test_a_link_in_an_environment_s_place_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "else" / "venv").mkdir(parents=True)
    place = store.place_of(store.open_root(cache), KEY)
    place.symlink_to(tmp_path / "else")

    assert "symbolic link" in damage(cache)
    store.discard(store.set_aside(place))
    assert (tmp_path / "else" / "venv").is_dir()
    assert store.find(root_of(cache), KEY) is None


def test_20_000_files_are_looked_at_within_0_2_seconds(cache: Path, slack: float) -> None:
    """Of a processor; a quarter of them here in a quarter of that."""
    files = {f"lib/{number // 20}/{number}.py": "" for number in range(5_000)}
    make_environment(cache, KEY, files)

    took = []
    for _ in range(3):
        began = time.process_time()
        assert isinstance(store.find(root_of(cache), KEY), store.Kept)
        took.append(time.process_time() - began)

    assert min(took) < 0.05 * slack


def test_a_full_disk_leaves_nothing_beside_what_could_not_be_written(
    cache: Path, kept: store.Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an environment that was copied the record is renewed; without room it is found all the same."""
    for file in (kept.place / store.VENV).rglob("*.py"):
        os.utime(file, (0, 0))

    def full(path: Path, _mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(Path, "chmod", full)

    assert isinstance(store.find(root_of(cache), KEY), store.Kept)
    assert sorted(os.listdir(kept.place)) == [store.ABOUT, store.MANIFEST, store.VENV]


def test_what_a_killed_process_left_goes_and_what_a_living_one_builds_stays(cache: Path) -> None:
    root = store.open_root(cache)
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [part_name("0" * 16), part_name("1" * 16)]
    parts = [root / names[0], root / names[1].replace(f"-{os.getpid()}-", f"-{ended.pid}-")]
    for part in parts:
        (part / "venv").mkdir(parents=True)
        (part / "venv").chmod(0o500)

    store.remove_leftovers(root)

    assert [part.exists() for part in parts] == [True, False]


def test_the_latest_environment_of_a_version_is_the_one_it_was_prepared_in_last(cache: Path) -> None:
    files = cache / "fraud" / f"7-{FINGERPRINT}" / "files"
    old, new = (make_environment(cache, digit * 64) for digit in "ab")
    for kept in (new, old):
        store.note_use(kept.place, files)
        time.sleep(0.01)
    os.utime(new.place / store.VERSIONS / f"fraud@7-{FINGERPRINT}")

    assert store.latest_of(root_of(cache), store.version_name(files.parent)) == new.place
    store.discard(store.set_aside(new.place))
    assert store.latest_of(root_of(cache), store.version_name(files.parent)) == old.place
    assert store.latest_of(root_of(cache), "fraud@8-*") is None


def test_a_file_name_that_is_no_text_is_recorded_too(cache: Path) -> None:
    name = os.fsdecode(b"lib/\xff.py")

    kept = make_environment(cache, KEY, {name: "x = 1\n"})

    assert json.loads((kept.place / store.MANIFEST).read_bytes())["lib"].keys() == {os.path.basename(name)}
