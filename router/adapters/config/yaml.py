"""YAML 1.2 as the configuration uses it: plain data with the line of every key, and nothing clever.

Anchors, aliases, merge keys, tags, directives and a second document are problems, not features: none of them
is needed, and each lets a file say something else than it shows. Values are read by the core schema, numbers
with a point as Decimal, so that a percentage is what was written.

ruamel parses; the tree is built here, from its events: docs/decisions/0017 says why its own round trip is not
used.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

Path = tuple[str | int, ...]
Scalar = str | int | Decimal | bool | None
MAX_DEPTH = 16
"""Nesting of mappings and lists; the configuration needs five."""

_CONSTANTS: dict[str, Scalar] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), Decimal("NaN")),
    **{
        sign + word: Decimal(f"{sign}Infinity")
        for sign in ("", "+", "-")
        for word in (".inf", ".Inf", ".INF")
    },
}
# Lengths are bounded: a number of a million digits takes minutes to become one.
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,4})?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Problem(NamedTuple):
    """One thing that keeps the file from being used."""

    line: int
    """Counted from 1; 0 when it is about the whole file."""
    path: Path
    sentence: str


@dataclass(frozen=True, slots=True)
class Node:
    """One value and where it stands in the text."""

    value: "dict[str, Node] | list[Node] | Scalar"
    line: int
    """Line of its key or list item, counted from 1."""
    start: int
    end: int
    """Characters [start, end) of the text; of a block mapping, from its first key on."""
    flow: bool
    """Written in braces or brackets."""
    key_end: int = 0
    """Where its key ends; 0 for what has none."""

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """A file's one document; `root` is None when there is nothing but comments."""

    root: Node | None
    problems: list[Problem]
    """Why the file can not be used, as far as YAML goes."""
    unread: frozenset[Path]
    """Where `root` does not hold what the file says, because of a problem; judging it there would mislead."""

    def node(self, path: Path) -> Node | None:
        """The node at `path`, if there is one."""
        node = self.root
        for step in path:
            if node is None:
                return None
            if isinstance(node.value, dict):
                node = node.value.get(str(step))
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node

    def line(self, path: Path) -> int:
        """Line of `path` or of the nearest mapping around it that is in the file; 0 when none is."""
        for length in range(len(path), 0, -1):
            if node := self.node(path[:length]):
                return node.line
        return 0


class _Stop(Exception):
    """Reading on would be of no use; its argument is the problem."""


def read_yaml(text: str) -> Document:
    """Read `text`. Never raises: what can not be read is among the problems."""
    reader = _Reader(text)
    root = None
    try:
        root = reader.document()
    except _Stop as stop:
        reader.problems.append(stop.args[0])
        reader.unread.add(())
    return Document(root, reader.problems, frozenset(reader.unread))


def scalar(text: str) -> Scalar:
    """What unquoted `text` means in YAML 1.2's core schema; hexadecimal and octal stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def _events(text: str) -> Iterator[Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise _Stop(_syntax_problem(error, text)) from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _Stop(Problem(0, (), f"is not valid YAML: {reason}")) from error


def _syntax_problem(error: MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    last = text.count("\n") + (not text.endswith("\n"))
    line = min(mark.line + 1, last) if mark else 0
    since = ""
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        since = f" ({error.context} that begins on line {error.context_mark.line + 1})"
    found = str(error.problem or error.context)
    if "'\\t'" in found:
        found = "a tab stands where YAML takes spaces only"
    return Problem(line, (), f"is not valid YAML: {found}{since}")


class _Reader:
    """Builds nodes from parser events, so that nothing is ever constructed that a file names."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self.unread: set[Path] = set()
        self._events = _events(text)

    def document(self) -> Node | None:
        """The first document, or None when there is none."""
        root, documents = None, 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                line = event.start_mark.line + 1
                if documents > 1:
                    self._note(line, (), "begins a second document; a configuration is one")
                    break
                if event.version or event.tags:
                    self._note(line, (), "follows a % directive; directives are not accepted")
                root = self._node(next(self._events), (), line)
        return root

    def _note(self, line: int, path: Path, sentence: str) -> None:
        self.problems.append(Problem(line, path, sentence))

    def _skip(self, line: int, path: Path, sentence: str) -> None:
        self._note(line, path, sentence)
        self.unread.add(path)

    def _node(self, event: Event, path: Path, line: int) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, AliasEvent):
            self._skip(line, path, f"is the alias *{event.anchor}; anchors and aliases are not accepted")
            return Node(None, line, start, end, flow=False)
        # The parser has no other events where a value may stand.
        assert isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent)
        if event.anchor is not None:
            self._note(line, path, f"has the anchor &{event.anchor}; anchors and aliases are not accepted")
        if event.tag is not None:
            self._skip(line, path, "has a tag; tags such as !!python/object are not accepted")
        if len(path) > MAX_DEPTH:
            raise _Stop(Problem(line, path[:3], f"is nested more than {MAX_DEPTH} levels deep"))
        if isinstance(event, ScalarEvent):
            return Node(self._scalar(event, path, line), line, start, end, flow=False)
        read = self._mapping if isinstance(event, MappingStartEvent) else self._sequence
        value, end = read(path)
        return Node(value, line, start, end, flow=bool(event.flow_style))

    def _scalar(self, event: ScalarEvent, path: Path, line: int) -> Scalar:
        if _UNPRINTABLE.search(event.value):
            self._skip(line, path, "holds a control character or half of one; neither is of use here")
            return None
        return scalar(event.value) if event.style is None else str(event.value)

    def _sequence(self, path: Path) -> tuple[list[Node], int]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), event.start_mark.line + 1))
        return items, event.end_mark.index

    def _mapping(self, path: Path) -> tuple[dict[str, Node], int]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, path, line)
            node = self._node(next(self._events), (*path, key or "?"), line)
            if key in entries:
                first = entries[key].line
                self._skip(line, (*path, key), f"is written twice; the first one is on line {first}")
            elif key is not None:
                entries[key] = replace(node, key_end=event.end_mark.index)
        return entries, event.end_mark.index

    def _key(self, event: Event, path: Path, line: int) -> str | None:
        """The key's text, or None, and a problem, when it is none."""
        # The step keeps keys that are mappings with keys that are mappings… from nesting without end.
        key = self._node(event, (*path, "?"), line).value
        if isinstance(event, ScalarEvent) and event.style is None and key == "<<":
            problem = "has a merge key, <<; merging is not accepted"
        elif isinstance(key, str):
            return key
        else:
            shown = event.value[:40] if isinstance(event, ScalarEvent) else "a mapping or a list"
            problem = f"has a key that is not text, {shown!r}; quotes make it text"
        self._note(line, path, problem)
        self.unread.add((*path, "?"))
        return None
