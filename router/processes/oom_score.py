"""Whom the kernel ends first when memory runs out: `oom_score_adj` of this process's children (Linux).

The gateway sets it: a child knows neither the gateway's own value nor when its version becomes production.
Anybody may raise it, and lower it again as far as the value that a privileged process set last, which a child
inherits (proc(5); tried as an ordinary user). The gateway's own value is never touched, and all others are
above it: it goes last.

The kernel adds it to a process's share of the memory, in thousandths. The steps are wide, therefore: a small
canary goes before a production that holds most of the memory. With `memory.oom.group` nothing of this counts.
"""

from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

_PROC = Path("/proc")
_HIGHEST = 1000


class Rank(Enum):
    """How early a child is ended; the value is the part of what can be added to this process's own score."""

    PRODUCTION = 0.1
    """Workers that production answers with."""
    HELPER = 0.8
    """What is started again without a caller's notice: fork server, agent, downloads."""
    FIRST = 1.0
    """Versions that are loading, canaries, spares and workers that were replaced."""


def score(own: int, rank: Rank) -> int:
    """`oom_score_adj` of a child of `rank`, where the gateway's own is `own`; both from -1000 to 1000."""
    span = min(_HIGHEST - own, _HIGHEST)
    return own + round(rank.value * span)


def set_rank(pid: int, rank: Rank) -> None:
    """Rank process `pid`, which must not have been waited for, and what it started; nothing where refused."""
    with suppress(OSError, ValueError):
        value = str(score(int((_PROC / "self" / "oom_score_adj").read_text()), rank))
        for process in _with_descendants(pid):
            with suppress(OSError):  # it has ended, or runs as somebody else
                (_PROC / str(process) / "oom_score_adj").write_text(value)


def _with_descendants(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _with_descendants(int(child))
