"""The `split` command's edit: the numbers change, and not a byte more; or nothing does."""

import os
import stat
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.adapters.config import edit as config_edit
from router.adapters.config.edit import edit_split
from router.adapters.config.file import load_settings
from router.core.split import Split
from router.errors import ConfigRefused

TWELVE = Decimal("12.5")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


def edited(path: Path, content: str, percent: Decimal = TWELVE, model: str = "m") -> str:
    path.write_bytes(content.encode())
    edit_split(path, model, percent).write()
    return path.read_bytes().decode()


def refused(path: Path, content: str, percent: Decimal = TWELVE, model: str = "m") -> list[str]:
    path.write_bytes(content.encode())
    with pytest.raises(ConfigRefused) as reported:
        edit_split(path, model, percent).write()
    assert path.read_bytes() == content.encode()
    return reported.value.problems


EDITS = {
    "flow": (
        "models:\n  m:   # ours\n    split: {production: 95,  canary: 5}  # percent\n    workers: 2\n",
        "models:\n  m:   # ours\n    split: {production: 87.5,  canary: 12.5}  # percent\n    workers: 2\n",
    ),
    "block": (
        "models:\n  m:\n    split:\n      canary:   5 # few\n      production: 95\n\n# end",
        "models:\n  m:\n    split:\n      canary:   12.5 # few\n      production: 87.5\n\n# end",
    ),
    "flow over lines": (
        "models: {m: {split: {\n  production: 95,  # most\n  canary: 5,\n}}}\n",
        "models: {m: {split: {\n  production: 87.5,  # most\n  canary: 12.5,\n}}}\n",
    ),
    "block without canary": (
        "models:\n  m:\n    split:\n      production: 100 # all\n    workers: 2\n",
        "models:\n  m:\n    split:\n      production: 87.5 # all\n      canary: 12.5\n    workers: 2\n",
    ),
    "block without canary at the end": (
        "models:\n  m:\n    split:\n      production: 100",
        "models:\n  m:\n    split:\n      production: 87.5\n      canary: 12.5",
    ),
    "flow without canary": (
        "models: {m: {split: {production: 100}}}",
        "models: {m: {split: {production: 87.5, canary: 12.5}}}",
    ),
    "no split": (
        "models:\n  m:\n    # two\n    workers: 2\n  n: {}\n",
        "models:\n  m:\n    split: {production: 87.5, canary: 12.5}\n    # two\n    workers: 2\n  n: {}\n",
    ),
    "no split in braces": (
        "models: {m: {key: {cookie: u}}, n: {}}",
        "models: {m: {key: {cookie: u}, split: {production: 87.5, canary: 12.5}}, n: {}}",
    ),
    "an empty model": (
        "models:\n  m:\n  n:\n",
        "models:\n  m:\n    split: {production: 87.5, canary: 12.5}\n  n:\n",
    ),
    "an empty model at the end": (
        "models:\n  m:",
        "models:\n  m:\n    split: {production: 87.5, canary: 12.5}",
    ),
    "an empty model in braces": (
        "models: {m: {}}\n",
        "models: {m: {split: {production: 87.5, canary: 12.5}}}\n",
    ),
    "a further alias": (
        "models: {m: {split: {production: 80, shadow: 20.000}}}\n",
        "models: {m: {split: {production: 67.5, shadow: 20.000, canary: 12.5}}}\n",
    ),
    "a total to be mended": (
        "models: {m: {split: {production: 100, canary: 10}}}\n",
        "models: {m: {split: {production: 87.5, canary: 12.5}}}\n",
    ),
    "odd spellings": (
        "models:\n  'm': {\"split\": {'production': 9.5e1, \"canary\": +5}}\n",
        "models:\n  'm': {\"split\": {'production': 87.5, \"canary\": 12.5}}\n",
    ),
    "a number on its own line": (
        "models:\n  m:\n    split:\n      production:\n        95 # !\n      canary: 5\n",
        "models:\n  m:\n    split:\n      production:\n        87.5 # !\n      canary: 12.5\n",
    ),
    "another model's split": (
        "models:\n  n: {split: {production: 100}}\n  m: {split: {production: 99, canary: 1}}\n",
        "models:\n  n: {split: {production: 100}}\n  m: {split: {production: 87.5, canary: 12.5}}\n",
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize(("before", "after"), EDITS.values(), ids=EDITS)
def test_only_the_shares_change(path: Path, before: str, after: str, mark: str, ending: str) -> None:
    assert edited(path, mark + before.replace("\n", ending)) == mark + after.replace("\n", ending)


def test_the_diff_is_what_the_operator_is_shown(path: Path) -> None:
    path.write_text("models:\n  m:\n    split: {production: 95, canary: 5}")

    assert edit_split(path, "m", TWELVE).diff == (
        f"--- {path}\n+++ {path}\n@@ -1,3 +1,3 @@\n models:\n   m:\n"
        "-    split: {production: 95, canary: 5}\n\\ No newline at end of file\n"
        "+    split: {production: 87.5, canary: 12.5}\n\\ No newline at end of file\n"
    )


def test_a_share_that_is_there_already_writes_nothing(path: Path) -> None:
    path.write_text("models: {m: {split: {production: 95.0, canary: 5.000}}}")
    before = path.stat()

    edit = edit_split(path, "m", Decimal(5))
    edit.write()

    assert (edit.diff, edit.new) == ("", edit.old)
    assert path.stat() == before


PINNED = """\
models:
  m:
    pins:
      canary:
        - qa-1   # our tester
        - qa-2

        # - qa-4
    split: {production: 95, canary: 5}
  n: {pins: {canary: [qa-3]}, split: {production: 95, canary: 5}}
"""


DIFFS = {
    "m": [
        "@@ -6,5 +6,5 @@",
        " ",
        " ",
        " ",
        "-    split: {production: 95, canary: 5}",
        "+    split: {production: 87.5, canary: 12.5}",
        "   n: {pins: (1 key), split: {production: 95, canary: 5}}",
    ],
    "n": [
        "@@ -7,4 +7,4 @@",
        " ",
        " ",
        "     split: {production: 95, canary: 5}",
        "-  n: {pins: (1 key), split: {production: 95, canary: 5}}",
        "+  n: {pins: (1 key), split: {production: 87.5, canary: 12.5}}",
    ],
}


@pytest.mark.parametrize("model", ["m", "n"])
def test_the_diff_shows_how_many_keys_are_pinned_and_never_which(path: Path, model: str) -> None:
    path.write_text(PINNED)

    edit = edit_split(path, model, TWELVE)
    edit.write()

    assert not any(key in edit.diff for key in ("qa-", "tester"))
    assert path.read_text().replace("87.5", "95").replace("12.5", "5") == PINNED
    assert edit.diff.splitlines()[2:] == DIFFS[model]


@pytest.mark.parametrize(("percent", "lowers"), [("0", True), ("5", False), ("12.5", False)])
def test_an_edit_says_whether_the_canary_gets_less(path: Path, percent: str, lowers: bool) -> None:
    path.write_text(GOOD)

    assert edit_split(path, "m", Decimal(percent)).lowers is lowers


def surroundings(production: str, canary: str, comment: str, ending: str, *, flow: bool) -> str:
    if flow:
        split = [f"    split: {{ production:  {production} ,canary: {canary}}}{comment}"]
    else:
        split = [
            f"    split:{comment}",
            f"      production: {production}{comment}",
            f"      canary:   {canary}",
        ]
    lines = [
        "# é 😀 canary: 5",
        "models:",
        "  m: # m",
        "    workers: 2  ",
        *split,
        "  n:",
        "    salt: 'x'",
        "",
    ]
    return ending.join(lines)


@given(
    old=st.integers(0, 100_000),
    new=st.integers(0, 100_000),
    comment=st.sampled_from(["", " # canary: 5", "   # {split: 5}"]),
    flow=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_around_the_shares_is_kept(
    path: Path, old: int, new: int, comment: str, flow: bool, ending: str
) -> None:
    def numbers(buckets: int) -> list[str]:
        return [f"{(Decimal(share) / 1000).normalize():f}" for share in (100_000 - buckets, buckets)]

    before = surroundings(*numbers(old), comment, ending, flow=flow)

    assert edited(path, before, Decimal(new) / 1000) == surroundings(
        *numbers(new), comment, ending, flow=flow
    )
    assert load_settings(path, {}, {}).settings.models["m"].split == Split(new)


REFUSED = {
    "no such model": ("models: {mm: {}}", TWELVE, "no such model in the file, did you mean `mm`?"),
    "over a hundred": ("models: {m: {}}", Decimal(101), "must be between 0 and 100 percent"),
    "less than nothing": ("models: {m: {}}", Decimal(-1), "must be between 0 and 100 percent"),
    "no number": ("models: {m: {}}", Decimal("NaN"), "must be between 0 and 100 percent"),
    "half a bucket": ("models: {m: {}}", Decimal("0.0005"), "must be a multiple of 0.001 percent"),
    "no room": (
        "models: {m: {split: {production: 10, s: 90}}}",
        TWELVE,
        "12.5 percent is too much: s has 90",
    ),
    "no mapping": ("models: {m: {split: 5}}", TWELVE, "is no mapping of roles"),
    "a wrong file": (
        "models: {m: {workers: 0}}",
        TWELVE,
        "router.yaml:1 models.m.workers: must be at least 1",
    ),
    "a cut file": ("models: {m: {workers", TWELVE, "is not valid YAML"),
    "an anchor": ("models: {m: &x {}}", TWELVE, "anchors and aliases are not accepted"),
    "an explicit key": ("models:\n  ? m\n  : workers: 2\n", TWELVE, "edit it by hand"),
    "a key without a colon": ("models: {m}", TWELVE, "edit it by hand"),
}


@pytest.mark.parametrize(("content", "percent", "reported"), REFUSED.values(), ids=REFUSED)
def test_an_edit_that_is_not_safe_is_refused(
    path: Path, content: str, percent: Decimal, reported: str
) -> None:
    assert reported in "\n".join(refused(path, content, percent))


GOOD = "models: {m: {split: {production: 95, canary: 5}}}\n"


def test_mode_and_symbolic_link_are_kept_and_nothing_is_left_beside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "router.yaml", tmp_path / "router.yaml"
    target.write_text(GOOD)
    target.chmod(0o640)
    link.symlink_to("real/router.yaml")

    edit_split(link, "m", TWELVE).write()

    assert link.is_symlink()
    assert "canary: 12.5" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["real", "router.yaml", "router.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept(path: Path) -> None:
    path.write_text(GOOD)
    os.chown(path, 1234, 5678)

    edit_split(path, "m", TWELVE).write()

    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


def test_a_read_only_file_is_refused_even_to_root(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0o444)

    assert refused_as_it_is(path) == "router.yaml: is read-only; give it the right to be written first"


def test_a_file_of_a_config_map_is_refused(tmp_path: Path) -> None:
    """Kubernetes would put its own content back, and only this pod would have had ours."""
    (tmp_path / "..2026_11_20").mkdir()
    (tmp_path / "..2026_11_20" / "router.yaml").write_text(GOOD)
    (tmp_path / "..data").symlink_to("..2026_11_20")
    (tmp_path / "router.yaml").symlink_to("..data/router.yaml")

    reported = refused_as_it_is(tmp_path / "router.yaml")

    assert reported == "router.yaml: is mounted from a ConfigMap; change the ConfigMap"


def refused_as_it_is(path: Path) -> str:
    with pytest.raises(ConfigRefused) as reported:
        edit_split(path, "m", TWELVE).write()
    assert path.read_text() == GOOD
    (problem,) = reported.value.problems
    return problem


@pytest.mark.parametrize(
    ("number", "reported"),
    [
        (30, "is on a read-only file system; change it where it comes from"),
        (16, "is mounted by itself and can not be replaced; change it where it comes from"),
        (13, "may not be replaced by this user"),
        (28, "can not be written: the disk is full"),
        (5, "can not be replaced: Input/output error"),
    ],
)
def test_a_replacement_that_fails_leaves_the_file_and_says_why(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reported: str
) -> None:
    path.write_text(GOOD)

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(config_edit.os, "replace", failing)

    assert refused_as_it_is(path) == f"router.yaml: {reported}"
    assert [file.name for file in path.parent.iterdir()] == ["router.yaml"]


def test_an_edit_of_somebody_else_meanwhile_is_not_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(GOOD)
    real = os.path.realpath

    def meanwhile(name: str) -> str:
        path.write_text(GOOD + "# theirs\n")
        return real(name)

    monkeypatch.setattr(config_edit.os.path, "realpath", meanwhile)
    with pytest.raises(ConfigRefused) as reported:
        edit_split(path, "m", TWELVE).write()

    assert reported.value.problems == ["router.yaml: was changed by somebody else meanwhile; try again"]
    assert path.read_text() == GOOD + "# theirs\n"
