"""YAML for others: `serve deploy` and `kubectl` read YAML 1.1, where `on` and 12:30:45 are no texts."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.resolver import VersionedResolver

from router.core.version_manifests import NotRendered

_WIDTH = 4096


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # yaml has no types
    """Without anchors. Quoted is also what YAML 1.2 takes for a number, and what PyYAML would not read as it
    writes it, such as the line break U+0085 between single quotes."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        is_plain = data.isprintable() and (data[:1].isalpha() or data.startswith("/"))
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if is_plain else '"')


class _AsWritten(VersionedResolver):
    """Takes `on`, 1e400 and all else without quotes for texts, which are printed as they were written; only
    where nothing is written there is no text."""

    @property
    def versioned_resolver(self) -> dict[str, Any]:
        return {"": [("tag:yaml.org,2002:null", re.compile("$"))]}


_Dumper.add_representer(str, _Dumper.represent_text)


def printed(documents: Sequence[Any]) -> str:
    """These documents, in the order of their keys."""
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text


def read(path: Path) -> Any:
    """What YAML 1.1 makes of a file. Raises NotRendered, naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise NotRendered(f"{path} can not be read: {_why(error)}") from error
    if content is None:
        # The shell empties a file that is printed into before anything runs.
        raise NotRendered(f"{path} is empty: print into another file than the one of --beside")
    return content


def with_more(path: Path, key: str, more: Sequence[Any]) -> str:
    """The text of `path`, comments and all, with `more` at the end of the list under `key`.

    Raises NotRendered where anything that it has would be read otherwise than before.
    """
    meant = read(path)
    meant[key] = [*meant[key], *more]
    kept = YAML()
    kept.Resolver = _AsWritten
    kept.preserve_quotes = True
    kept.width = _WIDTH
    kept.representer.ignore_aliases = lambda *_: True
    out = io.StringIO()
    try:
        document = kept.load(path)
        if more:
            document[key].extend(kept.load(printed([list(more)])))
        kept.dump(document, out)
        found = yaml.safe_load(out.getvalue())
    except (YAMLError, yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise NotRendered(f"{path} can not be added to: {_why(error)}") from error
    # By their texts: 1, 1.0 and True are equal, and NaN is not itself.
    if repr(found) != repr(meant):
        raise NotRendered(f"{path} can not be added to without a change of what it has: add to it by hand")
    return out.getvalue()


def _why(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return getattr(error, "strerror", None) or type(error).__name__
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or type(error).__name__}"
