"""YAML that is printed is read as it was meant, by readers of YAML 1.1 and of 1.2."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from router.cli.printed_yaml import printed, with_more
from router.core.version_manifests import NotRendered

AMBIGUOUS = ["on", "No", "y", "~", "", "null", "12:30:45", "0o17", "010", "1e3", "1_000", ".inf", "="]
AMBIGUOUS += [
    "<<",
    "2026-11-29",
    "a: b",
    "#",
    " a ",
    "a\nb",
    "\x85",
    "a\x85b",
    "\u2028",
    "\ufeff",
    "%a",
    "- a",
    "*a",
]
TEXTS = st.one_of(st.sampled_from(AMBIGUOUS), st.text(max_size=12))
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3))
@example(AMBIGUOUS)
def test_what_is_printed_is_read_as_it_was_meant(values: list[Any]) -> None:
    text = printed([{"a": values}])

    assert repr(yaml.safe_load(text)) == repr({"a": values})
    assert YAML(typ="safe").load(text) == {"a": values}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(VALUES, max_size=3), st.lists(VALUES, min_size=1, max_size=3))
@example(AMBIGUOUS, AMBIGUOUS)
def test_what_is_added_to_a_file_changes_nothing_in_it(
    tmp_path: Path, old: list[Any], new: list[Any]
) -> None:
    """However the file was written: by PyYAML, which quotes otherwise than we do."""
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({"list": old, "after": [*old]}, allow_unicode=True), encoding="utf-8")

    text = with_more(file, "list", new)

    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert repr(yaml.safe_load(text)) == repr({**before, "list": [*before["list"], *new]})


@pytest.mark.parametrize(
    "text",
    [
        "x: &x {a: 'on'}\nlist:\n- *x\n",
        "x: &x {a: 'on', b: 1}\nlist:\n- <<: *x\n  b: 2\n",
        "list: ['on', on]\n",
        "list:\n- 1e400\n- 0o17\n- 2001-12-14t21:59:43.10-05:00\n-\n- ~\n- a:\n- {b: , c: null}\n",
        "list:\n- !!str 1\n- !!float 1\n- >\n  two\n  lines\n- two\n  more\n",
        "%YAML 1.1\n---\nlist:\n- 'on'\n- on\n",
    ],
)
def test_anchors_directives_and_flow_keep_their_meaning(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)

    found = yaml.safe_load(with_more(file, "list", [{"b": "off"}]))

    assert found["list"] == [*yaml.safe_load(text)["list"], {"b": "off"}]


def test_a_file_that_would_be_read_otherwise_is_refused(tmp_path: Path) -> None:
    """Such as one whose list is another one, too."""
    file = tmp_path / "file.yaml"
    file.write_text("after: &a\n- b\nlist: *a\n")

    with pytest.raises(NotRendered, match=f"{file} can not be added to without a change"):
        with_more(file, "list", ["c"])
