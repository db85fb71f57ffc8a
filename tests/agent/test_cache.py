"""One directory per version, complete or absent, whoever else is at work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.agent.cache import (
    LEFTOVER_SECONDS,
    is_complete,
    model_directory,
    part_of,
    publish,
    remove_leftovers,
)


def fill(directory: Path, content: str = "flavors: {}") -> Path:
    (directory / "data").mkdir(parents=True)
    (directory / "data" / "weights").write_text(content)
    (directory / "MLmodel").write_text(content)
    return directory


def test_a_published_version_is_complete_and_its_part_is_gone(tmp_path: Path) -> None:
    with part_of(tmp_path, "t") as part:
        fill(part)
        publish(part, tmp_path / "7-abc")

    assert is_complete(tmp_path / "7-abc")
    assert [path.name for path in tmp_path.iterdir()] == ["7-abc"]


def test_a_download_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), part_of(tmp_path, "t") as part:
        fill(fill(part))

    assert list(tmp_path.iterdir()) == []


def test_who_is_second_throws_its_copy_away_and_uses_the_winners(tmp_path: Path) -> None:
    place = tmp_path / "7-abc"
    with part_of(tmp_path, "one") as first, part_of(tmp_path, "two") as second:
        publish(fill(first, "winner"), place)
        inode = place.stat().st_ino
        publish(fill(second, "loser"), place)

    assert place.stat().st_ino == inode
    assert (place / "MLmodel").read_text() == "winner"
    assert [path.name for path in tmp_path.iterdir()] == ["7-abc"]


def test_a_damaged_version_is_replaced(tmp_path: Path) -> None:
    place = fill(tmp_path / "7-abc", "damaged")
    (place / "MLmodel").unlink()

    with part_of(tmp_path, "t") as part:
        publish(fill(part, "whole"), place)

    assert (place / "MLmodel").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["7-abc"]


def test_many_processes_may_publish_the_same_version(tmp_path: Path) -> None:
    """All end well, one directory stays, and nobody ever sees it without its files."""
    code = (
        "import sys; from pathlib import Path; from router.agent.cache import *\n"
        "root = Path(sys.argv[1])\n"
        "for turn in range(20):\n"
        "    with part_of(root, str(turn)) as part:\n"
        "        (part / 'MLmodel').write_text('x')\n"
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
    place = fill(model_directory(tmp_path, "sentiment") / "7-abc")
    os.utime(place, (0, 0))

    remove_leftovers(tmp_path)

    assert is_complete(place)


@pytest.mark.parametrize(
    "model", ["sentiment", "..", ".", ".part-x", "a b", "ünï", "a%2Fb", "a\\b", "x" * 300, "é" * 200]
)
def test_every_model_has_a_directory_of_its_own_inside_the_cache(tmp_path: Path, model: str) -> None:
    directory = model_directory(tmp_path / "cache", model)

    assert directory.parent == tmp_path / "cache"
    assert directory.resolve().parent == (tmp_path / "cache").resolve()
    assert not directory.name.startswith(".")
    assert directory.stat().st_mode & 0o777 == 0o700


def test_long_names_that_begin_alike_do_not_share_a_directory(tmp_path: Path) -> None:
    assert model_directory(tmp_path, "x" * 300) != model_directory(tmp_path, "x" * 301)
