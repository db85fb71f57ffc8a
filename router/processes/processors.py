"""How many processors this process and its children may use, and how busy those are."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil

from router.core.idle_share import ProcessorReading
from router.processes.cgroups import MOUNTED, OWN, Version, chains, number

T = TypeVar("T")


@cache
def processors() -> int:
    """Processors it may run on, or as many as its cgroups' quota comes to, whichever is less; at least 1.

    As it was when this was first asked: workers are not loaded anew because a quota changed.
    """
    return usable_processors(_allowed())


def usable_processors(allowed: int, mounted: Path = MOUNTED, own: Path = OWN) -> int:
    """`allowed` or the tightest quota of this process's cgroups, of both versions, rounded up; at least 1."""
    quotas = [
        -(-quota // period)
        for version, cgroups in chains("cpu", mounted, own)
        for cgroup in cgroups
        if (bandwidth := _bandwidth(version, cgroup)) is not None
        for quota, period in [bandwidth]
    ]
    return max(1, min([allowed, *quotas]))


def read_processors(mounted: Path = MOUNTED, own: Path = OWN) -> ProcessorReading:
    """What the processors that this process may run on have done since the machine started, and its cgroups
    within their quotas. Takes half a millisecond."""
    # Time of guests is in that of users as well.
    times = [
        (each.idle + getattr(each, "iowait", 0.0), sum(each) - sum(each[8:10]))
        for each in _own(psutil.cpu_times(percpu=True))
    ]
    return ProcessorReading(
        sum(idle for idle, _ in times), sum(whole for _, whole in times), tuple(_used(mounted, own))
    )


def _used(mounted: Path, own: Path) -> Iterator[tuple[float, float]]:
    """Of each cgroup with a quota: processor seconds that it used, and how many processors it may use."""
    # Of version 1 the quota and what was used may be in two trees.
    accounts: dict[Version, tuple[Path, ...]] = {
        version: cgroups for version, cgroups in chains("cpuacct", mounted, own) if version == 1
    }
    for version, cgroups in chains("cpu", mounted, own):
        for cgroup, account in zip(cgroups, accounts.get(version, cgroups), strict=False):
            if (bandwidth := _bandwidth(version, cgroup)) is None:
                continue
            used = _used_v1(account) if version == 1 else _used_v2(cgroup)
            if used is not None:
                yield used, bandwidth[0] / bandwidth[1]


def _used_v1(cgroup: Path) -> float | None:
    nanoseconds = number(cgroup / "cpuacct.usage")
    return None if nanoseconds is None else nanoseconds / 1e9


def _used_v2(cgroup: Path) -> float | None:
    with suppress(OSError, ValueError):
        for line in (cgroup / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
    return None


def _own(each: Sequence[T]) -> Sequence[T]:
    """Those of all processors that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):  # as on macOS
        return each
    return [each[one] for one in sorted(os.sched_getaffinity(0)) if one < len(each)] or each


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bandwidth(version: Version, cgroup: Path) -> tuple[int, int] | None:
    """Microseconds of processors that a cgroup has in a period of so many; None: no quota."""
    if version == 1:
        quota, period = number(cgroup / "cpu.cfs_quota_us"), number(cgroup / "cpu.cfs_period_us")
    else:
        try:
            quota, period = map(int, (cgroup / "cpu.max").read_text().split())
        except (OSError, ValueError):  # `max` is no quota
            return None
    if quota is None or period is None or quota <= 0 or period <= 0:  # -1 is no quota
        return None
    return quota, period
