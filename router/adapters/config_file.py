"""The configuration file: bytes in, settings out, or every problem at once with its line."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from router.adapters.config_overrides import read_overrides
from router.adapters.config_problems import dotted, sentences
from router.adapters.config_yaml import Document, read_yaml
from router.adapters.config_yaml import Path as YamlPath
from router.errors import ConfigRefused
from router.settings import ServerSettings, Settings

MAX_BYTES = 1 << 20
MAX_PROBLEMS = 100
"""A file that is wrong from top to bottom is told in one screenful or two, not in megabytes."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that is valid as a whole."""

    settings: Settings
    digest: str
    """SHA-256 of the file's bytes, in hexadecimal."""
    notices: tuple[str, ...]
    """Sentences for the operator: values of the file that a variable or a flag hides."""


class ConfigFile:
    """One configuration file with what stands over it; read and parsed anew at every reload."""

    def __init__(
        self, path: str | os.PathLike[str], environ: Mapping[str, str], flags: Mapping[str, str | None]
    ) -> None:
        self.path = Path(path)
        self._overrides = read_overrides(environ, flags)

    def read(self) -> bytes:
        """The file's bytes, at most 1 MiB. Raises ConfigRefused; never waits for a writer."""
        try:
            with open(self.path, "rb", opener=_open_at_once) as file:
                regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                raw = file.read(MAX_BYTES + 1) if regular else b""
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigRefused([self._told(0, (), f"can not be read: {reason}")]) from error
        if not regular:
            raise ConfigRefused([self._told(0, (), "is not a regular file")])
        if len(raw) > MAX_BYTES:
            raise ConfigRefused([self._told(0, (), "is larger than 1 MiB; a configuration is not")])
        return raw

    def parse(self, raw: bytes) -> LoadedConfig:
        """Settings from a file's bytes and what stands over them. Raises ConfigRefused with every problem."""
        document = read_yaml(self.text(raw))
        problems = [(line, self._told(line, path, why)) for line, path, why in document.problems]
        settings, unsaid = None, 0
        if document.root is None and not problems:
            problems.append((0, self._told(0, (), "is empty; it must name at least one registered model")))
        elif document.root is not None and () not in document.unread:
            try:
                settings = Settings.model_validate(self._overrides.over(document.root.plain()))
            except ValidationError as error:
                unsaid = max(0, error.error_count() - MAX_PROBLEMS)
                problems += self._judged(error, document)
        told = [*self._overrides.problems, *dict.fromkeys(line for _, line in sorted(problems))]
        if settings is None or told:
            unsaid += max(0, len(told) - MAX_PROBLEMS)
            more = [f"{self.path.name}: has {unsaid} more problems"] if unsaid else []
            raise ConfigRefused(told[:MAX_PROBLEMS] + more)
        return LoadedConfig(settings, sha256(raw).hexdigest(), self._notices(document))

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

    def _server(self, tree: Mapping[str, Any]) -> ServerSettings:
        return ServerSettings.model_validate(self._overrides.over(tree).get("server") or {})

    def text(self, raw: bytes) -> str:
        """`raw` as text, without a byte order mark. Raises ConfigRefused unless it is UTF-8."""
        if b"\0" in raw:
            raise ConfigRefused([self._told(0, (), "holds NUL bytes; it must be UTF-8 text")])
        try:
            return raw.removeprefix(_BOM).decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigRefused([self._told(line, (), "is not UTF-8 text")]) from error

    def _judged(self, error: ValidationError, document: Document) -> list[tuple[int, str]]:
        problems = []
        for path, sentence in islice(sentences(error), MAX_PROBLEMS):
            # Around what could not be read, a verdict would be about our stand-in and not about the file.
            if any(path[: len(unread)] == unread[: len(path)] for unread in document.unread):
                continue
            if origin := self._overrides.origins.get(path[:2]):
                problems.append((0, f"{origin} {dotted(path)}: {sentence}"))
            else:
                line = document.line(path)
                problems.append((line, self._told(line, path, sentence)))
        return problems

    def _notices(self, document: Document) -> tuple[str, ...]:
        notices = list(self._overrides.hidden)
        for path, origin in self._overrides.origins.items():
            if node := document.node(path):
                notices.append(self._told(node.line, path, f"is hidden by {origin}"))
        return tuple(notices)

    def _told(self, line: int, path: YamlPath, sentence: str) -> str:
        place = f"{self.path.name}:{line}" if line else self.path.name
        return f"{place} {dotted(path)}: {sentence}" if path else f"{place}: {sentence}"


def load_settings(
    path: str | os.PathLike[str], environ: Mapping[str, str], flags: Mapping[str, str | None]
) -> LoadedConfig:
    """The configuration in `path`, under `environ` and `flags`: texts by dotted path, as `server.listen`.

    Raises ConfigRefused with every problem of the file, the environment and the flags.
    """
    file = ConfigFile(path, environ, flags)
    return file.parse(file.read())


def _open_at_once(path: str, flags: int) -> int:
    # Opening a named pipe would otherwise wait until somebody writes into it.
    return os.open(path, flags | os.O_NONBLOCK)
