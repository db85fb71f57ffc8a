"""Which lines of a version's requirements are accepted, and which of them are exact pins.

A version's files were written by whoever logged it. What installs packages obeys options in such a file, and
puts variables of its environment into addresses there: a version could choose its own index, or send the
index's password to any host. So only names of packages are accepted, with what narrows them; the rest is
refused by the number of its line, whose text is not repeated, because it may hold a password.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

MOST_BYTES = 1 << 20
"""Of one file."""
MOST_CHARACTERS = 1000
"""Of one line."""
MOST_REQUIREMENTS = 2000
"""Of all files together, each as often as it is named."""
MOST_FILES = 10

Read = Callable[[str], bytes]
"""The content of a file of the version's own directory, by its name. May raise OSError."""

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
"""Not with the blanks before it, which would be counted anew from each of them."""
_FILE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s+|\s*=\s*|(?<=-[rc]))(\S.*)")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][A-Za-z0-9-]{0,40})")
_ARCHIVE = re.compile(r"(?i)\.(?:whl|zip|egg|tar|tgz|tar\.(?:gz|bz2|xz|zst))$")
_CONSTRAINTS = ("-c", "--constraint")
_ADDRESS = "is an address or a path; name the package instead, and have the operator's package index hold it"


class RequirementRefused(ValueError):
    """A line, or a file, of a version's requirements is not accepted; the message begins with which."""


@dataclass(frozen=True, slots=True)
class PlainRequirements:
    """What a version asks for: lines such as `scikit-learn==1.5.2`, normalised, each once, in their order."""

    lines: tuple[str, ...]
    """These are installed."""
    constraints: tuple[str, ...]
    """These are not, and narrow what is."""


def plain_requirements(text: bytes, name: str, read: Read) -> PlainRequirements:
    """The lines of `text`, which is the file `name`, and of the files beside it that it names by -r and -c.

    Raises RequirementRefused, naming file and line, for all but plain requirements: a package's name, extras,
    version specifiers and a marker, one a line.
    """
    reader = _Reader(read)
    reader.take(text, name, constraint=False)
    return PlainRequirements(tuple(reader.lines), tuple(reader.constraints))


def requirement(line: str) -> Requirement:
    """The plain requirement in `line`. Raises ValueError, whose text says why it is none."""
    problem = _problem_with(line)
    if problem:
        raise ValueError(problem)
    try:
        parsed = Requirement(line)
        name = canonicalize_name(parsed.name, validate=True)  # the parser takes `0_`, which is no name
    except (InvalidRequirement, ValueError, RecursionError) as error:
        raise ValueError("is not a requirement such as scikit-learn==1.5.2") from error
    if parsed.url is not None:
        raise ValueError(_ADDRESS)
    parsed.name = name
    return parsed


def package_of(line: str) -> str:
    """Normalised name of the package that an accepted line asks for."""
    return requirement(line).name


def unpinned(lines: Iterable[str]) -> tuple[str, ...]:
    """Packages of accepted `lines` that are not pinned to one release, in their order.

    Where there are any, or where packages are installed that no line names, what a version gets is for the
    index to say: `MLFLOW_LOCK_MODEL_DEPENDENCIES=true` logs it with all that it needs, pinned.
    """
    return tuple(dict.fromkeys(wanted.name for wanted in map(requirement, lines) if not _is_pinned(wanted)))


def _is_pinned(wanted: Requirement) -> bool:
    return any(one.operator in ("==", "===") and not one.version.endswith(".*") for one in wanted.specifier)


def _problem_with(line: str) -> str:
    """Why `line` is refused before it is read as a requirement; empty when it is not."""
    if "${" in line or line.startswith("$"):
        return "holds a variable of the environment, which is not filled in"
    if option := _OPTION.search(line):
        # No version specifier and no marker has a word that begins with a dash.
        return f"has the option {option[1]}; which index is asked, and how, is for the operator to say"
    if line.endswith("\\"):
        return "goes on in the next line; a requirement has to be on one"
    is_path = line.startswith((".", "~")) or "/" in line or "\\" in line or _ARCHIVE.search(line) is not None
    return _ADDRESS if is_path or "://" in line else ""


class _Reader:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._files: set[str] = set()
        self._read_lines = 0
        self.lines: dict[str, None] = {}
        self.constraints: dict[str, None] = {}

    def take(self, text: bytes, name: str, *, constraint: bool) -> None:
        if len(text) > MOST_BYTES:
            raise RequirementRefused(f"{name} has {len(text)} bytes; {MOST_BYTES} are read at most")
        self._files.add(name)
        for number, line in enumerate(_text_of(text, name), 1):
            where = f"{name} line {number}"
            if (plain := _plain(line, where)) is not None:
                self._take_line(plain, where, constraint=constraint)

    def _take_line(self, line: str, where: str, *, constraint: bool) -> None:
        if named := _FILE.fullmatch(line):
            self._take_file(named[2], where, constraint=constraint or named[1] in _CONSTRAINTS)
            return
        self._read_lines += 1
        if self._read_lines > MOST_REQUIREMENTS:
            raise RequirementRefused(f"{where} is one too many: {MOST_REQUIREMENTS} are read at most")
        try:
            wanted = requirement(line)
        except ValueError as error:
            raise RequirementRefused(f"{where} {error}") from None
        found = self.constraints if constraint else self.lines
        found[str(wanted)] = None

    def _take_file(self, name: str, where: str, *, constraint: bool) -> None:
        if not _FILE_NAME.fullmatch(name):
            raise RequirementRefused(
                f"{where} names a file that is not beside it; those of the version's own directory are read"
            )
        if name in self._files:
            raise RequirementRefused(f"{where} names {name}, which was read already")
        if len(self._files) == MOST_FILES:
            raise RequirementRefused(f"{where} names one file too many: {MOST_FILES} are read at most")
        try:
            text = self._read(name)
        except OSError as error:
            raise RequirementRefused(f"{where} names {name}: {error.strerror or error}") from error
        self.take(text, name, constraint=constraint)


def _text_of(text: bytes, name: str) -> list[str]:
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise RequirementRefused(f"{name} line {line} is not UTF-8") from error
    return re.split(r"\r\n|\n|\r", decoded)


def _plain(line: str, where: str) -> str | None:
    """The line without its comment; None when nothing is left."""
    if len(line) > MOST_CHARACTERS:
        raise RequirementRefused(f"{where} has {len(line)} characters; {MOST_CHARACTERS} are read at most")
    if not line.replace("\t", " ").isprintable():
        raise RequirementRefused(f"{where} holds a character that is not printable")
    return _COMMENT.sub("", line).strip() or None
