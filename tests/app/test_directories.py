"""The gateway's own directories, whatever user it runs as."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.app.directories import own_directories
from router.errors import ConfigRefused
from router.settings import RegistrySettings
from router.settings.gateway import RegistryPlaces

SOMEBODY = 1_000_680_000


def named(directory: Path) -> RegistryPlaces:
    """As by `registry.cache_dir`."""
    return RegistrySettings(cache_dir=str(directory)).places({})


def by_default(directory: Path) -> RegistryPlaces:
    return RegistrySettings().places({"XDG_CACHE_HOME": str(directory)})


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.parametrize("places_of", [named, by_default])
@pytest.mark.usefixtures("umask")
def test_a_directory_that_is_not_there_is_made_for_this_user_alone(
    tmp_path: Path, places_of: Callable[[Path], RegistryPlaces]
) -> None:
    places = places_of(tmp_path / "deep" / "down")
    own = own_directories(places)

    assert own == places
    assert {mode(path) for path in (own.cache_dir, own.working_directories)} == {0o700}
    assert own_directories(places) == own


@pytest.mark.parametrize("places_of", [named, by_default])
def test_in_a_directory_of_somebody_else_it_makes_its_own_named_by_its_user_id(
    tmp_path: Path, places_of: Callable[[Path], RegistryPlaces], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_of(tmp_path)
    places.working_directories.mkdir(exist_ok=True)
    places.working_directories.chmod(0o770)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    own = own_directories(places)

    below = places.working_directories / str(SOMEBODY)
    assert own.working_directories == below
    assert own.cache_dir == below / places.cache_dir.relative_to(places.working_directories)
    assert {mode(path) for path in (own.cache_dir, below)} == {0o700}


def test_in_a_named_directory_of_ours_that_others_can_write_to_it_makes_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    (tmp_path / "somebody's").touch()

    assert own_directories(named(tmp_path)).cache_dir == tmp_path / str(os.geteuid())
    assert (tmp_path / "somebody's").exists()


def test_a_cache_of_ours_in_a_directory_of_ours_that_others_can_write_to_stays(tmp_path: Path) -> None:
    """As a umask of 002 made it, before the gateway had one of its own."""
    places = by_default(tmp_path)
    (places.cache_dir / "sentiment").mkdir(parents=True)
    places.cache_dir.chmod(0o700)
    places.working_directories.chmod(0o775)

    assert own_directories(places) == places
    assert (places.cache_dir / "sentiment").exists()


def test_a_cache_of_ours_that_a_volume_opened_for_its_group_is_emptied_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Kubernetes does to a whole volume with fsGroup, at each mount."""
    tmp_path.chmod(0o770)
    own = own_directories(named(tmp_path)).cache_dir
    for directory in (own, own / "sentiment", own / ".w"):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o2770)

    with caplog.at_level(logging.WARNING):
        assert own_directories(named(tmp_path)).cache_dir == own
    assert list(own.iterdir()) == []
    assert mode(own) == 0o700
    assert "fsGroupChangePolicy" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [own.name]


def test_working_directories_that_a_volume_opened_for_its_group_are_closed_again(tmp_path: Path) -> None:
    places = by_default(tmp_path)
    root = own_directories(places).working_directories / ".w"
    root.mkdir()
    root.chmod(0o2770)

    own_directories(places)
    assert mode(root) & 0o077 == 0


def _file(tmp_path: Path) -> Path:
    (tmp_path / "cache").touch()
    return tmp_path / "cache"


def _below_a_file(tmp_path: Path) -> Path:
    return _file(tmp_path) / "deeper"


def _where_nobody_makes_any(tmp_path: Path) -> Path:
    return Path("/proc/cache")


def _no_link_s_end(tmp_path: Path) -> Path:
    (tmp_path / "cache").symlink_to(tmp_path / "nowhere")
    return tmp_path / "cache"


@pytest.mark.parametrize("place", [_file, _below_a_file, _where_nobody_makes_any, _no_link_s_end])
def test_what_can_not_be_used_is_one_line_with_directory_reason_and_key(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    directory = place(tmp_path)
    with pytest.raises(ConfigRefused) as refused:
        own_directories(named(directory))

    [problem] = refused.value.problems
    assert problem.startswith(str(directory))
    assert f"can not be used by user {os.geteuid()}: " in problem
    assert "registry.cache_dir" in problem


def test_a_user_without_a_home_directory_reads_what_to_set_or_has_one_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(ConfigRefused, match=r"no home directory.*registry\.cache_dir"):
        RegistrySettings().places({})
    monkeypatch.setenv("HOME", "")
    own_directories(named(tmp_path))
    assert Path(os.environ["HOME"]) == tmp_path / ".home"
    assert RegistrySettings(cache_dir="/c").places({}).cache_dir == Path("/c")
