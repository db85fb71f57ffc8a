"""Row 26 of the promises, in its quick form: ten times what a version can do, and what is left of it."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.e2e import faulty
from tests.e2e.conftest import Registry
from tests.e2e.faulty import body_of
from tests.e2e.gateway import GatewayProcess

built_faults, registry = faulty.built_faults, faulty.registry

PEAK_SECONDS, OVERLOAD_SECONDS, AFTER_SECONDS = 4.0, 12.0, 4.0
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


async def overload(url: str) -> tuple[float, Tally, Tally]:
    """Requests per second at its peak; what became of ten times as many; and of a tenth right after."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await closed_loop(session, 4, 1.0)
        peak = await closed_loop(session, 4, PEAK_SECONDS)
        rate = len(peak.answered) / PEAK_SECONDS
        flood = await paced(session, TIMES * rate, OVERLOAD_SECONDS)
        after = await paced(session, rate / 10, AFTER_SECONDS)
        return rate, flood, after


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_ten_times_its_capacity_leaves_a_version_its_capacity(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    registry.move("production", 3)
    gateway = start("  sentiment: {split: {production: 100}}\n")
    peak, flood, after = asyncio.run(overload(gateway.url))

    goodput = len(flood.answered) / OVERLOAD_SECONDS
    refusals = sorted(flood.refused)
    figures = (
        f"peak {peak:.0f}/s, goodput {goodput:.0f}/s, {len(refusals)} refused in "
        f"{statistics.median(refusals) * 1e3:.1f} ms (p99 {refusals[int(len(refusals) * 0.99)] * 1e3:.0f}), "
        f"at most {max(flood.gateway_ms):.1f} ms of it in the gateway; slowest answer "
        f"{max(flood.answered):.2f} s, {max(after.answered):.2f} s after it"
    )
    print(figures)
    assert flood.other == after.other == []
    assert flood.hints == {"1"}
    assert sorted(flood.gateway_ms)[int(len(refusals) * 0.99)] <= 50 * slack, figures
    assert statistics.median(refusals) <= 0.05 * slack, figures
    assert goodput >= 0.9 * peak / slack, figures
    assert after.refused == [], figures
    assert max(after.answered) <= 5 * slack, figures
    assert gateway.metric("canary_router_requests_in_flight") == 0


def test_a_request_of_more_rows_than_max_rows_gets_413_and_is_its_callers_fault(
    start: Callable[..., GatewayProcess], registry: Registry
) -> None:
    gateway = start("  sentiment: {split: {production: 50, canary: 50}, max_rows: 5}\n")
    gateway.wait_bound(2, "canary")
    for key, alias in (("user-1", "production"), ("user-2", "canary")):
        headers = HEADERS | {"X-Request-Key": key}
        url = f"{gateway.url}/invocations"
        answer = gateway.session.post(url, data=body_of("good", rows=6), headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["error_code"]) == (413, "BAD_REQUEST"), alias
        counted = {"alias": alias, "outcome": "client_error"}
        assert gateway.metric("canary_router_requests_total", **counted) == 1
        answer = gateway.session.post(url, data=body_of("good", rows=5), headers=headers, timeout=30)
        assert answer.status_code == 200
    assert gateway.metric("canary_router_canary_faults_total") == 0
