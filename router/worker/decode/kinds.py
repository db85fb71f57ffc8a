"""What a column may hold, and which JSON values become its cells without a doubt."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

_NONE = type(None)
EXACT = 2**53
"""Beyond it, integers and floats of 64 bits are not the same numbers, and a float32 may be rounded twice."""


class Kind(Enum):
    """What a column holds."""

    TEXT = "str"
    BOOLEAN = "bool"
    INTEGER = "int32"
    LONG = "int64"
    FLOAT = "float32"
    DOUBLE = "float64"


TYPES: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset((str, _NONE)),
    Kind.BOOLEAN: frozenset((bool,)),
    Kind.INTEGER: frozenset((int,)),
    Kind.LONG: frozenset((int,)),
    Kind.FLOAT: frozenset((float, int, _NONE)),
    Kind.DOUBLE: frozenset((float, int, _NONE)),
}
"""The JSON values of a column for which every way of MLflow ends in the same cells."""


def fits(kind: Kind, values: Sequence[Any], types: set[type]) -> bool:
    """Whether a column's values, at least one and of these types, become cells without a doubt."""
    if not types <= TYPES[kind]:
        return False
    if kind is Kind.TEXT:
        return str in types  # a column without any text is no column of texts
    if kind is Kind.LONG:
        return bool(max(values) < 2**63)
    if kind is Kind.INTEGER:
        return bool(min(values) >= -(2**31) and max(values) < 2**31)
    if kind is Kind.FLOAT:
        return all(value is None or -EXACT <= value <= EXACT for value in values)
    return True
