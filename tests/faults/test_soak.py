"""Row 30 of the promises: everything at once for a long time, and what is left of it."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest

from router.processes.disk import MOST_THREADS
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.faults.levels import Held, Levels, held, slope_of
from tests.faults.mixed_clients import BODY_LIMIT_MIB, MOST_ROWS, MixedClients
from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load, Seen
from tests.support.registry import Registry
from tests.support.waiting import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
GOOD, BROKEN, TOUCHY = (1, 2, 5), (3, 4), 7
"""Versions that answer, that do not load, and one that raises at some requests."""
MODEL = "  sentiment: {{split: {{production: {}, canary: {}}}, max_rows: {}}}\n"
NOTICED_SECONDS = 0.1
LIMIT_MIB = int(os.environ.get("SOAK_MEMORY_MIB", "1500"))
"""Of the gateway and all its children: room for both versions, and for their next ones beside them."""
MOST_MIB_PER_HOUR = 1.0
SLOPE_SECONDS = 3600.0
"""In a shorter run 1 MiB per hour looks like one arena of the allocator: there the ends are compared."""
MOST_MIB = 1.0
"""Between the first minute after the warm-up and the last."""


@pytest.fixture
def start(
    limited: Callable[[int], Sequence[str]], registry: Registry, tmp_path: Path
) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts a gateway below the memory limit."""
    with gateways(tmp_path, registry.uri, POLL_SECONDS) as starts:
        yield partial(starts, command=limited(LIMIT_MIB))


@dataclass
class Trouble:
    """What is done to a gateway while it serves; each step is one call a second."""

    gateway: GatewayProcess
    registry: Registry
    dice: random.Random = field(default_factory=lambda: random.Random(30))
    moves: int = 0
    kills: int = 0
    of_production: list[float] = field(default_factory=list)
    """When a worker was killed that may have run a request of production's."""
    splits: int = 0

    def step(self, second: int) -> None:
        if second % 10 == 0:
            self._move()
        if second % 60 == 36:
            self._kill(("production", "canary")[second // 60 % 2])
        if second % 45 == 20:
            self._split()
        if second % 15 == 5:
            self.gateway.metric("canary_router_requests_total")

    def _move(self) -> None:
        """One in five is to a version that is no good, which the next move puts right."""
        alias = self.dice.choice(["production", "canary"])
        versions = (*GOOD, TOUCHY) if alias == "canary" else GOOD
        bad = self.dice.random() < 0.2
        self.registry.move(alias, self.dice.choice(BROKEN if bad else versions))
        self.moves += 1

    def _kill(self, alias: str) -> None:
        version = self.gateway.bound(alias)
        pids = self.gateway.worker_pids(version) if version else []
        if not pids:
            return
        production = self.gateway.bound()
        killed_at = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)
        self.kills += 1
        # Both aliases may name one version, and may have come to do so just now.
        if version in (production, self.gateway.bound()):
            self.of_production.append(killed_at)

    def _split(self) -> None:
        share = self.dice.choice([5, 25, 50])
        head, _, _ = self.gateway.config.read_text().partition("models:\n")
        self.gateway.config.write_text(f"{head}models:\n{MODEL.format(100 - share, share, MOST_ROWS)}")
        self.splits += 1


def quiet(gateway: GatewayProcess, registry: Registry, temporary: Path, slack: float) -> Held:
    """What is held with versions 1 and 2 bound, nobody asking and nothing loading."""
    registry.move("production", 1)
    registry.move("canary", 2)

    def settled() -> bool:
        workers = [version["workers"] for version in gateway.model()["versions"].values()]
        return gateway.bound() == 1 and gateway.bound("canary") == 2 and [len(w) for w in workers] == [1, 1]

    wait_until(settled, 60 * slack, gateway.story)
    cache, process, last = temporary.parent / "cache", psutil.Process(gateway.pid), []

    def unchanged() -> bool:
        last.append(held(process, temporary, cache))
        return len(last) > 50 and len({str(one) for one in last[-50:]}) == 1

    wait_until(unchanged, 90 * slack, lambda: str(last[-1]))
    return last[-1]


def wrong(seen: list[Seen]) -> list[Seen]:
    """Good answers that are not those of the version they name."""
    good = [one for one in seen if one.status == 200]
    return [one for one in good if json.loads(one.body) != {"predictions": [one.version / 10]}]


@pytest.mark.timeout(SECONDS * 2 + 600)
@pytest.mark.slow
def test_twenty_minutes_of_everything_at_once_leave_no_trace(
    start: Callable[..., GatewayProcess],
    registry: Registry,
    tmp_path: Path,
    slack: float,
    figure: Figure,
) -> None:
    """A swap every 10 s, one in five to a broken version; a worker killed every minute; the split changed.

    Below a memory limit, beside about 140 requests per second, good, bad, cut off and slow. Only what ran
    in a worker of production that was killed may fail. Memory is flat after the first third: its ends are
    within 1 MiB, and in a run of an hour (`SOAK_SECONDS=3600`) the slope is not above 1 MiB per hour beyond
    doubt.
    """
    (temporary := tmp_path / "temporary").mkdir()
    gateway = start(MODEL.format(75, 25, MOST_ROWS), wait=False, TMPDIR=str(temporary), **SETTINGS)
    gateway.wait_ready()
    trouble = Trouble(gateway, registry)
    processes = {
        "gateway": psutil.Process(gateway.pid),
        **{name: gateway.descendants_named(f"router-{name}")[0] for name in ("template", "agent")},
    }
    before = quiet(gateway, registry, temporary, slack)
    port = int(gateway.url.rpartition(":")[2])
    with Levels(processes) as levels:
        with Load(gateway.url, clients=16, rate=100) as load, MixedClients(port) as mixed:
            began_at = time.monotonic()
            for second in range(int(SECONDS)):
                wait_until(lambda s=second: time.monotonic() >= began_at + s, 60)
                trouble.step(second)
        after = quiet(gateway, registry, temporary, slack)

    kills = trouble.of_production
    failed = [(one.sent_at, one.sent_at + one.seconds) for one in load.failed] + mixed.refused
    figure(
        f"{SECONDS:.0f} s, {trouble.moves} moves, {trouble.kills} kills, {len(kills)} of them production's, "
        f"{trouble.splits} splits; {load.summary()}; {mixed.heard.total()} mixed clients, "
        f"slowest {mixed.slowest:.2f} s, {len(mixed.refused)} refused"
    )
    for name in processes:
        minutes = levels.minutes(name)
        if len(minutes) >= 4:
            values = [value / (1 << 20) for _, value in minutes]
            figure(f"{name} {values[0]:.1f} → {values[-1]:.1f} MiB, {slope_of(minutes)}")
    figure(f"held before and after: {before} {after}")
    assert mixed.unexpected == []
    assert wrong(load.seen) == []
    assert {one.status for one in load.failed} <= {503}, gateway.story()
    # What was handed to a worker in the moment before its death was noticed counts as what ran in it.
    innocent = [
        (sent, ended)
        for sent, ended in failed
        if not any(sent - NOTICED_SECONDS * slack <= kill <= ended for kill in kills)
    ]
    assert innocent == [], "a request failed that ran in no worker that was killed"
    assert len(failed) <= len(kills), "more than one request ran in a worker that was killed"
    assert levels.lost == set()
    lines = gateway.log.read_text().splitlines()
    # What a version printed while it failed to load is shown; it stands under "child".
    assert [line for line in lines if "Traceback" in line and '"child"' not in line] == []
    assert [line for line in lines if "the kernel was out of memory" in line] == []
    assert gateway.metric("canary_router_metrics_errors_total") == 0
    assert gateway.metric("canary_router_requests_in_flight") == 0
    # Threads for disk work are started when they are needed, and stay.
    assert after.threads["gateway"] - before.threads["gateway"] <= MOST_THREADS
    assert {name: after.threads[name] for name in ("router-template", "router-agent")} == {
        name: before.threads[name] for name in ("router-template", "router-agent")
    }
    assert all(after.descriptors[name] <= before.descriptors[name] for name in after.descriptors)
    assert after.temporary == before.temporary
    for name in processes:
        minutes = levels.minutes(name)
        if len(minutes) >= 4:
            if SECONDS >= SLOPE_SECONDS:
                assert slope_of(minutes).least <= MOST_MIB_PER_HOUR, f"{name} grows: {slope_of(minutes)}"
            assert minutes[-1][1] - minutes[0][1] <= MOST_MIB * (1 << 20), name


SETTINGS = {
    "CANARY_ROUTER_SERVER__BODY_LIMIT_MIB": str(BODY_LIMIT_MIB),
    "CANARY_ROUTER_SERVER__BODY_TIMEOUT_SECONDS": "5",
}
