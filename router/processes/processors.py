"""How many processors this process and its children may use."""

import os
from functools import cache
from pathlib import Path

from router.processes.cgroups import MOUNTED, OWN, chains, number


@cache
def processors() -> int:
    """Processors it may run on, or as many as its cgroups' quota comes to, whichever is less; at least 1.

    As it was when this was first asked: workers are not loaded anew because a quota changed.
    """
    return usable_processors(_allowed())


def usable_processors(allowed: int, mounted: Path = MOUNTED, own: Path = OWN) -> int:
    """`allowed` or the tightest quota of this process's cgroups, of both versions, rounded up; at least 1."""
    quotas = [
        quota
        for version, cgroups in chains("cpu", mounted, own)
        for cgroup in cgroups
        if (quota := (_quota_v1 if version == 1 else _quota_v2)(cgroup)) is not None
    ]
    return max(1, min([allowed, *quotas]))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota_v1(cgroup: Path) -> int | None:
    quota, period = number(cgroup / "cpu.cfs_quota_us"), number(cgroup / "cpu.cfs_period_us")
    return _rounded_up(quota, period) if quota is not None and period is not None else None


def _quota_v2(cgroup: Path) -> int | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return _rounded_up(int(quota), int(period))
    except (OSError, ValueError):  # `max` is no quota
        return None


def _rounded_up(quota: int, period: int) -> int | None:
    return -(-quota // period) if quota > 0 and period > 0 else None  # -1 is no quota
