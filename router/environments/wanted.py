"""What a version asks for, by the files that MLflow logged with it.

`requirements.txt` says which packages and `python_env.yaml` which Python. What the latter lists to build
packages with is not installed: uv makes a place of its own for that, where it is allowed at all. `conda.yaml`
is read for one thing: a version that needs packages of conda can not run in an environment without.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from router.core.redaction import redact_line
from router.core.requirement_lines import (
    MOST_BYTES,
    PlainRequirements,
    RequirementRefused,
    plain_requirements,
    requirement,
)
from router.environments.rules import Rules
from router.errors import EnvironmentRefused

REQUIREMENTS, PYTHON_ENV, CONDA, MODEL_FILE = "requirements.txt", "python_env.yaml", "conda.yaml", "MLmodel"
_OF_EVERY_CONDA = {"python", "pip"}
_MOST_YAML_BYTES = 64 << 10
_MOST_MODEL_BYTES = 16 << 20
_CREATED = re.compile(
    rb"(?m)^utc_time_created: *['\"]?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)['\"]? *\r?$"
)
_PYTHON = re.compile(rb"(?m)^ +python_version: *['\"]?(\d{1,3}\.\d{1,3}(?:\.\w{1,20})?)['\"]? *\r?$")
_CONDA_NAME = re.compile(r"(?:\S*::)?([A-Za-z0-9_.-]+)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the environment of a version has to hold. All lines are plain requirements, normalised."""

    lines: tuple[str, ...]
    """The version's own, without those for packages that `own_lines` speak of."""
    constraints: tuple[str, ...]
    """What narrows packages and installs none: the version's, and the gateway's bounds."""
    own_lines: tuple[str, ...]
    """The gateway's part, with the extras that the version wants of it, and the operator's `extra`."""
    python: str
    """Under which it was logged, such as 3.11.7; empty where that is not known."""
    created: datetime | None
    """When it was logged, in UTC; None where that is not known."""


def read_wanted(files: Path, rules: Rules) -> Wanted:
    """What the version with these `files` asks for. Raises EnvironmentRefused, naming file and line."""
    _check_conda(files)
    asked = _requirements(files)
    own = {requirement(line).name: requirement(line) for line in rules.own}
    model = _content(files, MODEL_FILE, _MOST_MODEL_BYTES) or b""
    return Wanted(
        lines=tuple(line for line in asked.lines if requirement(line).name not in own),
        constraints=tuple(
            dict.fromkeys(
                str(requirement(line))
                for line in (*asked.constraints, *rules.bounds)
                if requirement(line).name not in own
            )
        ),
        own_lines=tuple(dict.fromkeys((*_own(own, asked.lines), *_extra(rules)))),
        python=_python(files) or _found(_PYTHON, model),
        created=_created(model),
    )


def _own(own: dict[str, Requirement], asked: Iterable[str]) -> Iterator[str]:
    yield from map(str, own.values())
    for wanted in map(requirement, asked):
        if wanted.extras and (ours := own.get(wanted.name)) is not None:
            wanted.specifier = ours.specifier
            yield str(wanted)


def _extra(rules: Rules) -> Iterator[str]:
    for line in rules.extra:
        try:
            yield str(requirement(line))
        except ValueError as error:
            raise EnvironmentRefused(f"a line of environments.extra {error}") from None


def _requirements(files: Path) -> PlainRequirements:
    text = _content(files, REQUIREMENTS, MOST_BYTES)
    if text is None:
        raise EnvironmentRefused(
            f"it has no {REQUIREMENTS}, which says what it needs: log the version with MLflow 2 or later"
        )

    def read(name: str) -> bytes:
        if (content := _content(files, name, MOST_BYTES)) is None:
            raise EnvironmentRefused(f"{REQUIREMENTS} names {name}, which the version does not have")
        return content

    try:
        return plain_requirements(text, REQUIREMENTS, read)
    except RequirementRefused as error:
        raise EnvironmentRefused(str(error)) from error


def _python(files: Path) -> str:
    written = _mapping(files, PYTHON_ENV).get("python")
    if written is not None and not isinstance(written, str | float):
        # Not to be written out: lists that name each other a few times become gigabytes of text.
        raise EnvironmentRefused(f"{PYTHON_ENV} names no version of Python under `python`")
    return "" if written is None else str(written)


def _created(model: bytes) -> datetime | None:
    try:
        return datetime.fromisoformat(_found(_CREATED, model)).replace(tzinfo=UTC)
    except ValueError:
        return None


def _found(pattern: re.Pattern[bytes], text: bytes) -> str:
    found = pattern.search(text)
    return found[1].decode() if found else ""


def _check_conda(files: Path) -> None:
    listed = _mapping(files, CONDA).get("dependencies")
    names = [_conda_name(one) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    if others := [name for name in names if canonicalize_name(name) not in _OF_EVERY_CONDA]:
        some = ", ".join(redact_line(name, 60) for name in others[:10])
        raise EnvironmentRefused(
            f"{CONDA} lists packages of conda ({some}), which can not be installed here:"
            " log the version with what pip has of them, or serve it in the gateway's own environment"
        )


def _conda_name(line: str) -> str:
    found = _CONDA_NAME.match(line.strip())
    return found[1] if found else line


class _Yaml(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
    """Without merged mappings, `<<: *other`: a few of them become gigabytes, and MLflow writes none."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a mapping is merged", node.start_mark)
        super().flatten_mapping(node)


def _mapping(files: Path, name: str) -> dict[str, Any]:
    """The YAML mapping in a small file of the version; empty where there is no such file."""
    text = _content(files, name, _MOST_YAML_BYTES)
    if text is None:
        return {}
    try:
        written = yaml.load(text, _Yaml)  # noqa: S506 # a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EnvironmentRefused(f"{name} can not be read as YAML") from error
    if not isinstance(written, dict):
        raise EnvironmentRefused(f"{name} is not a mapping")
    return written


def _content(files: Path, name: str, most: int) -> bytes | None:
    """Of a plain file; None where there is none. A link is refused: it may lead to any file of ours."""
    path = files / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentRefused(f"{name} can not be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise EnvironmentRefused(f"{name} is not a plain file")
        if status.st_size > most:
            raise EnvironmentRefused(f"{name} has {status.st_size} bytes; {most} are read at most")
        return file.read(most)
