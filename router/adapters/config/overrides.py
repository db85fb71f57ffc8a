"""What is said over the file. Order: flag, then environment, then file, then default."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from router.adapters.config.scalar import scalar
from router.adapters.config.yaml import Path
from router.settings import LogSettings, RegistrySettings, ServerSettings
from router.settings.fields import did_you_mean

PREFIX = "CANARY_ROUTER_"
_SECTIONS: dict[str, type[BaseModel]] = {
    "server": ServerSettings,
    "registry": RegistrySettings,
    "log": LogSettings,
}
_KEYS = {
    f"{PREFIX}{section.upper()}__{key.upper()}": (section, key)
    for section, model in _SECTIONS.items()
    for key in model.model_fields
}
_NOT_KEYS = frozenset({f"{PREFIX}CONFIG", f"{PREFIX}SERVER__ADMIN_TOKEN"})
"""Read by the command line; and a secret, which has no place in the file."""
# Kubernetes sets these in every pod beside a Service named canary-router; they are not ours.
_SERVICE_LINK = re.compile(
    rf"{PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values by path that stand over the file's."""

    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    """Who says it: the variable's name, or the command line."""
    hidden: list[str] = field(default_factory=list)
    """Sentences about variables that a flag hides."""
    problems: list[str] = field(default_factory=list)

    def over(self, tree: Any) -> Any:
        """`tree`, the file's content, with these values in it; what is no mapping stays as it is."""
        if not isinstance(tree, dict):
            return tree
        merged = dict(tree)
        for (section, key), value in self.values.items():
            before = merged.get(section)
            if before is None or isinstance(before, dict):
                merged[section] = {**(before or {}), key: value}
        return merged


def read_overrides(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Overrides:
    """Overrides from `environ` and from `flags`, texts by dotted path; a flag that is None was not given."""
    overrides = Overrides()
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _NOT_KEYS or _is_service_link(name):
            continue
        if name in _KEYS:
            overrides.values[_KEYS[name]] = _value(*_KEYS[name], environ[name])
            overrides.origins[_KEYS[name]] = name
        elif name.startswith(f"{PREFIX}MODELS__"):
            overrides.problems.append(f"{name}: models are configured in the file only")
        else:
            hint = did_you_mean(name, _KEYS)
            overrides.problems.append(f"{name}: unknown variable{hint or '; unset it'}")
    for path, text in flags.items():
        if text is None:
            continue
        section, key = path.split(".")
        if (section, key) in overrides.origins:
            overrides.hidden.append(f"{overrides.origins[section, key]} is hidden by the command line")
        overrides.values[section, key] = _value(section, key, text)
        overrides.origins[section, key] = "the command line"
    return overrides


def _is_service_link(name: str) -> bool:
    return "__" not in name and _SERVICE_LINK.fullmatch(name) is not None


def _value(section: str, key: str, text: str) -> Any:
    # A variable is text; it is a number only where the key wants one.
    numeric = _SECTIONS[section].model_fields[key].annotation in (int, float)
    return scalar(text) if numeric or text == "null" else text
