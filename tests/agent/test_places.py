"""Directories of the cache: one per model, and nobody else can put a version there."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.agent.cache import model_directory, model_of, place_of
from router.agent.errors import DirectoryRefused
from tests.support.examples import examples

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
) | (st.text("aA.~-_=%+ #?;{}3D2E", min_size=1, max_size=50))
"""What a registry may call a model: surrogates cannot be sent, nor NUL stored."""


@pytest.mark.parametrize(
    "model", ["sentiment", "..", ".", ".part-x", "a b", "ünï", "a%2Fb", "a\\b", "x" * 300, "é" * 200]
)
def test_every_model_has_a_directory_of_its_own_inside_the_cache(tmp_path: Path, model: str) -> None:
    directory = model_directory(tmp_path / "cache", model)

    assert directory.parent == tmp_path / "cache"
    assert directory.resolve().parent == (tmp_path / "cache").resolve()
    assert not directory.name.startswith(".")
    assert directory.stat().st_mode & 0o777 == 0o700


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(300), deadline=None
)
@given(model=NAMES, other=NAMES)
def test_a_directory_is_read_alike_as_a_path_and_as_a_uri_and_reports_its_model(
    tmp_path: Path, model: str, other: str
) -> None:
    directory = model_directory(tmp_path, model)

    assert directory.name.isascii()
    assert unquote(str(directory)) == urlsplit(str(directory)).path == str(directory)
    assert len(directory.name) <= 193
    if len(directory.name) <= 180:
        assert model_of(directory) == model
    assert (model_directory(tmp_path, other) == directory) == (other == model)


def test_long_names_that_begin_alike_do_not_share_a_directory(tmp_path: Path) -> None:
    assert model_directory(tmp_path, "x" * 300) != model_directory(tmp_path, "x" * 301)


def level_of(tmp_path: Path, level: str) -> Path:
    """The cache, a model's directory or a version's place, all made as they should be."""
    place = place_of(tmp_path / "cache", "m", 7, "abc")
    place.mkdir(mode=0o700)
    return {"cache": tmp_path / "cache", "model": place.parent, "place": place}[level]


def look(tmp_path: Path) -> None:
    place_of(tmp_path / "cache", "m", 7, "abc")


LEVELS = pytest.mark.parametrize("level", ["cache", "model", "place"])


@LEVELS
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, level: str, mode: int) -> None:
    """What lies there is run as code."""
    level_of(tmp_path, level).chmod(mode)

    with pytest.raises(DirectoryRefused, match=f"has mode 0{mode:o}: others can write to it"):
        look(tmp_path)


@LEVELS
def test_a_link_is_refused_wherever_it_leads(tmp_path: Path, level: str) -> None:
    directory = level_of(tmp_path, level)
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DirectoryRefused, match=f"{directory} in the cache is a symbolic link"):
        look(tmp_path)


@LEVELS
def test_a_link_that_leads_nowhere_and_a_file_are_refused(tmp_path: Path, level: str) -> None:
    directory = level_of(tmp_path, level)
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DirectoryRefused, match="is a symbolic link"):
        look(tmp_path)
    directory.unlink()
    directory.touch()
    with pytest.raises(DirectoryRefused, match="is not a directory"):
        look(tmp_path)


@LEVELS
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path, level: str) -> None:
    os.chown(level_of(tmp_path, level), 12345, -1)

    with pytest.raises(DirectoryRefused, match="belongs to user 12345"):
        look(tmp_path)


def test_the_cache_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "disk")

    assert place_of(tmp_path / "var" / "cache", "m", 7, "abc").parent.is_dir()


def test_what_others_may_only_read_is_trusted(tmp_path: Path) -> None:
    for level in ("cache", "model", "place"):
        (tmp_path / level).mkdir()
        level_of(tmp_path / level, level).chmod(0o755)

        look(tmp_path / level)
