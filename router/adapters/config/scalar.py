"""What a word of the configuration means when no quotes make it text: YAML 1.2's core schema."""

import re
from decimal import Decimal

Scalar = str | int | Decimal | bool | None

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


def scalar(text: str) -> Scalar:
    """What unquoted `text` means in YAML 1.2's core schema; hexadecimal and octal stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text
