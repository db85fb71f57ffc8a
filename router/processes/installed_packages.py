"""Which distributions hold which top-level packages, read in milliseconds."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distributions

_NAME = re.compile(r"(?m)^Name: *(\S+)")


def packages_distributions() -> dict[str, list[str]]:
    """The names of the distributions of this environment by the top-level package that each holds.

    As `importlib_metadata.packages_distributions`, which takes up to a second: it makes an object of each
    file of each distribution, and looks whether it is there. A record is believed here.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for distribution in distributions():
        if packages := _packages(distribution):
            name = _name(distribution)
            for package in packages:
                found[package].append(name)
    return dict(found)


def _packages(distribution: Distribution) -> set[str]:
    """Those it declares; else those its record of files names."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        return {*declared}
    record = distribution.read_text("RECORD")
    files = map(str, distribution.files or ()) if record is None else _paths(record)
    return {name for name in map(_package, files) if "." not in name}


def _paths(record: str) -> Iterator[str]:
    """The first column of a comma-separated table; where it is quoted, its beginning will do."""
    return (line.lstrip('"').partition(",")[0] for line in record.splitlines())


def _package(path: str) -> str:
    top, slash, _ = path.partition("/")
    return top if slash else inspect.getmodulename(path) or path


def _name(distribution: Distribution) -> str:
    """From the head of its metadata, which as a whole takes much longer to parse."""
    found = _NAME.search(distribution.read_text("METADATA") or "")
    name: str = found[1] if found else distribution.metadata["Name"]
    return name


@contextmanager
def read_quickly(metadata: object) -> Iterator[None]:
    """Has `metadata`, the module `importlib_metadata`, answer by ours within the block."""
    name = packages_distributions.__name__
    theirs = getattr(metadata, name)
    setattr(metadata, name, packages_distributions)
    try:
        yield
    finally:
        setattr(metadata, name, theirs)
