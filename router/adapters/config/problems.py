"""Validation errors in the words of somebody who edits the file."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from math import isfinite, isnan
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from router.adapters.config.yaml import Path
from router.settings import Settings
from router.settings.fields import did_you_mean

_PLAIN = re.compile(r"[\w\-]{1,80}")
_SENTENCES = {
    "string_type": "must be text, not {shown}",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number, not {shown}",
    "int_from_float": "must be a whole number, not {shown}",
    "float_type": "must be a number, not {shown}",
    "bool_type": "must be true or false, not {shown}",
    "finite_number": "must be a finite number, not {shown}",
    "greater_than": "must be greater than {gt}, not {shown}",
    "greater_than_equal": "must be at least {ge}, not {shown}",
    "less_than_equal": "must be at most {le}, not {shown}",
    "model_type": "must be a mapping of keys, not {shown}",
    "dict_type": "must be a mapping of keys, not {shown}",
    "list_type": "must be a list, not {shown}",
    "too_short": "must have {min_length} items, not {actual_length}",
    "too_long": "must have {max_length} items, not {actual_length}",
    "missing": "is missing",
}


def sentences(error: ValidationError) -> Iterator[tuple[Path, str]]:
    """Path and sentence of every single error."""
    for detail in error.errors(include_url=False):
        # pydantic marks an error of a mapping's key so; the key's place is the entry's.
        path = tuple(step for step in detail["loc"] if step != "[key]")
        yield path, _sentence(path, detail)


def dotted(path: Path) -> str:
    """`path` as it is shown; a step that would be misread stands in quotes, a long one is cut."""
    return ".".join(step if _PLAIN.fullmatch(step) else repr(step)[:80] for step in map(str, path))


def _sentence(path: Path, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        known = sorted(_place(path[:-1]).get("properties", {}))
        return f"unknown key{did_you_mean(str(path[-1]), known) or '; here it may be ' + ', '.join(known)}"
    if kind == "literal_error":
        known = [str(word) for word in _place(path).get("enum", [])]
        written = detail["input"]
        hint = did_you_mean(written, known) if isinstance(written, str) else ""
        return f"must be one of {', '.join(known)}, not {shown(written)}{hint}"
    if path == ("models",) and (kind == "missing" or not detail["input"]):
        return "must name at least one registered model, such as `models: {sentiment: {}}`"
    template = _SENTENCES.get(kind, detail["msg"].replace("{", "{{").replace("}", "}}"))
    limits = {name: f"{limit:g}" for name, limit in context.items() if isinstance(limit, int | float)}
    return template.format(shown=shown(detail["input"]), **limits)


def shown(value: Any) -> str:
    """`value` in a few words, as YAML spells it."""
    if isinstance(value, str):
        return f'the text "{value if len(value) <= 40 else value[:39] + "…"}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, float | Decimal) and not isfinite(value):
        return ".nan" if isnan(value) else ".inf" if value > 0 else "-.inf"
    return str(value)


def _place(path: Path) -> dict[str, Any]:
    """The part of the JSON Schema that describes `path`; empty where it says nothing."""
    root = _schema()
    place = root
    for step in path:
        if isinstance(step, int):  # an item of a list has the keys of the one that may stand alone
            continue
        inside = place.get("properties", {}).get(step, place.get("additionalProperties"))
        place = _resolved(inside, root) if isinstance(inside, dict) else {}
    return place


@cache
def _schema() -> dict[str, Any]:
    return Settings.model_json_schema()


def _resolved(place: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """`place` behind its reference and its permission to be null."""
    for choice in place.get("anyOf", []):
        if choice.get("type") != "null":
            return _resolved(choice, root)
    if reference := place.get("$ref"):
        return dict(root["$defs"][reference.rpartition("/")[2]])
    return place
