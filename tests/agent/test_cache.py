"""One directory per version, complete or absent, whoever else is at work."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.agent.cache import (
    FILES,
    LEFTOVER_SECONDS,
    MANIFEST,
    OLD_SECONDS,
    is_complete,
    model_directory,
    part_of,
    publish,
    remove_leftovers,
)
from router.agent.repair import changed_files
from router.processes.own_copies import OwnCopies


def fill(place: Path, content: str = "flavors: {}") -> Path:
    (place / FILES / "data").mkdir(parents=True)
    (place / FILES / "data" / "weights").write_text(content)
    (place / FILES / "MLmodel").write_text(content)
    return place


def bring(place: Path, content: str, *, fresh: bool = False) -> None:
    """Download and publish a version of this content."""
    with part_of(place.parent, "t") as part:
        (part / FILES).rmdir()
        publish(fill(part, content), place, fresh=fresh)


def writable(path: Path) -> Path:
    """A published file, after somebody gave the right to write back."""
    path.chmod(path.stat().st_mode | 0o200)
    return path


def content_of(place: Path) -> list[str]:
    return [(place / FILES / name).read_text() for name in ("MLmodel", "data/weights")]


def names_in(directory: Path) -> list[str]:
    """Without copies that were set aside, which are removed later."""
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".old-"))


@contextmanager
def used(place: Path) -> Iterator[None]:
    """As by a gateway that loads from it."""
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    yield
    os.close(descriptor)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "7-abc"


def test_a_published_version_is_complete_and_its_part_is_gone(place: Path) -> None:
    bring(place, "flavors: {}")

    assert is_complete(place)
    assert list(place.parent.iterdir()) == [place]


def test_the_manifest_is_not_among_the_files_that_mlflow_reads(place: Path) -> None:
    bring(place, "flavors: {}")

    assert sorted(path.name for path in (place / FILES).iterdir()) == ["MLmodel", "data"]


def test_a_download_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), part_of(tmp_path, "t") as part:
        fill(fill(part))

    assert list(tmp_path.iterdir()) == []


def test_who_is_second_throws_its_copy_away_and_uses_the_winners(place: Path) -> None:
    bring(place, "winner")
    inode = place.stat().st_ino
    bring(place, "loser")

    assert place.stat().st_ino == inode
    assert content_of(place) == ["winner"] * 2
    assert list(place.parent.iterdir()) == [place]


def _lost(place: Path) -> None:
    (place / FILES / "data" / "weights").unlink()


def _cut(place: Path) -> None:
    os.truncate(writable(place / FILES / "data" / "weights"), 2)


def _linked(place: Path) -> None:
    weights = place / FILES / "data" / "weights"
    weights.rename(place / "elsewhere")
    weights.symlink_to(place / "elsewhere")


def _without_manifest(place: Path) -> None:
    (place / MANIFEST).unlink()


def _strange_manifest(place: Path) -> None:
    (place / MANIFEST).write_text('["MLmodel"]')


def _torn_manifest(place: Path) -> None:
    os.truncate(place / MANIFEST, 9)


@pytest.mark.parametrize(
    "damage", [_lost, _cut, _linked, _without_manifest, _strange_manifest, _torn_manifest]
)
def test_a_damaged_version_is_incomplete_and_the_next_download_replaces_it(
    place: Path, damage: Callable[[Path], None]
) -> None:
    bring(place, "damaged")
    damage(place)
    assert not is_complete(place)

    bring(place, "whole")

    assert is_complete(place)
    assert content_of(place) == ["whole"] * 2
    assert names_in(place.parent) == ["7-abc"]


def test_what_a_load_leaves_beside_the_files_is_no_damage(place: Path) -> None:
    """Python writes `__pycache__` beside a version's code."""
    bring(place, "flavors: {}")
    (place / FILES / "__pycache__").mkdir()
    (place / FILES / "__pycache__" / "code.pyc").touch()

    assert is_complete(place)


def test_a_file_whose_name_is_no_text_is_kept_track_of(place: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    with part_of(place.parent, "t") as part:
        (part / FILES / "MLmodel").touch()
        (part / FILES / odd).write_text("x")
        publish(part, place)
    assert is_complete(place)

    (place / FILES / odd).unlink()

    assert not is_complete(place)


def test_a_fresh_download_of_the_same_content_leaves_the_copy_in_its_place(place: Path) -> None:
    """Others use it."""
    bring(place, "same")
    inode = place.stat().st_ino

    bring(place, "same", fresh=True)

    assert place.stat().st_ino == inode
    assert list(place.parent.iterdir()) == [place]


def test_a_fresh_download_of_other_content_replaces_a_copy_that_seems_whole(place: Path) -> None:
    bring(place, "torn!")

    bring(place, "whole", fresh=True)

    assert is_complete(place)
    assert content_of(place) == ["whole"] * 2


def test_a_fresh_download_replaces_bytes_that_the_disk_changed(place: Path) -> None:
    """The manifest still says what was downloaded once, and all sizes are right."""
    bring(place, "whole")
    writable(place / FILES / "data" / "weights").write_text("wh0le")

    bring(place, "whole", fresh=True)

    assert content_of(place) == ["whole"] * 2


def test_who_reads_a_copy_that_is_replaced_keeps_it(place: Path) -> None:
    bring(place, "torn!")
    with (place / FILES / "data" / "weights").open() as weights:
        bring(place, "whole", fresh=True)
        assert weights.read() == "torn!"


def test_a_copy_that_was_replaced_is_removed_after_an_hour(tmp_path: Path) -> None:
    """Counted from its replacement: a copy of last week may have been in use a moment ago."""
    place = model_directory(tmp_path, "sentiment") / "7-abc"
    bring(place, "torn!")
    os.utime(place, (0, 0))
    with used(place):
        bring(place, "whole", fresh=True)
        remove_leftovers(tmp_path)
        (old,) = place.parent.glob(".old-*")
        moment = old.stat().st_mtime - OLD_SECONDS - 60
        os.utime(old, (moment, moment))

        remove_leftovers(tmp_path)

        assert list(place.parent.iterdir()) == [place]


def test_a_copy_that_was_replaced_is_removed_at_once_when_nobody_uses_it(tmp_path: Path) -> None:
    place = model_directory(tmp_path, "sentiment") / "7-abc"
    bring(place, "torn!")
    bring(place, "whole", fresh=True)
    assert list(place.parent.iterdir()) == [place]

    with used(place):
        bring(place, "other", fresh=True)
        assert len(list(place.parent.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(place.parent.iterdir()) == [place]


def test_a_worker_s_own_copy_goes_when_nobody_uses_its_version(tmp_path: Path) -> None:
    """Left by a gateway that was killed."""
    place = model_directory(tmp_path, "sentiment") / "7-abc"
    bring(place, "whole")
    own = OwnCopies().name(str(place / FILES))
    fill(own)
    with used(place):
        remove_leftovers(tmp_path)
        assert own.exists()

    remove_leftovers(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == [FILES, MANIFEST]


def test_published_files_are_read_only_and_what_may_run_still_may(tmp_path: Path) -> None:
    place = tmp_path / "7-abc"
    with part_of(tmp_path, "t") as part:
        for name, mode in (("MLmodel", 0o666), ("tool", 0o775)):
            (part / FILES / name).touch()
            (part / FILES / name).chmod(mode)
        publish(part, place)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (place / FILES).iterdir()}
    assert modes == {"MLmodel": 0o400, "tool": 0o500}


def test_a_file_that_was_written_to_is_seen_though_its_size_is_the_same(place: Path) -> None:
    bring(place, "whole")
    changed = writable(place / FILES / "data" / "weights")
    changed.write_text("wh0le")
    later = time.time() + 1
    os.utime(changed, (later, later))

    assert not is_complete(place)
    assert changed_files(place) == ["data/weights"]


def test_a_file_that_was_only_touched_is_as_it_was_published(place: Path) -> None:
    bring(place, "whole")
    later = time.time() + 0.01
    os.utime(place / FILES / "data" / "weights", (later, later))
    assert not is_complete(place)
    time.sleep(0.02)

    assert changed_files(place) == []
    assert is_complete(place)


def test_many_processes_may_publish_the_same_version(tmp_path: Path) -> None:
    """All end well, one directory stays, and nobody ever sees it without its files."""
    code = (
        "import sys; from pathlib import Path; from router.agent.cache import *\n"
        "root = Path(sys.argv[1])\n"
        "for turn in range(20):\n"
        "    with part_of(root, str(turn)) as part:\n"
        "        (part / FILES / 'MLmodel').write_text('x')\n"
        "        publish(part, root / f'{turn}-abc')\n"
        "    assert is_complete(root / f'{turn}-abc')\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]

    assert [racer.wait(timeout=60) for racer in racers] == [0] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{turn}-abc" for turn in range(20))


def test_parts_of_dead_processes_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    folder = model_directory(tmp_path, "sentiment")
    with part_of(folder, "mine") as mine:
        orphan = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{died.pid}-"))
        fill(orphan)
        elsewhere = folder / ".part-00000000-1-theirs"
        fill(elsewhere)

        remove_leftovers(tmp_path)

        assert mine.exists()
        assert not orphan.exists()
        assert elsewhere.exists()


def test_a_part_of_another_host_is_removed_after_a_day(tmp_path: Path) -> None:
    folder = model_directory(tmp_path, "sentiment")
    old, young = (fill(folder / f".part-00000000-1-{name}") for name in ("old", "young"))
    for part, age_seconds in ((old, LEFTOVER_SECONDS + 60), (young, LEFTOVER_SECONDS - 60)):
        moment = part.stat().st_mtime - age_seconds
        os.utime(part, (moment, moment))

    remove_leftovers(tmp_path)

    assert [path.name for path in folder.iterdir()] == [young.name]


def test_complete_versions_are_never_leftovers(tmp_path: Path) -> None:
    place = model_directory(tmp_path, "sentiment") / "7-abc"
    bring(place, "whole")
    os.utime(place, (0, 0))

    remove_leftovers(tmp_path)

    assert is_complete(place)


def test_a_copy_that_others_can_write_to_is_replaced_by_a_fresh_download(place: Path) -> None:
    """Though it is the same to the last byte: a start without the registry would refuse it."""
    bring(place, "shared")
    (place / FILES / "data").chmod(0o777)

    bring(place, "shared", fresh=True)

    assert (place / FILES / "data").stat().st_mode & 0o777 == 0o700
