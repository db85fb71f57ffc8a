"""What the registry names for one registered model, as of one instant.

One read of the registered model names all aliases at once, and the highest version of each stage. It also
reads every version, which takes seconds where there are many: above MANY_VERSIONS aliases are read one by
one.
"""

from collections.abc import Collection, Sequence
from typing import Any

from mlflow.exceptions import MlflowException, RestException

from router.core.ids import STAGE

MANY_VERSIONS = 1000
"""A version's number; where none is higher, one read of all is as fast as a read per alias."""
_ROUNDS = 5
"""Reads of the same aliases that may differ; each is an alias that moved in milliseconds."""
_LAST_VERSION = 2**63 - 1  # no frame carries a longer number
_ABSENT = "INVALID_PARAMETER_VALUE"
_UNSEARCHABLE = ("INVALID_PARAMETER_VALUE", "NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND", "FEATURE_DISABLED")
_RESERVED = "latest"
"""No alias can have this name; asked by alias, it is the highest version."""

Named = dict[str, dict[str, int]]
"""`aliases`: versions by alias, and `stages`: by lower-case name of a stage. What names none is absent."""


class Poll:
    """Reads of one registry; it remembers which registered models have many versions."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    def read(self, client: Any, model: str, names: Sequence[str]) -> Named:
        """The versions of those of `names` that exist, aliases or `stage:…`, as they were at one instant.

        `names` begins with the one that matters most. Raises MLflow's errors, ConnectionError and ValueError.
        """
        stages = {name.removeprefix(STAGE).lower() for name in names if name.startswith(STAGE)}
        if (highest := self._highest.get(model)) is None:
            highest = _highest_version(client, model)
        # No registry can be searched by stage; who uses stages pays for the whole read.
        if highest > MANY_VERSIONS and not stages:
            self._highest[model] = highest
            return {"aliases": _one_by_one(client, model, names), "stages": {}}
        found = client.get_registered_model(model)
        # MLflow reads an empty 200 as an empty object: which must not look like "no aliases".
        if found.name != model:
            raise ConnectionError(f"the registry's answer is about {found.name!r}")
        self._highest[model] = max([highest, *(_number(each.version) for each in found.latest_versions)])
        return {"aliases": _aliases(found, names), "stages": _stages(found, stages)}


def _highest_version(client: Any, model: str) -> int:
    """The highest version of `model`, by a read of that one; 0 where the registry can not be asked so."""
    quote = '"' if "'" in model else "'"
    if quote in model:
        return 0
    try:
        found = client.search_model_versions(f"name={quote}{model}{quote}", 1, ["version_number DESC"])
    except MlflowException as error:
        # One that gives no answer at all is not asked again: that would take twice as long.
        if isinstance(error, RestException) or error.error_code in _UNSEARCHABLE:
            return 0
        raise
    return max((_number(version.version) for version in found), default=0)


def _one_by_one(client: Any, model: str, names: Sequence[str]) -> dict[str, int]:
    """All of `names` at one instant: the first is read between two reads of the others that agree."""
    first, *rest = dict.fromkeys(names)
    before = {name: _alias(client, model, name) for name in rest}
    for _ in range(_ROUNDS):
        number = _alias(client, model, first)
        after = {name: _alias(client, model, name) for name in rest}
        if before == after:
            return {name: one for name, one in {first: number, **after}.items() if one is not None}
        before = after
    raise ConnectionError(f"the aliases of {model} moved during each of {_ROUNDS} reads")


def _alias(client: Any, model: str, name: str) -> int | None:
    if name.lower() == _RESERVED:
        return None
    try:
        found = client.get_model_version_by_alias(model, name)
    except MlflowException as error:
        if error.error_code == _ABSENT:
            return None
        raise
    if found.name != model:
        raise ConnectionError(f"the registry's answer is about {found.name!r}")
    return _number(found.version)


def _aliases(found: Any, names: Collection[str]) -> dict[str, int]:
    return {name: _number(version) for name, version in found.aliases.items() if name in names}


def _stages(found: Any, wanted: Collection[str]) -> dict[str, int]:
    """The highest version of each stage in `wanted`."""
    stages: dict[str, int] = {}
    for version in found.latest_versions:
        stage = str(version.current_stage).lower()
        if stage in wanted:
            stages[stage] = max(_number(version.version), stages.get(stage, 0))
    return stages


def _number(version: Any) -> int:
    """Versions are int on SQL stores and str over REST. Raises ValueError for what no registry gives."""
    number = int(version)
    if not 1 <= number <= _LAST_VERSION:
        raise ValueError(f"the registry's answer names the version {number}, which cannot exist")
    return number
