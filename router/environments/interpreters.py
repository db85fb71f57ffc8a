"""Which Python a version's environment is made with.

Pickles of code do not survive another minor version of Python, so a version runs under the one it was logged
with. Candidates are the gateway's own, those that the operator names, and `python3.X` on PATH. Each is asked
what it is: a file of such a name may be a shim that starts another Python, or refuses to.
"""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from router.core.redaction import redact_line
from router.errors import EnvironmentFailed, EnvironmentRefused

OLDEST = (3, 11)
"""What runs in an environment needs this Python, or a later one."""
ASK_SECONDS = 10.0
"""How long one candidate may take to say what it is."""
_PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""Why no process can be started now: of memory, processes or descriptors there are too few."""
_MOST_CANDIDATES = 20
_NAME = re.compile(r"python3\.(\d{1,3})")
_LOGGED = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.\w{1,20})?")
# Of a virtual environment, the Python that it was made of. `-I`: no module from where we are.
_QUESTION = """
import json, os, sys, sysconfig
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({
    "path": os.path.realpath(base), "version": ".".join(map(str, sys.version_info[:3])), "build": sys.version,
    "usable": sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"),
}))
"""
_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYENV_ROOT", "ASDF_DATA_DIR", "ASDF_DIR")
"""Of the environment, what a shim or a Python of another prefix does not start without."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that environments can be made with."""

    path: str
    """Absolute, and no link."""
    version: str
    """Such as 3.11.7."""
    build: str
    """What it says of how it was built, in one line."""

    @property
    def minor(self) -> str:
        """Such as 3.11."""
        return ".".join(self.version.split(".")[:2])


def find_interpreter(logged: str, extra: Sequence[str], mismatch: str) -> tuple[Interpreter, str]:
    """The Python for a version that was logged under `logged` (such as 3.11.7, or empty where that is not
    known), and a sentence where it is of another minor version, else an empty one.

    `extra`: absolute paths of further candidates. `mismatch`: `refuse`, or `nearest`: of two as near, the
    later. Raises EnvironmentRefused, naming what is here, and EnvironmentFailed where one that may be the one
    that is needed could not be asked just now.
    """
    candidates = _Candidates(extra)
    if not logged:
        return own_interpreter(), "it does not say under which Python it was logged: the gateway's is used"
    wanted = _minor_of(logged)
    if wanted >= OLDEST and (found := candidates.of(wanted)) is not None:
        return found, ""
    if candidates.unasked:
        raise EnvironmentFailed(
            f"it was logged under Python {redact_line(logged, 40)}, and {'; '.join(candidates.unasked)}"
        )
    others = [one for one in candidates.all() if _minor_of(one.version) >= OLDEST]
    if mismatch == "nearest" and others:
        nearest = min(others, key=lambda one: _distance(_minor_of(one.version), wanted))
        logged = redact_line(logged, 40)
        return (
            nearest,
            f"it was logged under Python {logged} and runs under {nearest.version}, the nearest here",
        )
    raise EnvironmentRefused(_refusal(logged, wanted, others, candidates.problems))


def may_pass(error: OSError) -> bool:
    """Whether a program that could not be started for `error` may start a little later."""
    return error.errno in _PASSING


def own_interpreter() -> Interpreter:
    """The Python that this gateway's environment was made of."""
    path = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return Interpreter(path, ".".join(map(str, sys.version_info[:3])), _one_line(sys.version))


def _distance(minor: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int]:
    return abs(minor[0] - wanted[0]), abs(minor[1] - wanted[1]), -minor[1]


def _minor_of(version: str) -> tuple[int, int]:
    if (parts := _LOGGED.match(version)) is None:
        raise EnvironmentRefused(
            f"it was logged under Python {redact_line(version, 40)!r}, which is not a version"
        )
    return int(parts[1]), int(parts[2])


def _refusal(logged: str, wanted: tuple[int, int], others: list[Interpreter], problems: list[str]) -> str:
    here = ", ".join(dict.fromkeys(one.minor for one in others)) or "none that can be used"
    if wanted < OLDEST:
        remedy = "it needs 3.11 or later: log the version under one,"
    else:
        remedy = f"name one of {wanted[0]}.{wanted[1]} in environments.python,"
    said = f" ({'; '.join(problems)})" if problems else ""
    return (
        f"it was logged under Python {redact_line(logged, 40)}, and here is {here}{said}:"
        f" {remedy} or set environments.python_mismatch: nearest"
    )


class _Candidates:
    """Pythons of this machine, each asked once, and none before it may be needed."""

    def __init__(self, extra: Sequence[str]) -> None:
        self._named = list(extra)
        self._asked: dict[str, Interpreter | None] = {}
        self.problems: list[str] = []
        """About those that the operator names, and that can not be used."""
        self.unasked: list[str] = []
        """About those, named or not, that could not be asked just now, and may be later."""

    def of(self, minor: tuple[int, int]) -> Interpreter | None:
        """The first one of this minor version: the gateway's, then the operator's, then those on PATH."""
        wanted = ".".join(map(str, minor))
        if (own := own_interpreter()).minor == wanted:
            return own
        paths = islice((*self._named, *_on_path(f"python{wanted}")), _MOST_CANDIDATES)
        asked = (self._ask(path) for path in paths)
        return next((one for one in asked if one is not None and one.minor == wanted), None)

    def all(self) -> list[Interpreter]:
        """Every one that answers."""
        asked = [self._ask(path) for path in islice((*self._named, *_on_path()), _MOST_CANDIDATES)]
        return [own_interpreter(), *(one for one in asked if one is not None)]

    def _ask(self, path: str) -> Interpreter | None:
        if path not in self._asked:
            try:
                self._asked[path] = _asked(path)
            except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
                self._asked[path] = None
                problem = f"{path} can not be used: {_reason(error)}"
                if isinstance(error, subprocess.TimeoutExpired) or (
                    isinstance(error, OSError) and may_pass(error)
                ):
                    self.unasked.append(problem)
                elif path in self._named:
                    self.problems.append(problem)
        return self._asked[path]


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it did not answer within {ASK_SECONDS:g} s"
    if isinstance(error, OSError):
        return error.strerror or "it does not start"
    return "it does not answer as CPython does"


def _asked(path: str) -> Interpreter:
    ran = subprocess.run(  # noqa: S603 # the operator's paths, or their PATH
        [path, "-I", "-c", _QUESTION],
        env={name: os.environ[name] for name in _NEEDED if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=ASK_SECONDS,
        check=True,
    )
    said = json.loads(ran.stdout)
    if not said["usable"]:
        raise ValueError(path)
    return Interpreter(str(said["path"]), str(said["version"]), _one_line(str(said["build"])))


def _on_path(name: str = "") -> Iterator[str]:
    """Absolute paths of files called `name`, or like any Python of ours, in the directories of PATH."""
    for folder in dict.fromkeys(os.environ.get("PATH", "").split(os.pathsep)):
        if not os.path.isabs(folder):
            continue  # whoever writes to the directory that we are in would choose what runs
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for one in names:
            fits = one == name if name else (found := _NAME.fullmatch(one)) and int(found[1]) >= OLDEST[1]
            if fits and os.access(path := str(Path(folder, one)), os.X_OK):
                yield path


def _one_line(text: str) -> str:
    return " ".join(text.split())
