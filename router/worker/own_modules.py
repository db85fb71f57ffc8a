"""Takes the name `router` from our own modules in a process that holds a version."""

import sys
from types import ModuleType

_hidden: list[ModuleType] = []  # kept, because freeing them would copy the pages that all workers share


def hide_own_modules() -> None:
    """Leave the name `router` to the version. All that is needed of ours has to be imported before."""
    # Models ship modules named `router` too.
    names = [name for name in sys.modules if name == "router" or name.startswith("router.")]
    _hidden.extend(sys.modules.pop(name) for name in names)
