"""Which Python a version's environment is made with."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from router.environments import interpreters
from router.environments.interpreters import find_interpreter, own_interpreter
from router.errors import EnvironmentFailed, EnvironmentRefused

OWN = own_interpreter()
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(autouse=True)
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH, but for what shells need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/no/such/directory")
    return folder


def pretend(path: Path, version: str, *, usable: bool = True) -> str:
    """A program that answers as an interpreter of this version would."""
    about = {"path": str(path), "version": version, "build": f"{version}\n[GCC]", "usable": usable}
    return script(path, f"cat <<'END'\n{json.dumps(about)}\nEND\n")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def refusal(logged: str, extra: tuple[str, ...] = (), mismatch: str = "refuse") -> str:
    with pytest.raises(EnvironmentRefused) as refused:
        find_interpreter(logged, extra, mismatch)
    return str(refused.value)


def test_the_gateways_own_is_that_which_its_environment_was_made_of() -> None:
    """Not the one of a virtual environment, which is no more when the gateway's installation is replaced."""
    assert not Path(OWN.path).is_symlink()
    assert Path(OWN.path).is_relative_to(Path(sys.base_prefix).resolve())
    assert OWN.version == ".".join(map(str, sys.version_info[:3]))
    assert OWN.minor == HERE
    assert "\n" not in OWN.build


def test_a_version_of_the_gateways_python_starts_nothing_to_find_it(on_path: Path) -> None:
    """Whatever its last number."""
    pretend(on_path / f"python{HERE}", f"{HERE}.99")

    assert find_interpreter(f"{HERE}.0", (str(on_path / f"python{HERE}"),), "refuse") == (OWN, "")


def test_an_interpreter_that_is_asked_says_what_the_gateways_own_knows_of_itself() -> None:
    """A virtual environment's Python stands for the one it was made of."""
    assert interpreters._asked(sys.executable) == OWN


def test_the_operators_come_before_those_on_path(on_path: Path, tmp_path: Path) -> None:
    pretend(on_path / "python3.99", "3.99.1")
    named = pretend(tmp_path / "named", "3.99.7")

    assert find_interpreter("3.99.3", (), "refuse")[0].version == "3.99.1"
    found, note = find_interpreter("3.99.3", (named,), "refuse")
    assert (found.path, found.version, found.build, found.minor) == (named, "3.99.7", "3.99.7 [GCC]", "3.99")
    assert note == ""


def test_a_name_on_path_is_asked_and_not_believed(on_path: Path) -> None:
    pretend(on_path / "python3.99", "3.98.2")

    assert "here is" in refusal("3.99.1")


@pytest.mark.parametrize(
    "text",
    [
        "echo \"pyenv: python3.99: command not found\" >&2; exit 127\n",
        "echo '{'\n",
        "echo '[]'\n",
        "echo '{\"path\": \"/x\"}'\n",
        "kill -9 $$\n",
    ],
    ids=["shim", "torn", "list", "less", "killed"],
)  # fmt: skip
def test_a_shim_that_refuses_is_passed_over(on_path: Path, text: str) -> None:
    script(on_path / "python3.99", text)

    assert refusal("3.99.1").startswith("it was logged under Python 3.99.1, and here is ")


def test_another_implementation_is_passed_over_and_named_where_the_operator_named_it(tmp_path: Path) -> None:
    pypy = pretend(tmp_path / "pypy", "3.99.1", usable=False)

    assert f"({pypy} can not be used: it does not answer as CPython does)" in refusal("3.99.1", (pypy,))


@pytest.mark.parametrize("mismatch", ["refuse", "nearest"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "on PATH"])
def test_one_that_does_not_answer_costs_a_bounded_time_and_another_try_may_find_it(
    on_path: Path, monkeypatch: pytest.MonkeyPatch, mismatch: str, named: bool
) -> None:
    """A busy machine is no reason to give a version up, nor to run it under another Python."""
    monkeypatch.setattr(interpreters, "ASK_SECONDS", 0.2)
    hanging = script(on_path / "python3.99", "exec sleep 600\n")

    with pytest.raises(EnvironmentFailed, match=r"did not answer within 0\.2 s") as failure:
        find_interpreter("3.99.1", (hanging,) if named else (), mismatch)

    assert not isinstance(failure.value, EnvironmentRefused)


@pytest.mark.parametrize("why", [errno.ENOMEM, errno.EAGAIN, errno.EMFILE])
def test_where_no_process_can_be_started_now_another_try_may(
    on_path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    pretend(on_path / "python3.99", "3.99.1")

    def full(*_: object, **__: object) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(subprocess, "run", full)

    with pytest.raises(EnvironmentFailed, match=os.strerror(why)) as failure:
        find_interpreter("3.99.1", (), "refuse")

    assert not isinstance(failure.value, EnvironmentRefused)


def test_a_python_that_is_not_here_is_refused_with_what_is(tmp_path: Path) -> None:
    other = pretend(tmp_path / "other", "3.98.1")

    assert refusal("3.99.1", (other, "/no/such/python")) == (
        f"it was logged under Python 3.99.1, and here is {HERE}, 3.98"
        " (/no/such/python can not be used: No such file or directory):"
        " name one of 3.99 in environments.python, or set environments.python_mismatch: nearest"
    )


@pytest.mark.parametrize("logged", ["3.10.13", "3.8", "2.7.18"])
def test_a_python_that_environments_can_not_have_is_refused(on_path: Path, logged: str) -> None:
    """Also where it is here."""
    pretend(on_path / "python3.10", "3.10.13")
    old = pretend(on_path / "named", logged)

    assert "it needs 3.11 or later" in refusal(logged, (old,))


@pytest.mark.parametrize(
    ("logged", "nearest"),
    [("3.99.1", "3.97.2"), ("3.96.0", "3.97.2"), ("3.94.1", "3.95.3"), ("3.8.1", HERE), ("2.7.18", HERE)],
)
def test_the_nearest_runs_it_where_the_operator_says_so(on_path: Path, logged: str, nearest: str) -> None:
    """Of two as near the later; never one that environments can not have."""
    pretend(on_path / "python3.95", "3.95.3")
    pretend(on_path / "python3.97", "3.97.2")
    pretend(on_path / "python3.8", "3.8.1")

    found, note = find_interpreter(logged, (), "nearest")

    assert found.version.startswith(nearest)
    assert note == f"it was logged under Python {logged} and runs under {found.version}, the nearest here"


def test_a_version_that_does_not_say_its_python_gets_the_gateways() -> None:
    found, note = find_interpreter("", (), "refuse")

    assert found == OWN
    assert "does not say under which Python" in note


def test_a_note_is_short_and_in_one_line_whatever_the_version_says() -> None:
    _, note = find_interpreter("2.7.18\nERROR " + "x" * 10_000, (), "nearest")

    assert len(note) < 200
    assert "\n" not in note


@pytest.mark.parametrize("logged", ["abc", "3", "3.x", "../../bin/sh", "3.\n11", "x" * 10_000])
def test_what_is_no_version_is_refused(logged: str) -> None:
    assert len(refusal(logged)) < 200


def test_nothing_is_started_from_where_the_gateway_happens_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty entry of PATH is the working directory, where others may write."""
    pretend(tmp_path / "python3.99", "3.99.1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ":.:")

    assert "3.99" not in refusal("3.99.1").partition("here is")[2].partition(":")[0]
