"""Where this environment is another than the one a version was logged in: its Python, its requirements.

Reported to the operator, never an error: MLflow serves such a version too, and most of them do well.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from platform import python_version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from router.core.version_environment import GATEWAYS_OWN
from router.protocol.messages import MISMATCH_CHARACTERS, MOST_MISMATCHES

_MOST_BYTES = 64 << 10
_MOST_LINES = 500
_PYTHON_LINE = re.compile(r"(?m)^python:[ \t]*['\"]?([0-9][0-9.]*)")


@cache
def installed_versions() -> Mapping[str, str]:
    """Versions of the installed distributions by canonical name, from the names of their directories.

    Empty where the name has none. Their metadata would take a hundred times longer to read, and to look for
    one that is absent takes 2 ms; a worker inherits the answer from the template.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        with suppress(OSError):
            for entry in os.listdir(place or "."):
                stem, ending = os.path.splitext(entry)
                if ending in (".dist-info", ".egg-info"):  # numpy-2.4.1, or six-1.17.0-py3.11, or mine
                    name, number = [*stem.split("-"), ""][:2]
                    found.setdefault(canonicalize_name(name), number)
    return found


def mismatches(directory: str, logged_python: object, *, own: bool = False) -> tuple[str, ...]:
    """What differs between the environment that a version's `directory` asks for and this one.

    `logged_python` is what its MLmodel says, whatever that is. `own`: this environment was built for it, with
    some packages as the gateway has them, which is no difference. At most 20 lines of at most 200 characters;
    the last one counts the others. Patch releases of Python are no difference.
    """
    here = Path(directory)
    text = _text(here / "python_env.yaml")
    found = _PYTHON_LINE.search(text)
    python = str(logged_python or (found and found[1]) or "")
    passed_over = GATEWAYS_OWN if own else ()
    required = _text(here / "requirements.txt").splitlines()
    lines = [*_python(python), *differing(required, _installed, passed_over)]
    if len(lines) > MOST_MISMATCHES:
        lines[MOST_MISMATCHES - 1 :] = [f"and {len(lines) - MOST_MISMATCHES + 1} more"]
    return tuple(_fit(line) for line in lines)


def differing(
    lines: Iterable[str], installed: Callable[[str], str | None], passed_over: Collection[str] = ()
) -> Iterator[str]:
    """One sentence per requirement of `lines` that `installed`, the version of a name here, does not meet.

    Names that are `passed_over` may have any version.
    What is not a requirement by name is passed over: options, paths and URLs, which may hold credentials.
    """
    for line in islice(lines, _MOST_LINES):
        with suppress(ValueError):  # of another grammar; pip would know
            wanted = Requirement(line.split(" #")[0].split(" --")[0].rstrip("\\ "))
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            if canonicalize_name(wanted.name) in passed_over:
                continue
            name, number = wanted.name, installed(wanted.name)
            if number is None:
                yield f"{name}{wanted.specifier} is required and not installed"
            elif not wanted.specifier.contains(number, prereleases=True):
                yield f"{name}{wanted.specifier} is required and {number} is installed"


def _python(logged: str) -> Iterator[str]:
    if logged and logged.split(".")[:2] != python_version().split(".")[:2]:
        yield f"logged with Python {logged}, this is {python_version()}"


def _installed(name: str) -> str | None:
    number = installed_versions().get(canonicalize_name(name))
    with suppress(PackageNotFoundError):
        return version(name) if number == "" else number
    return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _fit(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line[:MISMATCH_CHARACTERS])
