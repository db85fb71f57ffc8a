"""Which base `make image` builds on: the official one wherever it can be had, without a build."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fleet import image

OFFICIAL, MADE = "", "Debian with Python of this machine"


class Store(image._Store):
    """Has an image by its description, and a registry that has the official one or can not be reached."""

    def __init__(self, has: str | None, *, reached: bool) -> None:
        self.has, self.reached, self.asked = has, reached, list[str]()

    def tried(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        self.asked.append(arguments[0])
        if arguments[0] == "pull":
            if self.reached:
                self.has = OFFICIAL
            return subprocess.CompletedProcess(arguments, 0 if self.reached else 125, "", "")
        labels = {"description": self.has} if self.has else None
        text = json.dumps({"Docker": {"config": {"Labels": labels}}})
        return subprocess.CompletedProcess(arguments, 125 if self.has is None else 0, text, "")


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Store], str]:
    def make(store: Store, *_: object) -> None:
        store.asked.append("make")
        store.has = MADE

    monkeypatch.setattr(image, "_make_base", make)
    return lambda store: image._base(store, tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("has", "reached", "is_made", "last"),
    [
        (None, True, False, "pull"),
        (None, False, True, "make"),
        (OFFICIAL, True, False, "inspect"),
        (MADE, True, False, "pull"),
        (MADE, False, True, "pull"),
    ],
)
def test_a_base_of_our_own_stands_in_until_the_official_one_is_reached(
    base: Callable[[Store], str], has: str | None, reached: bool, is_made: bool, last: str
) -> None:
    store = Store(has, reached=reached)

    found = base(store)

    assert (found == MADE) == is_made
    assert [one for one in store.asked if one != "inspect"][-1:] == ([] if last == "inspect" else [last])
