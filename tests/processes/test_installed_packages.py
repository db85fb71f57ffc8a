"""What the template reads in the place of MLflow's own search is what that would find."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import importlib_metadata
import pytest

from router.processes.installed_packages import packages_distributions, read_quickly

NAME = "Metadata-Version: 2.1\nName: Some.Thing\nVersion: 1\n\nName: no.name\n"


def in_order(found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {package: sorted(names) for package, names in found.items()}


def test_of_this_environment_it_finds_what_the_library_finds() -> None:
    found = packages_distributions()

    assert in_order(found) == in_order(importlib_metadata.packages_distributions())
    assert found["yaml"] == ["PyYAML"]


@pytest.mark.parametrize(
    ("files", "packages"),
    [
        ({"top_level.txt": "one\nother\n", "RECORD": "third/a.py,,\n"}, {"one", "other"}),
        ({"RECORD": "one/__init__.py,sha256=a,1\none/b.py,,\nother.py,,\n"}, {"one", "other"}),
        (
            {"RECORD": "../../bin/run,,\nsome_thing-1.dist-info/RECORD,,\nhook.pth,,\nnative.cpython.so,,\n"},
            set(),
        ),
        ({"RECORD": '"one/a,b.py",,\n'}, {"one"}),
        ({"RECORD": ""}, set()),
        ({}, set()),
    ],
    ids=["declared", "recorded", "no packages", "quoted", "empty", "no record"],
)
def test_a_distribution_has_the_packages_it_declares_or_else_those_of_its_record(
    files: dict[str, str], packages: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "some_thing-1.dist-info"
    directory.mkdir()
    for name, text in {"METADATA": NAME, **files}.items():
        (directory / name).write_text(text)
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    assert packages_distributions() == {package: ["Some.Thing"] for package in packages}


def test_the_library_answers_as_before_once_the_block_is_left() -> None:
    theirs = importlib_metadata.packages_distributions

    with read_quickly(importlib_metadata):
        assert importlib_metadata.packages_distributions is packages_distributions

    assert importlib_metadata.packages_distributions is theirs
