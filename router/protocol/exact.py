"""Values of one type and range, from a sender that is not trusted. Each raises TypeError or ValueError."""

import math
from typing import Any, TypeVar

NAME_CHARACTERS = 256
TEXT_CHARACTERS = 2000
Kind = TypeVar("Kind")


def exactly(kind: type[Kind], value: Any) -> Kind:
    """`value`, which is of that very type; true is no number here."""
    if type(value) is not kind:
        raise TypeError(f"not of type {kind.__name__}")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if (type(value) is not float and type(value) is not int) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def amount(value: Any) -> float:
    """A finite number of zero or more."""
    if (type(value) is not float and type(value) is not int) or not 0 <= value < math.inf:
        raise ValueError("not a finite number of zero or more")
    return float(value)


def name(value: Any) -> str:
    """At most 256 printable characters."""
    text = exactly(str, value)
    if len(text) > NAME_CHARACTERS or not text.isprintable():
        raise ValueError("not a name")
    return text


def line(value: Any) -> str:
    """At most 2000 characters; spaces for what could be a control sequence on an operator's terminal."""
    text = exactly(str, value)
    if len(text) > TEXT_CHARACTERS:
        raise ValueError("too long a text")
    return "".join(character if character.isprintable() else " " for character in text)
