"""What of a version's environment differs from the gateway's own, package by package."""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from router.core.version_environment import MOST_DIFFERENCES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = 60


def differences(lines: Iterable[str], releases: Mapping[str, str], python: str) -> tuple[str, ...]:
    """Short lines, at most MOST_DIFFERENCES: Python, then the packages that `lines` require, by name.

    `releases` are those of the environment, by normal name; of what is in it only because something else
    requires it, nothing is said.
    """
    found = list(_differences(lines, releases, python))
    if len(found) > MOST_DIFFERENCES:
        shown = found[: MOST_DIFFERENCES - 1]
        return (*shown, f"and {len(found) - len(shown)} more")
    return tuple(found)


def _differences(lines: Iterable[str], releases: Mapping[str, str], python: str) -> Iterator[str]:
    if python != platform.python_version():
        yield f"Python {python}, the gateway has {platform.python_version()}"
    names = {_normal_name(match[0]) for line in lines if (match := _NAME.match(line))}
    for name in sorted(names & releases.keys()):
        here, there = _installed(name), releases[name]
        if here != there:
            yield f"{name[:_LONGEST]} {there[:_LONGEST]}, the gateway has {(here or 'none')[:_LONGEST]}"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _normal_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
