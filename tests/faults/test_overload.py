"""Rows 26 and 33 of the promises: more than can be answered, and predicts that do not end."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Figure
from tests.e2e.test_canary_production import Endless
from tests.support import faulty_registry
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import BODY, Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {split: {production: 100}}\n"
OVERLOAD_SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "60"))
ENDLESS_SECONDS = float(os.environ.get("ENDLESS_SECONDS", "300"))
PEAK_SECONDS, AFTER_SECONDS = 4.0, 4.0
TIMES = 10
CLIENTS = 300


@dataclass
class Tally:
    """What became of the requests of one phase, in seconds."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    gateway_ms: list[float] = field(default_factory=list)
    """Of the refusals, how long the gateway itself says it took."""
    hints: set[str] = field(default_factory=set)
    other: list[int] = field(default_factory=list)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        started = time.monotonic()
        async with session.post("/invocations", data=body_of("good"), headers=HEADERS) as answer:
            await answer.read()
            seconds = time.monotonic() - started
            if answer.status == 200:
                self.answered.append(seconds)
            elif answer.status == 503:
                self.refused.append(seconds)
                self.gateway_ms.append(float(answer.headers["Server-Timing"].split("dur=")[1].split(",")[0]))
                self.hints.add(answer.headers.get("Retry-After", ""))
            else:
                self.other.append(answer.status)


HEADERS = {"Content-Type": "application/json", "X-Request-Key": "user-1"}


async def closed_loop(session: aiohttp.ClientSession, clients: int, seconds: float) -> Tally:
    """`clients` that each wait for their answer."""
    tally, ends_at = Tally(), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < ends_at:
            await tally.ask(session)

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def paced(session: aiohttp.ClientSession, rate: float, seconds: float) -> Tally:
    """`rate` requests per second in all, by far more clients than can wait in the queue."""
    tally, started = Tally(), time.monotonic()
    period = CLIENTS / rate

    async def client(number: int) -> None:
        due = started + period * number / CLIENTS
        while due < started + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await tally.ask(session)
            due = max(due + period, time.monotonic() - period)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return tally


async def overload(url: str, seconds: float) -> tuple[float, Tally, Tally]:
    """Requests per second at its peak; what became of ten times as many; and of a tenth right after."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await closed_loop(session, 4, 1.0)
        peak = await closed_loop(session, 4, PEAK_SECONDS)
        rate = len(peak.answered) / PEAK_SECONDS
        flood = await paced(session, TIMES * rate, seconds)
        after = await paced(session, rate / 10, AFTER_SECONDS)
        return rate, flood, after


@pytest.mark.timeout(OVERLOAD_SECONDS * 3 + 120)
@pytest.mark.slow
def test_ten_times_its_capacity_leaves_a_version_its_capacity(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """A predict of 9 ms, for a minute: the excess gets 503 and Retry-After within 50 ms."""
    registry.move("production", 3)
    gateway = start(MODELS)
    peak, flood, after = asyncio.run(overload(gateway.url, OVERLOAD_SECONDS))

    goodput = len(flood.answered) / OVERLOAD_SECONDS
    refusals, inside = sorted(flood.refused), sorted(flood.gateway_ms)
    late = sorted(after.answered)
    figures = (
        f"peak {peak:.0f}/s, goodput {goodput:.0f}/s, {len(refusals)} refused in "
        f"{statistics.median(refusals) * 1e3:.1f} ms (p99 {refusals[int(len(refusals) * 0.99)] * 1e3:.0f}), "
        f"p99 {inside[int(len(inside) * 0.99)]:.1f} ms of it in the gateway; slowest answer "
        f"{max(flood.answered):.2f} s, {late[-1] * 1e3:.0f} ms right after it"
    )
    figure(figures)
    assert flood.other == after.other == []
    assert all(1 <= int(hint) <= 60 for hint in flood.hints)  # as long as the queue takes, in whole seconds
    assert inside[int(len(inside) * 0.99)] <= 50 * slack, figures
    assert statistics.median(refusals) <= 0.05 * slack, figures
    assert goodput >= 0.9 * peak / slack, figures
    assert after.refused == [], figures
    assert late[-1] <= 5 * slack, figures
    assert gateway.metric("canary_router_requests_in_flight") == 0


CLIENT_PROCESSES, CONNECTIONS, FLOOD_SECONDS = 3, 250, 15


def flooding(gateway: GatewayProcess, directory: Path) -> list["subprocess.Popen[bytes]"]:
    """Processes whose connections each send a request as soon as the last one was answered."""
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n"
    request = f"{head}Content-Type: application/json\r\nX-Request-Key: user-1\r\n\r\n".encode() + BODY
    file = directory / "requests"
    file.write_bytes(f"{len(request)}\n".encode() + request)
    what = [host, port, str(file), str(CONNECTIONS), str(FLOOD_SECONDS)]
    return [
        subprocess.Popen([sys.executable, "-m", "benchmarks.closed_client", *what], stdout=subprocess.PIPE)
        for _ in range(CLIENT_PROCESSES)
    ]


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_as_many_requests_as_the_gateway_can_not_take_leave_it_answering(
    start: Callable[..., GatewayProcess], tmp_path: Path, slack: float, figure: Figure
) -> None:
    """750 connections of three processes that never rest: what is accepted takes at most 1 s, as p99."""
    gateway = start(MODELS)
    with Load(gateway.url, clients=8, rate=20) as during:
        floods = flooding(gateway, tmp_path)
        reported = [flood.communicate(timeout=60 * slack)[0] for flood in floods]
        ended_at = time.monotonic()
    with Load(gateway.url, clients=8, rate=50) as after:
        wait_until(lambda: len(after.seen) > 50, 30)

    accepted = sorted(one.seconds for one in during.seen if one.status == 200)
    p99 = accepted[int(len(accepted) * 0.99)]
    settled = [one for one in after.seen if one.sent_at > ended_at + 5 * slack]
    figure(
        f"{b' '.join(reported).decode().split()}; beside it p99 {p99 * 1e3:.0f} ms;"
        f" after it {after.summary()}"
    )
    assert {one.status for one in during.seen} <= {200, 503}
    assert p99 <= 1.0 * slack
    assert [one for one in settled if one in after.failed] == []
    assert after.failed == [], "it had not recovered at once"
    assert gateway.metric("canary_router_requests_in_flight") == 0


@pytest.mark.timeout(ENDLESS_SECONDS * 2 + 300)
@pytest.mark.slow
def test_five_minutes_of_sixty_second_predicts_hurt_no_other_caller(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 33: one client, one such predict after the other, `workers: 1`; the others: 0 errors, p99 < 2 s."""
    gateway = start(
        "  sentiment: {split: {production: 100}, timeout_seconds: 70, predict_timeout_seconds: 70}\n"
    )
    with Load(gateway.url, clients=16, rate=100) as load:
        wait_until(lambda: len(load.seen) > 200, 30 * slack)
        began_at = time.monotonic()
        with Endless(gateway.url, seconds=min(60, int(ENDLESS_SECONDS / 2))) as endless:
            wait_until(lambda: time.monotonic() - began_at >= ENDLESS_SECONDS, ENDLESS_SECONDS + 5)
            relieved = gateway.worker_pids(1)
    figure(f"{len(endless.statuses)} predicts of 60 s; beside them {load.summary()}; {len(relieved)} workers")
    seconds = sorted(one.seconds for one in load.seen)
    assert set(endless.statuses) == {200}
    assert {one.status for one in load.seen} == {200}
    assert seconds[int(len(seconds) * 0.99)] < 2 * slack
