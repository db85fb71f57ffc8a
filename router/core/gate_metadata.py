"""What a version must have beside its files, so that one can ask later where it comes from and by what it
was judged. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan

DESCRIPTION = "description"
HOLDOUT = "holdout"
"""Among what is required: a record of an examination on a hold-out. The only one that is no metadata."""
KINDS = ("params", "tags", "metrics")
_NAME = re.compile(rf"(?:{'|'.join(KINDS)})\.(?P<key>.+)")


def check_required(name: str) -> str:
    """`name` where it may be required: `params.KEY`, `tags.KEY`, `metrics.KEY`, `description` or `holdout`.
    Raises ValueError with a sentence."""
    if name not in (DESCRIPTION, HOLDOUT) and (not _NAME.fullmatch(name) or not name.isprintable()):
        kinds = ", ".join(f"{kind}.NAME" for kind in KINDS)
        raise ValueError(f"must be {kinds}, {DESCRIPTION} or {HOLDOUT}")
    return name


def metadata_in(required: Iterable[str]) -> tuple[str, ...]:
    """Of what is required, what a registry or a tracking server has to know."""
    return tuple(name for name in required if name != HOLDOUT)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a registry and a tracking server know of a version, its run or its LoggedModel."""

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""

    def missing(self, required: Iterable[str]) -> tuple[str, ...]:
        """Those of `required` that are not there, or empty: a text of white space, a metric that is NaN."""
        return tuple(name for name in required if not self._has(name))

    def _has(self, name: str) -> bool:
        kind, _, key = name.partition(".")
        if kind == "metrics":
            return not isnan(self.metrics.get(key, float("nan")))
        texts = {"params": self.params, "tags": self.tags}.get(kind, {})
        return bool((self.description if name == DESCRIPTION else texts.get(key, "")).strip())
