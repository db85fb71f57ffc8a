"""A bounded memory for what is compiled per set of column names."""

from collections.abc import Iterable
from typing import Any

_REMEMBERED = 256
_NAMES_CHARACTERS = 10_000


class Remembered(dict[Any, Any]):
    """What was compiled for column names, by names; bounded, because callers invent them."""

    def keep(self, names: Iterable[str], key: Any, value: Any) -> None:
        """Remember `value` by `key`, unless the names are very long; forgets all when there is too much."""
        if sum(map(len, names)) <= _NAMES_CHARACTERS:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = value
