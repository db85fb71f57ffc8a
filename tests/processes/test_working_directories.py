"""Directories that workers stand in: private, short, and gone with their gateway, however that ends."""

import os
from pathlib import Path

import pytest

from router.processes.working_directories import WorkingDirectories
from router.settings import RegistrySettings


async def test_what_a_killed_gateway_left_goes_at_the_next_start_and_a_living_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    living, dead = WorkingDirectories(tmp_path), WorkingDirectories(tmp_path)
    kept, left = living.make().root, dead.make().root
    (left / "file").write_text("left")
    assert dead._mine
    os.close(dead._mine[1])  # as the kernel does when a process is killed

    starting = WorkingDirectories(tmp_path)
    starting.start()
    own = starting.make().root
    await starting.close()

    assert kept.exists()
    assert not left.parent.exists()
    assert not own.parent.exists()
    await living.close()
    assert not kept.parent.exists()


async def test_each_is_new_and_empty_and_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        directories = WorkingDirectories(tmp_path / "cache")
        shared = directories.shared_temporary()
        made = [directories.make() for _ in range(3)]
    finally:
        os.umask(before)

    assert len(set(made)) == 3
    private = [path for one in made for path in (one.root, one.working, one.temporary)]
    for directory in (shared, *private, *list(made[0].root.parents)[:3]):
        assert directory.stat().st_mode & 0o777 == 0o700
    await directories.close()


async def test_what_a_version_locked_away_is_removed_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    directories = WorkingDirectories(tmp_path / "cache")
    made = directories.make()
    directory = made.root
    (directory / "deep" / "deeper").mkdir(parents=True)
    (directory / "deep" / "link").symlink_to(outside)
    (directory / "deep").chmod(0)
    directory.chmod(0o500)
    directories.remove(made)
    await directories.close()

    assert not directory.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


async def test_a_root_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".w").mkdir()
    (tmp_path / ".w").chmod(0o777)

    with pytest.raises(PermissionError, match="this user alone"):
        WorkingDirectories(tmp_path).make()


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        ({}, {"XDG_CACHE_HOME": "/home/somebody/.cache"}),
        ({"cache_dir": "/var/cache/canary-router"}, {}),
    ],
)
def test_their_paths_are_short_enough_for_names_of_sockets(
    settings: dict[str, str], environ: dict[str, str]
) -> None:
    places = RegistrySettings(**settings).places(environ)
    longest = places.working_directories / ".w" / "ffff" / "ffff" / "t"

    assert len(str(longest)) <= 50


async def test_a_shorter_place_is_taken_only_where_the_cache_is_too_deep_and_it_is_short(
    tmp_path: Path,
) -> None:
    deep = tmp_path / ("deep" * 20)
    for parent, shorter, taken in (
        (deep, Path("/tmp/cr-x"), Path("/tmp/cr-x")),
        (deep, tmp_path / ("other" * 20), deep / ".w"),
        (Path("/tmp/cr-y"), Path("/tmp/cr-x"), Path("/tmp/cr-y/.w")),
    ):
        directories = WorkingDirectories(parent, shorter)
        made = directories.make()
        await directories.close()

        assert made.root.parent.parent == taken
    for left in (Path("/tmp/cr-x"), Path("/tmp/cr-y/.w"), Path("/tmp/cr-y")):
        left.rmdir()


async def test_a_shorter_place_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    shorter = Path("/tmp/cr-z")
    shorter.mkdir(mode=0o777)
    shorter.chmod(0o777)
    directories = WorkingDirectories(tmp_path / ("deep" * 20), shorter)
    try:
        made = directories.make()
        await directories.close()
    finally:
        shorter.rmdir()

    assert made.root.is_relative_to(tmp_path)
