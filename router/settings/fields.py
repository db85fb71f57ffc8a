"""Single values of the configuration: what an operator may write, and what is made of it.

Validators raise ValueError with a sentence for that operator; the adapter puts file, line and path before it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

STRICT = ConfigDict(
    extra="forbid",
    strict=True,
    frozen=True,
    use_attribute_docstrings=True,
    protected_namespaces=(),  # pydantic 2.9 keeps every name that begins with model_ for itself
)


class Reload(StrEnum):
    """When a changed key takes effect."""

    HOT = "hot"  # as soon as the change is seen
    COLD = "cold"  # at a restart; a reload that holds such a change is refused whole
    REBUCKETING = "rebucketing"  # callers may change alias: not before an operator asks for the reload


@dataclass(frozen=True, slots=True)
class _Mark:
    reload: Reload

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "x-reload": self.reload.value}


HOT, COLD, REBUCKETING = _Mark(Reload.HOT), _Mark(Reload.COLD), _Mark(Reload.REBUCKETING)
"""Every key wears one of these in its annotation; the diff of two configurations reads it there."""


def reload_of(metadata: Iterable[Any]) -> Reload:
    """The mark among a field's metadata. Raises StopIteration for a field without one."""
    return next(mark.reload for mark in metadata if isinstance(mark, _Mark))


def made_from(written: Any, make: Callable[[Any], Any], **schema: Any) -> GetPydanticSchema:
    """A field validated as `written`, then made into its own type; `schema` is added to its JSON Schema."""

    def core(_source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(make, handler.generate_schema(written))

    def json(core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), **schema}

    return GetPydanticSchema(core, json)


def _section(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    def made(value: Any) -> Any:
        return source() if value is None else value

    return core_schema.no_info_after_validator_function(made, core_schema.nullable_schema(handler(source)))


SECTION = GetPydanticSchema(_section)
"""A mapping that may be left empty: `server:` with every key commented out means the defaults."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean …?` when `word` looks like a misspelling of one of `known`, else an empty text."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:100].lower(), by_lower, n=1)
    return f", did you mean `{by_lower[close[0]]}`?" if close else ""


T = TypeVar("T")


def each_once(names: list[T]) -> list[T]:
    """`names`, of which none stands there twice; else ValueError."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"must name {twice} once")
    return names


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


# Bounds stand before the conversion, next to the type they bound: JSON Schema has no word for them elsewhere.
as_float = BeforeValidator(_as_float)
"""Makes a float of the file's exact decimals."""
Finite = Annotated[float, Field(allow_inf_nan=False), as_float]
Seconds = Annotated[float, Field(allow_inf_nan=False, gt=0, le=86_400), as_float]
SecondsOrNone = Annotated[float, Field(allow_inf_nan=False, ge=0, le=86_400), as_float]
SecondsOfExchange = Annotated[float, Field(allow_inf_nan=False, ge=0.1, le=60), as_float]
Gibibytes = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1_000_000), as_float]
Share = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1), as_float]
Text = Annotated[str, Field(min_length=1)]
Effects = Literal["left_out", "allowed"]
"""Whether versions that may act elsewhere when they are asked get requests that the gateway repeats."""


HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[0-9A-Za-z._-]+)):(?P<port>[0-9]{1,5})")
"""An address as it is written, IPv6 in brackets. Which ports are allowed is for its user to check."""


def _address(value: Any) -> tuple[str, int]:
    match = HOST_AND_PORT.fullmatch(str(value))
    if not isinstance(value, str) or match is None or int(match["port"]) > 65_535:
        raise ValueError("must be host:port, such as 127.0.0.1:8081 or [::1]:8081")
    return match["v6"] or match["name"], int(match["port"])


def is_loopback(host: str) -> bool:
    """True for `localhost` and for addresses that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ADDRESS = WithJsonSchema(
    {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._-]+):[0-9]{1,5}$"}
)
Address = Annotated[tuple[str, int], PlainValidator(_address), _ADDRESS]
"""Written `host:port`, IPv6 in brackets; port 0 lets the system choose."""


def is_local_registry(uri: str) -> bool:
    """Whether the registry at `uri` is a file or a folder of this machine."""
    scheme, colon, _ = uri.partition(":")
    return scheme.partition("+")[0].lower() in ("sqlite", "file") or (
        not colon and uri not in ("databricks", "databricks-uc", "uc")
    )


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_ROOT = re.compile(r"/.*|[a-z][a-z0-9+.-]*:/.*")


def _listed(value: Any) -> Any:
    # A variable of the environment is text: its commas make the list.
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _scheme(name: str) -> str:
    if not _SCHEME.fullmatch(name) or name in ("file", "models", "runs"):
        raise ValueError(
            "must be a scheme of artifact stores, such as s3 or https; local files go under `artifact_roots`"
        )
    return name


def _root(root: str) -> str:
    if not _ROOT.fullmatch(root) or ".." in root.split("/"):
        raise ValueError(
            "must be an absolute directory or an address such as s3://bucket/models, without `..`"
        )
    return root


Schemes = Annotated[list[Annotated[Text, AfterValidator(_scheme)]], BeforeValidator(_listed)]
"""Lower-case, without the colon; a list, or a text with commas."""
Roots = Annotated[list[Annotated[Text, AfterValidator(_root)]], BeforeValidator(_listed)]
"""Absolute; a list, or a text with commas."""
