"""What processes hold over time, and how fast it grows: medians per minute, and a slope with its doubt."""

import statistics
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import psutil

from tests.faults.background_thread import BackgroundThread

LOOK_SECONDS = 2.0
ONE_SIDED_95 = 1.645
"""Of the normal distribution: the true slope is above the lower end in 95 of 100 runs."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth in MiB per hour: Theil and Sen's median of all pairs, which no outlier moves."""

    typical: float
    least: float
    """The true slope is above this one in 95 of 100 runs, as far as minutes are independent."""
    most: float

    def __str__(self) -> str:
        return f"{self.typical:+.2f} MiB/h ({self.least:+.2f} to {self.most:+.2f})"


def slope_of(points: list[tuple[float, float]]) -> Slope:
    """Of `(seconds, bytes)`, at least four; the interval is Sen's, from the rank of Kendall's S."""
    slopes = sorted((b - a) / (t - s) * 3600 / (1 << 20) for (s, a), (t, b) in combinations(points, 2))
    count = len(points)
    spread = ONE_SIDED_95 * (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
    low = max(0, int((len(slopes) - spread) / 2))
    return Slope(statistics.median(slopes), slopes[low], slopes[-1 - low])


class Levels(BackgroundThread):
    """Looks at some processes, by name, every two seconds until the block's end."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        super().__init__()
        self.processes = processes
        self.resident: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        self.lost: set[str] = set()
        """Processes that ended while they were looked at."""

    def minutes(self, name: str, minute_seconds: float = 60.0) -> list[tuple[float, float]]:
        """`(seconds, median resident bytes)` of each whole minute after the first third, the warm-up."""
        points = self.resident[name]
        began, ended = points[0][0], points[-1][0]
        warm_at = began + (ended - began) / 3
        by_minute: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        for at, value in points:
            if at >= warm_at:
                by_minute[int((at - warm_at) // minute_seconds)].append((at, value))
        whole = [held for held in by_minute.values() if held[-1][0] - held[0][0] > 0.8 * minute_seconds]
        return [
            (statistics.median(at for at, _ in held), statistics.median(value for _, value in held))
            for held in whole
        ]

    def work(self) -> None:
        while not self.stop.wait(LOOK_SECONDS):
            for name, process in self.processes.items():
                try:
                    self.resident[name].append((time.monotonic(), process.memory_info().rss))
                except psutil.NoSuchProcess:
                    self.lost.add(name)


@dataclass(frozen=True, slots=True)
class Held:
    """What a gateway and its children hold at one instant, when nobody asks for anything."""

    descriptors: dict[str, int]
    """By name of process; of two with one name, the sum."""
    threads: dict[str, int]
    temporary: tuple[str, ...]
    """Everything in the directory for temporary files, and every download that is not finished."""


def held(gateway: psutil.Process, temporary: Path, cache: Path) -> Held:
    """What is held now. A download that runs at this moment is left out.

    So are the threads of workers: each has one for a start, and those it predicts in from its first request.
    """
    descriptors: defaultdict[str, int] = defaultdict(int)
    threads: defaultdict[str, int] = defaultdict(int)
    for process in [gateway, *gateway.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            name = "gateway" if process == gateway else process.name()
            if name != "router-fetch":
                descriptors[name] += process.num_fds()
                if name != "router-worker":
                    threads[name] += process.num_threads()
    parts = [str(path.relative_to(cache)) for path in cache.rglob("*.part*")]
    entries = sorted([*(path.name for path in temporary.iterdir()), *parts])
    return Held(dict(descriptors), dict(threads), tuple(entries))
