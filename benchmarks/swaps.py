"""What callers notice while an alias moves, and what stays behind after many moves."""

import json
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from benchmarks.load import AliasMover, Loader, Sample
from benchmarks.open_client import NEVER_SENT
from benchmarks.plan import Plan
from benchmarks.processes import Ended
from benchmarks.registry_layout import NEXT, PRODUCTION
from benchmarks.results import Results, Swaps
from benchmarks.servers import Place, Server, gateway
from benchmarks.workloads import write_requests

WORKLOAD = "text"
POLL_SECONDS = 0.5
"""Between two looks of the gateway at the registry: the wait for the next one is not in the window."""
STEADY_SECONDS = 1.0
_REST_SECONDS = 0.5
_SWAP_SECONDS = 30.0
_LOOK_SECONDS = 0.02

Window = tuple[float, float]
"""Begin and end on the monotonic clock."""


def measure(plan: Plan, place: Place, loader: Loader, results: Results) -> None:
    """Move production to new versions, one by one, under requests on schedule. Raises Ended."""
    requests = place.directory / "swaps.requests"
    write_requests(requests, WORKLOAD, 1)
    swaps = Swaps(plan.swap_rate)
    steady: list[Window] = []
    moving: list[Window] = []
    limit = plan.swap_limit_seconds + 3 * (STEADY_SECONDS + _SWAP_SECONDS)
    with (
        gateway(WORKLOAD, place, poll_seconds=POLL_SECONDS) as server,
        AliasMover(place.directory, loader.core).ready() as mover,
        loader.open_loop(server.port, requests, plan.swap_rate, limit) as load,
    ):
        time.sleep(STEADY_SECONDS)
        ends_at = time.monotonic() + plan.swap_limit_seconds
        old = PRODUCTION
        for new in range(NEXT, NEXT + plan.swaps):
            began = time.monotonic()
            if began > ends_at:
                results.skipped.append(f"alias moves from the {new - PRODUCTION - 1}th on: no time left")
                break
            time.sleep(STEADY_SECONDS)
            steady.append((began, time.monotonic()))
            try:
                moving.append(_move(mover, server, old, new))
            except Ended as ended:
                results.broken.append(f"the move to version {new}: {ended}")
                break
            old = new
            time.sleep(_REST_SECONDS)
            swaps.levels.append(server.tree.level())
    statuses = Counter(status for _, _, status in load.samples)
    swaps.never_sent = statuses.pop(NEVER_SENT, 0)
    swaps.sent = statuses.total()
    swaps.failed = sum(count for status, count in statuses.items() if not 200 <= status < 300)
    swaps.steady_ms, swaps.window_ms = _inside(load.samples, steady), _inside(load.samples, moving)
    swaps.window_seconds = [end - begin for begin, end in moving]
    results.swaps = swaps


def _move(mover: AliasMover, server: Server, old: int, new: int) -> Window:
    known = server.log.stat().st_size
    mover.move(WORKLOAD, "production", new)
    ends_at = time.monotonic() + _SWAP_SECONDS
    # The log is read, not the gateway asked: questions would be part of what is measured.
    while (window := _window(server.log, known, old, new)) is None:
        server.tree.alive()
        if time.monotonic() > ends_at:
            raise Ended(f"production did not move within {_SWAP_SECONDS:g} s: {server.tree.tail()}")
        time.sleep(_LOOK_SECONDS)
    return window


def _window(log: Path, known: int, old: int, new: int) -> Window | None:
    """From the line that names the new version to the one that says the old one is gone."""
    to_monotonic = time.monotonic() - time.time()
    noticed = None
    with log.open("rb") as source:
        source.seek(known)
        for line in source:
            if not (line.startswith(b"{") and line.endswith(b"\n")):
                continue
            reported = json.loads(line)
            at = datetime.fromisoformat(reported["timestamp"]).timestamp() + to_monotonic
            what = (reported["event"], reported.get("version"))
            if what == ("the registry names another version", new):
                noticed = at
            elif what == ("version gone", old) and noticed is not None:
                return noticed, at
    return None


def _inside(samples: list[Sample], windows: list[Window]) -> list[float]:
    return [
        milliseconds
        for due_at, milliseconds, _ in samples
        if any(begin <= due_at < end for begin, end in windows)
    ]
