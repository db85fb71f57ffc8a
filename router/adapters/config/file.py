"""The configuration: a file's bytes and what stands over them in, settings out, or every problem at once."""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from hashlib import sha256
from itertools import islice
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.adapters.config.yaml import Document, read_yaml, scalar
from router.adapters.config.yaml import Path as YamlPath
from router.core.environment_variables import opens_store, refusal
from router.errors import ConfigRefused
from router.processes.small_files import open_at_once
from router.settings import LogSettings, RegistrySettings, ServerSettings, Settings, state_directory
from router.settings.fields import did_you_mean
from router.settings.gateway import PINNED_TWICE

MAX_BYTES = 1 << 20
MAX_PROBLEMS = 100
"""A file that is wrong from top to bottom gets a screenful or two of them, not megabytes."""
_UNREADABLE_PIN = "holds what is no plain text on this line; put each key in quotes"
_BOM = b"\xef\xbb\xbf"

PREFIX = "CANARY_ROUTER_"
SERVING_MODEL_CONFIG = "SERVING_MODEL_CONFIG"
"""Variable from which MLflow's own scoring server takes the model_config of its one model, as JSON."""
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


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that is valid as a whole."""

    settings: Settings
    digest: str
    """SHA-256 of the file's bytes, in hexadecimal."""
    notices: tuple[str, ...]
    """Sentences for the operator: values of the file that a variable or a flag hides, and what variables open
    that the file hands to versions."""


class ConfigFile:
    """One configuration file with what stands over it; read and parsed anew at every reload."""

    def __init__(
        self, path: str | os.PathLike[str], environ: Mapping[str, str], flags: Mapping[str, str | None]
    ) -> None:
        self.path = Path(path)
        self._environ = environ
        self._overrides = read_overrides(environ, flags)

    def read(self) -> bytes:
        """The file's bytes, at most 1 MiB. Raises ConfigRefused; never waits for a writer."""
        try:
            with open(self.path, "rb", opener=open_at_once) as file:
                regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                raw = file.read(MAX_BYTES + 1) if regular else b""
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigRefused([self._at(0, (), f"can not be read: {reason}")]) from error
        if not regular:
            raise ConfigRefused([self._at(0, (), "is not a regular file")])
        if len(raw) > MAX_BYTES:
            raise ConfigRefused([self._at(0, (), "is larger than 1 MiB; a configuration is not")])
        return raw

    def parse(self, raw: bytes) -> LoadedConfig:
        """Settings from a file's bytes and what stands over them. Raises ConfigRefused with every problem."""
        document = read_yaml(self.text(raw))
        problems = [
            (line, self._at(line, *_without_pins(path, why))) for line, path, why in document.problems
        ]
        settings, unsaid = None, 0
        if document.root is None and not problems:
            problems.append((0, self._at(0, (), "is empty; it must name at least one registered model")))
        elif document.root is not None and () not in document.unread:
            try:
                settings = Settings.model_validate(self._overrides.over(document.root.plain()))
            except ValidationError as error:
                unsaid = max(0, error.error_count() - MAX_PROBLEMS)
                problems += self._rejected(error, document)
        if settings is not None:
            problems += self._unfit_variables(settings, document)
        found = [*self._overrides.problems, *dict.fromkeys(line for _, line in sorted(problems))]
        if settings is None or found:
            unsaid += max(0, len(found) - MAX_PROBLEMS)
            more = [f"{self.path.name}: has {unsaid} more problems"] if unsaid else []
            raise ConfigRefused(found[:MAX_PROBLEMS] + more)
        return LoadedConfig(settings, sha256(raw).hexdigest(), self._notices(settings, document))

    def server(self) -> ServerSettings:
        """The section `server`, and what stands over it, whatever is wrong elsewhere in the file.

        Where the file's own section can not be read or used, only what stands over it counts. Raises
        ConfigRefused when that is not valid either.
        """
        with suppress(ConfigRefused, ValidationError):
            document = read_yaml(self.text(self.read()))
            written = document.root.plain() if document.root else {}
            if not any(path[:1] in ((), ("server",)) for path in document.unread):
                return self._server({"server": written.get("server")})
        try:
            return self._server({})
        except ValidationError as error:
            raise ConfigRefused([sentence for _, sentence in sentences(error)]) from error

    def state_directory(self) -> Path | None:
        """Where the gateway of this file keeps its state, whatever is wrong with the models in it.

        None where there is no place for it. Raises ConfigRefused where something is wrong with what decides
        that, the sections `server` and `registry`: nobody knows the directory then.
        """
        document = read_yaml(self.text(self.read()))
        problems = [self._at(line, path, why) for line, path, why in document.problems]
        written = document.root.plain() if document.root else {}
        sections = ("server", "registry")
        if any(not path or path[0] in sections for path in document.unread):
            raise ConfigRefused(problems)
        if strangers := written.keys() - Settings.model_fields.keys():  # one of the sections, misspelled
            raise ConfigRefused([self._at(0, (), f"has sections nobody knows: {', '.join(strangers)}")])
        try:
            tree = self._overrides.over({name: written.get(name) for name in sections})
            server = ServerSettings.model_validate(tree["server"] or {})
            registry = RegistrySettings.model_validate(tree["registry"] or {})
        except ValidationError as error:
            raise ConfigRefused([sentence for _, sentence in sentences(error)]) from error
        return state_directory(server, registry, self._environ)

    def _server(self, tree: Mapping[str, Any]) -> ServerSettings:
        return ServerSettings.model_validate(self._overrides.over(tree).get("server") or {})

    def text(self, raw: bytes) -> str:
        """`raw` as text, without a byte order mark. Raises ConfigRefused unless it is UTF-8."""
        if b"\0" in raw:
            raise ConfigRefused([self._at(0, (), "holds NUL bytes; it must be UTF-8 text")])
        try:
            return raw.removeprefix(_BOM).decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigRefused([self._at(line, (), "is not UTF-8 text")]) from error

    def _rejected(self, error: ValidationError, document: Document) -> list[tuple[int, str]]:
        problems = list(islice(self._pinned_twice(error, document), MAX_PROBLEMS))
        for path, sentence in islice(sentences(error), MAX_PROBLEMS):
            # Around what could not be read, a problem would be about our stand-in and not about the file.
            if any(path[: len(unread)] == unread[: len(path)] for unread in document.unread):
                continue
            if origin := self._overrides.origins.get(path[:2]):
                problems.append((0, f"{origin} {dotted(path)}: {sentence}"))
            else:
                line = document.line(path)
                problems.append((line, self._at(line, path, sentence)))
        return problems

    def _pinned_twice(self, error: ValidationError, document: Document) -> Iterator[tuple[int, str]]:
        for detail in error.errors(include_url=False):
            if detail["type"] != PINNED_TWICE:
                continue
            for model, first, again in detail["ctx"]["conflicts"]:
                former, path = (("models", model, "pins", *place) for place in (first, again))
                line = document.line(path)
                before = f"line {document.line(former)}, where it is pinned to {first.alias}"
                yield line, self._at(line, path, f"is the same key as on {before}")

    def _unfit_variables(self, settings: Settings, document: Document) -> Iterator[tuple[int, str]]:
        """Listed variables that this environment makes unfit: they open its registry, or are no text."""
        addresses = settings.registry.addresses(self._environ)
        for path, name in _listed_variables(settings):
            why = refusal(name, addresses)
            if not why and not _is_text(self._environ.get(name, "")):
                why = "is not UTF-8 text in this environment"
            if why:
                line = document.line(path)
                yield line, self._at(line, path, f"{name} {why}")

    def _variable_notices(self, settings: Settings, document: Document) -> Iterator[str]:
        for path, name in _listed_variables(settings):
            if name not in self._environ:
                yield self._at(document.line(path), path, f"{name} is not set, so no version gets it")
            elif opens_store(name):
                what = f"{name} may open the artifact store, which every version of {path[1]} can then use"
                yield self._at(document.line(path), path, what)

    def _notices(self, settings: Settings, document: Document) -> tuple[str, ...]:
        notices = list(self._overrides.hidden)
        for path, origin in self._overrides.origins.items():
            if node := document.node(path):
                notices.append(self._at(node.line, path, f"is hidden by {origin}"))
        notices.extend(self._variable_notices(settings, document))
        models = document.root.plain().get("models") if document.root else None
        if self._overrides.serving_model_config is not None and models:
            path = ("models", first := next(iter(models)), "model_config")
            if node := document.node(path):
                notices.append(self._at(node.line, path, f"stands over {SERVING_MODEL_CONFIG}"))
            else:
                notices.append(
                    f"{SERVING_MODEL_CONFIG} is the model_config of {first}, and of no other model"
                )
        return tuple(notices)

    def _at(self, line: int, path: YamlPath, sentence: str) -> str:
        place = f"{self.path.name}:{line}" if line else self.path.name
        return f"{place} {dotted(path)}: {sentence}" if path else f"{place}: {sentence}"


def _without_pins(path: YamlPath, why: str) -> tuple[YamlPath, str]:
    """The same, without what may be a pinned key: a caller's name, which no problem shows."""
    if path[:1] != ("models",) or path[2:3] != ("pins",):
        return path, why
    # Of two entries of one name only a line is said.
    return path[:3], why if why.startswith("is written twice") else _UNREADABLE_PIN


def _listed_variables(settings: Settings) -> Iterator[tuple[YamlPath, str]]:
    for model, wanted in settings.models.items():
        for index, name in enumerate(wanted.environment_variables):
            yield ("models", model, "environment_variables", index), name


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_settings(
    path: str | os.PathLike[str], environ: Mapping[str, str], flags: Mapping[str, str | None]
) -> LoadedConfig:
    """The configuration in `path`, under `environ` and `flags`: texts by dotted path, as `server.listen`.

    Raises ConfigRefused with every problem of the file, the environment and the flags.
    """
    file = ConfigFile(path, environ, flags)
    return file.parse(file.read())


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values by path that stand over the file's."""

    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    origins: dict[YamlPath, str] = field(default_factory=dict)
    """Who says it: the variable's name, or the command line."""
    hidden: list[str] = field(default_factory=list)
    """Sentences about variables that a flag hides."""
    problems: list[str] = field(default_factory=list)
    serving_model_config: dict[str, Any] | None = None
    """Of MLflow's variable: `model_config` of the first model, where the file has none."""

    def over(self, tree: Any) -> Any:
        """`tree`, the file's content, with these values in it; what is no mapping stays as it is."""
        if not isinstance(tree, dict):
            return tree
        merged = dict(tree)
        for (section, key), value in self.values.items():
            before = merged.get(section)
            if before is None or isinstance(before, dict):
                merged[section] = {**(before or {}), key: value}
        models = merged.get("models")
        if self.serving_model_config is not None and isinstance(models, dict) and models:
            first = next(iter(models))
            written = {} if models[first] is None else models[first]
            if isinstance(written, dict) and "model_config" not in written:
                added = {**written, "model_config": self.serving_model_config}
                merged["models"] = {**models, first: added}
        return merged


def read_overrides(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Overrides:
    """Overrides from `environ` and from `flags`, texts by dotted path; a flag that is None was not given."""
    overrides = Overrides()
    if text := environ.get(SERVING_MODEL_CONFIG):
        overrides = _with_model_config(text)
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


def _with_model_config(text: str) -> Overrides:
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        return Overrides(
            problems=[f"{SERVING_MODEL_CONFIG}: must be a JSON object, as MLflow's server takes it"]
        )
    return Overrides(serving_model_config=config)


def _value(section: str, key: str, text: str) -> Any:
    # A variable is text; it is a number, or true or false, only where the key wants that.
    typed = _SECTIONS[section].model_fields[key].annotation in (int, float, bool)
    return scalar(text) if typed or text == "null" else text


def sentences(error: ValidationError) -> Iterator[tuple[YamlPath, str]]:
    """YamlPath and sentence of every single error."""
    for detail in error.errors(include_url=False):
        if detail["type"] == PINNED_TWICE:
            continue  # whose lines are said where the document is known
        # pydantic marks an error of a mapping's key so; the key's place is the entry's.
        path = tuple(step for step in detail["loc"] if step != "[key]")
        yield path, _sentence(path, detail)


def dotted(path: YamlPath) -> str:
    """`path` as it is shown; a step that would be misread stands in quotes, a long one is cut."""
    return ".".join(step if _PLAIN.fullmatch(step) else repr(step)[:80] for step in map(str, path))


def _sentence(path: YamlPath, detail: ErrorDetails) -> str:
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


def _place(path: YamlPath) -> dict[str, Any]:
    """The part of the JSON Schema that describes `path`; empty where it says nothing."""
    root = _schema()
    place = root
    for step in path:
        if isinstance(step, int):  # an item of a list; where one may stand alone, it has the keys of that
            place = _resolved(place["items"], root) if "items" in place else place
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
