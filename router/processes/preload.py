"""Libraries that the fork server imports once before it forks the first worker that needs them.

All workers then share their memory and none waits for the import again. Only what was seen to survive a fork
after its import, and starts no thread, is listed here.
"""

import re
from pathlib import Path

from packaging.utils import canonicalize_name

_MODULES = {
    # 0.9 s and 40 MB, and its versions load ten times faster.
    "scikit-learn": (
        "mlflow.sklearn",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.pipeline",
        "sklearn.compose",
    ),
}
_MOST_BYTES = 1 << 16
_NAME = re.compile(rb"^[ \t]*([A-Za-z0-9._-]+)", re.MULTILINE)


def modules_for(directory: Path) -> tuple[str, ...]:
    """Modules to import for the version whose files are in `directory`, by the requirements logged with it.

    Reads the disk. None when there are no requirements to be read: then its worker imports what it needs.
    """
    try:
        with (directory / "requirements.txt").open("rb") as file:
            names = {
                canonicalize_name(name.decode("ascii")) for name in _NAME.findall(file.read(_MOST_BYTES))
            }
    except OSError:
        return ()
    return tuple(module for library, modules in _MODULES.items() if library in names for module in modules)
