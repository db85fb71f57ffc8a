"""The key `shadow` of a registered model: copies of production's requests go to versions that have time."""

from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict

from router.core.ids import PRODUCTION, Alias
from router.core.split import Split, whole_buckets
from router.settings.fields import STRICT, Effects, Finite, Share
from router.settings.mappings import check_percent

_PERCENT: JsonDict = {"type": "number", "minimum": 0, "maximum": 100}
_Percent = Annotated[Decimal, PlainValidator(check_percent), WithJsonSchema(_PERCENT)]
_OF_EACH: JsonDict = {
    **_PERCENT,
    "description": "Percent of all keys whose requests are copied to this role.",
}


def _describe(schema: JsonDict) -> None:
    properties = schema["properties"]
    assert isinstance(properties, dict), "those of the settings"
    schema |= {"properties": {"canary": _OF_EACH, **properties}, "additionalProperties": _OF_EACH}


class ShadowSettings(BaseModel):
    """Percent of all keys by role, but production, and when copies are sent."""

    # Its other keys are roles, as those of `split` are.
    model_config = STRICT | ConfigDict(extra="allow", json_schema_extra=_describe)
    __pydantic_extra__: dict[str, _Percent]

    cut_off: Finite | None = None
    """Where a score becomes a decision; null: the middle of the range that scores are counted in."""
    min_idle: Share = 0.2
    """Share of the processors, 0 to 1, that has to have been idle over the last 10 s."""
    effects: Effects = "left_out"
    """left_out: no copies go to versions that may act elsewhere when they are asked, agents and those with
    env_vars, for that would repeat what they do, and its bills. allowed: they do."""

    @property
    def shares(self) -> Mapping[Alias, int]:
        """Buckets, of 100 000, by alias."""
        return {
            Alias(name): whole_buckets(name, percent) for name, percent in self.__pydantic_extra__.items()
        }


def check_shadowed_roles(written: Any, split: Split) -> Any:
    """`written` where its keys are roles of `split` but production, or settings; else ValueError."""
    if not isinstance(written, dict):
        return written  # what it is instead is pydantic's to say
    roles = [role for role in split.shares() if role != PRODUCTION]
    if PRODUCTION in written:
        raise ValueError("production is what the others are compared with: name them only")
    known = [*roles, *ShadowSettings.model_fields]
    if unknown := [str(key)[:100] for key in written if key not in known]:
        close = get_close_matches(unknown[0].lower(), known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"roles of the split are: {', '.join(roles)}"
        raise ValueError(f"`{unknown[0]}` is neither a role of the split nor a setting; {hint}")
    return written
