"""Request keys: the text a request carries to be routed by, or None when it counts as missing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from router.core.routing import MissingKey

MAX_JSON_BYTES = 1 << 20
"""A longer body is not searched for a key: reading one must not hold up every other request."""

_BLANKS = " \t"
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_FIRST_INEXACT = 2.0**63
"""orjson answers an integer outside 64 bits as a float; none of them is smaller than this."""


class KeyKind(StrEnum):
    """Which part of a request carries the key; names as in the configuration."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a request's key is read, and what a request without one gets.

    Raises ValueError when `name` is empty, or is no path although `kind` is json.
    """

    kind: KeyKind
    name: str
    """Name of the header, cookie or query parameter; for json a path such as `user.id` or `rows.0.user`."""
    missing: MissingKey = MissingKey.BODY
    path: tuple[str | int, ...] = field(init=False, compare=False)
    """`name` as steps into a JSON body; empty for the other kinds."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"the {self.kind} that carries the key must be named")
        path = parse_json_path(self.name) if self.kind == KeyKind.JSON else ()
        object.__setattr__(self, "path", path)


def parse_json_path(dotted: str) -> tuple[str | int, ...]:
    """Steps of a dotted path: `user.id` → ("user", "id"), `rows.0.user` → ("rows", 0, "user").

    A decimal step is an index of a list, or that name in an object. Raises ValueError on an empty step and
    on brackets: `rows[0]` would otherwise be a name that no body has, and every key would be missing.
    """
    if "[" in dotted or "]" in dotted:
        raise ValueError(f"write list indexes between dots, as in rows.0.user, not {dotted!r}")
    steps = dotted.split(".")
    if "" in steps:
        raise ValueError(f"names joined by dots, as in user.id, not {dotted!r}")
    return tuple(int(step) if _INDEX.fullmatch(step) else step for step in steps)


def text_key(values: Sequence[bytes | str]) -> str | None:
    """Key from every value of one header or query parameter, in the order they came.

    The first one counts, also when it is empty: an empty key is missing. Bytes are read as UTF-8 with
    surrogateescape, so that what is not UTF-8 hashes as it came.
    """
    if not values:
        return None
    first = values[0]
    text = first.decode("utf-8", "surrogateescape") if isinstance(first, bytes) else first
    return text if text and _encodes(text, "surrogateescape") else None


def cookie_key(lines: Sequence[bytes | str], name: str) -> str | None:
    """Key from the cookie `name` in every `Cookie` line of one request, in the order they came.

    The lines count as if joined by `; `. Of the pairs between semicolons the first of that name counts, and
    its value is all behind the equals sign. Only spaces and tabs around name and value are dropped; quotes,
    escapes and blanks within stay as they came, so that the header alone is enough to recompute a bucket.
    """
    for line in lines:
        text = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else line
        for pair in text.split(";"):
            found, equals, value = pair.partition("=")
            if equals and found.strip(_BLANKS) == name:
                return text_key([value.strip(_BLANKS)])
    return None


def json_key(body: bytes, path: Sequence[str | int]) -> str | None:
    """Key at `path` in a JSON body of at most 1 MiB; None when it is missing, whatever the body is.

    Reads what MLflow reads: NaN, a byte order mark, UTF-16, and of repeated names the last.
    """
    if len(body) > MAX_JSON_BYTES:
        return None
    try:
        found = _walk(orjson.loads(body), path)
    except orjson.JSONDecodeError:
        return key_text(_walk(_python_loads(body), path))
    if isinstance(found, float) and abs(found) >= _FIRST_INEXACT:
        found = _walk(_python_loads(body), path)
    return key_text(found)


def key_text(value: object) -> str | None:
    """A value found in JSON as key text: a string as it is, an integer in decimal, None for all else.

    A string with a lone surrogate is missing too: it has no UTF-8 that another service could hash.
    """
    if isinstance(value, str):
        return value if value and _encodes(value, "strict") else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _encodes(text: str, errors: str) -> bool:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


def _python_loads(body: bytes) -> object:
    try:
        return json.loads(body)
    # ValueError: not JSON, not Unicode, or an integer of over 4 300 digits. A body nested deeper than the
    # interpreter's stack is no one's key, and must not end the request either: the version answers it.
    except (ValueError, RecursionError):
        return None


def _walk(document: object, path: Sequence[str | int]) -> object:
    for step in path:
        if isinstance(document, dict):
            document = document.get(str(step))
        elif isinstance(document, list) and isinstance(step, int):
            document = document[step] if 0 <= step < len(document) else None
        else:
            return None
    return document
