"""The keys of a registered model that are mappings themselves: split, key, aliases, pins."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from router.core.ids import CANARY, PREVIOUS, PRODUCTION, STAGE, Alias
from router.core.keys import KeyKind, KeySource, parse_json_path
from router.core.pins import MOST_PINS, PinLists, check_pin
from router.core.routing import MissingKey
from router.core.split import Split
from router.settings.fields import STRICT, Text, did_you_mean, made_from

_STAGES = ("None", "Staging", "Production", "Archived")


def check_percent(value: Any) -> Decimal:
    """`value` as exact percent in [0, 100], in steps of 0.001; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number of percent, such as 5 or 0.125, without quotes or a percent sign")
    # str() first: Decimal(0.1) is not a tenth, Decimal("0.1") is what was written.
    exact = Decimal(str(value))
    if not exact.is_finite() or not 0 <= exact <= 100:
        raise ValueError(f"must be between 0 and 100 percent, not {value}")
    if exact.quantize(Decimal("0.001")) != exact:
        raise ValueError("must be a multiple of 0.001 percent")
    return exact


def read_percent(text: str) -> Decimal:
    """The same of a text, as commands and addresses have it; else ValueError."""
    try:
        return check_percent(Decimal(text))
    except InvalidOperation:
        raise ValueError("must be a number of percent, such as 5 or 0.125") from None


def _role(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", name):
        raise ValueError("must be a role: letters, digits, _ and -, at most 64 of them")
    if name in (PRODUCTION, CANARY) or re.match(r"(production|canary)[0-9_-]", name):
        return name
    # A further alias may have any name, but hardly one letter away from the two that exist.
    if close := get_close_matches(name.lower(), (PRODUCTION, CANARY), n=1, cutoff=0.75):
        raise ValueError(f"unknown key, did you mean `{close[0]}`?")
    return name


def _split(percentages: Mapping[str, Decimal]) -> Split:
    if PRODUCTION not in percentages:
        raise ValueError("must name production; what the registry calls it is said under `aliases`")
    return Split.from_percentages(percentages)


_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
_Role = Annotated[str, PlainValidator(_role), WithJsonSchema({"type": "string"})]
_Percent = Annotated[Decimal, PlainValidator(check_percent), WithJsonSchema(_PERCENT)]
SplitField = Annotated[
    Split,
    made_from(
        dict[_Role, _Percent],
        _split,
        properties={
            "production": {**_PERCENT, "description": "Percent of the keys that production answers."},
            "canary": {**_PERCENT, "description": "Percent of the keys that the canary answers."},
        },
        additionalProperties={**_PERCENT, "description": "Percent of the keys of one further alias."},
        required=["production"],
        maxProperties=3,
    ),
]
"""Percent by role, in steps of 0.001, exactly 100 in all; becomes whole buckets."""


def _token(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("must be a name of letters, digits and any of -_.!#$%&'*+^`|~")
    return name


def _json_path(dotted: str) -> str:
    parse_json_path(dotted)
    return dotted


class WrittenKey(BaseModel):
    """Where a request's key is read: exactly one of header, cookie, query and json."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={"oneOf": [{"required": [kind.value]} for kind in KeyKind]}
    )

    header: Annotated[Text, AfterValidator(_token)] | None = None
    """Name of the request header that holds the key."""
    cookie: Annotated[Text, AfterValidator(_token)] | None = None
    """Name of the cookie that holds the key."""
    query: Text | None = None
    """Name of the query parameter that holds the key."""
    # Not `json`: every pydantic model has a method of that name.
    json_path: Annotated[Text, AfterValidator(_json_path)] | None = Field(default=None, alias="json")
    """Dotted names and list indexes into a JSON body, such as user.id; read from bodies up to 1 MiB."""
    missing: Literal["body", "production", "reject"] = "body"
    """What a request without a key gets: a share by its body's bytes, production, or a refusal."""


def _key(written: WrittenKey) -> KeySource:
    names = zip(KeyKind, (written.header, written.cookie, written.query, written.json_path), strict=True)
    sources = [(kind, name) for kind, name in names if name is not None]
    if len(sources) != 1:
        raise ValueError("must name exactly one of header, cookie, query and json")
    return KeySource(*sources[0], MissingKey(written.missing))


KeyField = Annotated[KeySource, made_from(WrittenKey, _key)]


def _registry_name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError("must be an alias in the registry, or stage: and the name of a stage")
    if name.startswith(STAGE):
        stage = name.removeprefix(STAGE)
        if stage.lower() not in {known.lower() for known in _STAGES}:
            hint = did_you_mean(stage, _STAGES)
            raise ValueError(f"no such stage{hint or ': MLflow has ' + ', '.join(_STAGES)}")
        return name
    # MLflow's own rules: a name it can not hold is refused here, not found missing at every poll.
    if not re.fullmatch(r"[\w\-]{1,255}", name):
        raise ValueError("must be an alias of letters, digits, _ and -, or stage: and the name of a stage")
    if name.lower() == "latest" or re.fullmatch(r"[vV]\d+", name):
        raise ValueError(f"`{name}` is reserved by MLflow: no alias is called latest, or v and a number")
    return name


@dataclass(frozen=True, eq=False)
class AliasNames(Mapping[Alias, str]):
    """The registry's name of each role of a split; and, beside them, of the alias that a rollback goes to."""

    roles: Mapping[Alias, str]
    previous: str
    """An alias that is read and never served."""

    def __getitem__(self, role: Alias) -> str:
        return self.roles[role]

    def __iter__(self) -> Iterator[Alias]:
        return iter(self.roles)

    def __len__(self) -> int:
        return len(self.roles)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AliasNames) and self.previous != other.previous:
            return False
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as of any mapping


_RegistryName = Annotated[str, PlainValidator(_registry_name), WithJsonSchema({"type": "string"})]
AliasesField = Annotated[AliasNames, made_from(dict[_Role, _RegistryName], dict)]


def complete_aliases(written: Mapping[Alias, str], split: Split) -> AliasNames:
    """The registry's name of every role in `split`; a role that is not `written` has its own name there.

    `previous` is no role of most splits: then it names the alias that a rollback goes to. Raises ValueError
    for any other role that `split` does not have, for a role whose own name is reserved, and for a
    `previous` that is a stage, or has the name of a role.
    """
    roles = split.shares()
    for role in written:
        if role not in roles and role != PREVIOUS:
            raise ValueError(f"{role} is not in the split; name it there too, with 0 percent if it waits")
    names = {role: _registry_name(written.get(role, role)) for role in roles}
    if PREVIOUS in roles or PREVIOUS not in written:
        # Not the name of an alias that serves: a promotion would move it.
        return AliasNames(names, f"{PREVIOUS}-production" if PREVIOUS in names.values() else PREVIOUS)
    previous = written[PREVIOUS]
    if previous.startswith(STAGE):
        raise ValueError("previous must be an alias: what was production before is marked by no stage")
    if taken := [role for role, name in names.items() if name == previous]:
        raise ValueError(f"previous must have a name of its own, and {previous} is {taken[0]}")
    return AliasNames(names, previous)


# A problem of a pin says where it stands, and never what: keys are callers' names. So each value is looked at
# before pydantic does, whose sentences show what was written.


def _pin(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError("must be a key as text; quotes make it text")
    return check_pin(key)


def _pins_of_role(keys: Any) -> Any:
    if keys is None:  # every one of them is commented out
        return []
    if not isinstance(keys, list):
        raise ValueError("must be a list of keys, such as [qa-1, qa-2]")
    return keys


_Pin = Annotated[str, PlainValidator(_pin)]
_PinsOfRole = Annotated[
    list[_Pin],
    BeforeValidator(_pins_of_role),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MOST_PINS}),
]


def _pin_lists(written: Mapping[Alias, list[str]]) -> PinLists:
    return PinLists({role: tuple(keys) for role, keys in written.items()})


PinsField = Annotated[PinLists, made_from(dict[Alias, _PinsOfRole], _pin_lists)]
"""Lists of keys by role; what is checked beforehand is `check_pinned_roles`."""


def check_pinned_roles(written: Any, split: Split) -> Any:
    """`written` where it maps roles of `split`; else ValueError, which does not show what was written."""
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise ValueError("must be a mapping of roles to lists of keys, such as {canary: [qa-1]}")
    roles = split.shares()
    if unknown := [role for role in written if role not in roles]:
        close = get_close_matches(str(unknown[0])[:100].lower(), roles, n=1, cutoff=0.75)
        hint = f"; did you mean `{close[0]}`?" if close else f": {', '.join(roles)}"
        raise ValueError(f"must name roles of the split only{hint}")
    return written
