"""`docs/security.md` promises what a test proves."""

import re
from pathlib import Path

import pytest

from router.core.environment_variables import _WITHHELD_PREFIXES

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda text: text.rpartition("/")[2][:60])
def test_every_promise_about_security_has_its_test(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_document_names_tests() -> None:
    assert len(NAMED) > 20


def test_what_is_withheld_from_versions_is_listed_once_and_wholly() -> None:
    section = (ROOT / "docs" / "migrating.md").read_text().partition("## Variables that are withheld")[2]
    table = [line for line in section.splitlines() if line.startswith("| ")][1:-1]
    listed = [name for line in table for name in re.findall(r"`([A-Z0-9_]+)`", line.split("|")[2])]

    assert sorted(listed) == sorted(_WITHHELD_PREFIXES)
    assert "migrating.md#variables-that-are-withheld" in (ROOT / "docs" / "security.md").read_text()
