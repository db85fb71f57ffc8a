"""The cgroups that this process is in: where their files are, for both versions, and what stands in them."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")

Version = Literal[1, 2]


def chains(
    controller: str, mounted: Path = MOUNTED, own: Path = OWN
) -> Iterator[tuple[Version, tuple[Path, ...]]]:
    """For each version: this process's own cgroup, then those above it.

    Both may be there side by side: on a hybrid machine a controller may be in either. `mounted` is where they
    are mounted, `own` names those of this process. Nothing on systems without.
    """
    with suppress(OSError):
        for line in own.read_text().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controller in controllers.split(","):
                # Of controllers that share a tree, each has a link of its name; not in every container.
                alone = mounted / controller
                yield 1, tuple(_own_and_above(alone if alone.is_dir() else mounted / controllers, path))
            elif number == "0" and not controllers:
                unified = mounted / "unified"  # of a hybrid machine
                yield 2, tuple(_own_and_above(unified if unified.is_dir() else mounted, path))


def number(path: Path) -> int | None:
    """None for `max`, which is no limit, and where there is no such file, as in the root of version 2."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _own_and_above(root: Path, path: str) -> Iterator[Path]:
    here = root / path.lstrip("/")
    # A container sees its own cgroup as the root of what is mounted, whatever its name outside is.
    here = here if here.is_dir() and ".." not in here.parts else root
    while here != root:
        yield here
        here = here.parent
    yield root
