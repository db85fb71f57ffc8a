"""Indexes as uv's configuration has them: only there can be said what it keeps of their answers.

Many indexes do not say how long a file may be kept, so that uv asks again for the metadata of each release
that it knows already: half of all its requests, and more than half of the time that a resolution takes. A
file of an index does not change under its name. The pages that list a package's files do, and are asked for
each time, whatever the index says: one that was kept for some minutes may lack what was uploaded before a
version was logged, and what replicas with other pages resolve for it.
"""

import json
from collections.abc import Iterator, Mapping

_PYPI = "https://pypi.org/simple"
_KEPT = 'cache-control = { api = "no-cache", files = "max-age=365000000, immutable" }'
"""Of pages, and of files: what PyPI says of its own."""
_DEFAULTS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_EXTRA = ("UV_INDEX", "UV_EXTRA_INDEX_URL")


def index_configuration(variables: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The indexes of `variables`, which are uv's own, as text of its configuration (TOML) with the passwords
    that their addresses hold; and what is left of `variables`.

    Their order is uv's: the extra ones, then the default one, which is PyPI where none is named.
    """
    default = next((variables[name] for name in _DEFAULTS if name in variables), _PYPI)
    extra = (address for name in _EXTRA for address in variables.get(name, "").split())
    tables = [*(_table(address) for address in extra), [*_table(default), "default = true"]]
    text = "".join("[[index]]\n" + "".join(f"{line}\n" for line in table) for table in tables)
    return text, {name: value for name, value in variables.items() if name not in (*_DEFAULTS, *_EXTRA)}


def _table(address: str) -> list[str]:
    return [*_place(address), _KEPT]


def _place(address: str) -> Iterator[str]:
    # `corp=https://…`, as uv reads it: what has a colon in it is no name.
    name, equals, place = address.partition("=")
    if equals and ":" not in name and "/" not in name:
        yield f"name = {_quoted(name)}"
        address = place
    yield f"url = {_quoted(address)}"


def _quoted(text: str) -> str:
    # What JSON escapes, TOML has, too; of all else nothing but DEL would have to be.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
