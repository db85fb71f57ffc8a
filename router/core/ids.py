"""Names of things: aliases as roles, and versions of registered models."""

import re
from dataclasses import dataclass
from typing import NewType

Alias = NewType("Alias", str)
"""A role in the split: `production`, `canary`, or one further alias. Not the registry's spelling of it."""

PRODUCTION = Alias("production")
CANARY = Alias("canary")
"""This one alias. Elsewhere, in names and sentences, a canary is any alias but production, or its version:
what holds for this one holds for a further alias as well."""

PREVIOUS = Alias("previous")
"""The key under which a configuration names the alias of ROLLBACK. A split may have a role of this name."""
ROLLBACK = Alias("@previous")
"""What a rollback of production goes back to: read with the aliases that serve, and never served. No role of
a split can have this name."""

STAGE = "stage:"
"""The registry's name of an alias that is `stage:Production` means the highest version in that stage, in any
case of letters."""

LONGEST_MODEL_NAME = 256
"""Characters of a registered model's name, as in MLflow's database."""
_MODEL_NAME = re.compile(r"[^/:\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def is_model_name(text: str) -> bool:
    """Whether `text` may name a registered model: as MLflow has it, without what ends a line, moves a
    terminal's cursor or is no character; with spaces and joiners of any kind, which are not `isprintable`."""
    named = len(text) <= LONGEST_MODEL_NAME and _MODEL_NAME.fullmatch(text)
    return bool(named) and bool(text.strip()) and text not in (".", "..")


@dataclass(frozen=True, slots=True)
class GatewayId:
    """One gateway among those that serve the same models."""

    process: str
    """16 hexadecimal digits, drawn anew at each start: by them a gateway knows itself among its peers."""
    host: str
    """Its machine, for people."""


@dataclass(frozen=True, slots=True, order=True)
class VersionId:
    """One immutable version of a registered model.

    MLflow numbers versions from 1 per registered model; SQL stores answer `int` and REST answers `str`,
    so whoever reads one from the registry normalises it to `int` first.
    """

    model: str
    number: int

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"
