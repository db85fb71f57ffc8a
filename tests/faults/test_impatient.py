"""Row 38 of the promises: callers that hang up and try again, at twice what a version can answer."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import pytest

from tests.conftest import Figure
from tests.support import faulty_registry
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.registry import Registry

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {split: {production: 100}, workers: 1, threads: 1, batching: off}\n"
HEADERS = {"Content-Type": "application/json", "X-Request-Key": "user-1"}
PATIENCE_SECONDS = 1.0
SECONDS = 15.0
FEW = 2
"""Callers that keep one worker busy and never wait long: what they get is the capacity."""


@dataclass
class Tries:
    """What became of the requests of one phase."""

    answered: int = 0
    hung_up: int = 0
    refused: int = 0

    async def ask(self, session: aiohttp.ClientSession, body: bytes) -> None:
        try:
            async with session.post("/invocations", data=body, headers=HEADERS) as answer:
                await answer.read()
                if answer.status == 200:
                    self.answered += 1
                else:
                    self.refused += 1
                    await asyncio.sleep(0.1)  # nobody asks again at once who was asked to come back later
        except TimeoutError:
            self.hung_up += 1


async def impatient(url: str, callers: int, predict_seconds: float) -> Tries:
    """`callers` that each hang up after a second, and ask again at once."""
    tries, ends_at, body = Tries(), time.monotonic() + SECONDS, body_of(f"sleep {predict_seconds}")
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)

    async def caller(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < ends_at:
            await tries.ask(session, body)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(caller(session) for _ in range(callers)))
    return tries


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("predict_seconds", [0.1, 0.2])
def test_callers_that_hang_up_and_try_again_leave_a_version_its_capacity(
    start: Callable[..., GatewayProcess],
    registry: Registry,
    slack: float,
    figure: Figure,
    predict_seconds: float,
) -> None:
    """Row 38: at least 80 % of what two patient callers get, and no predict but for who still waits."""
    gateway = start(MODELS)
    capacity = asyncio.run(impatient(gateway.url, FEW, predict_seconds))
    predicts = "canary_router_predict_duration_seconds_count"
    before = gateway.metric(predicts)
    callers = round(2 * PATIENCE_SECONDS / predict_seconds)
    tries = asyncio.run(impatient(gateway.url, callers, predict_seconds))
    predicted = gateway.metric(predicts) - before

    figure(
        f"predicts of {predict_seconds} s, {callers} callers: {tries.answered / SECONDS:.1f} of "
        f"{capacity.answered / SECONDS:.1f} a second answered by {predicted:.0f} predicts; "
        f"{tries.hung_up} hung up"
    )
    assert capacity.hung_up == 0
    assert tries.hung_up > 0, "it was not overloaded"
    assert tries.answered >= 0.8 * capacity.answered / slack
    assert predicted - tries.answered <= 0.2 * predicted * slack
    abandoned = gateway.metric("canary_router_requests_total", outcome="abandoned")
    assert abandoned == pytest.approx(tries.hung_up, abs=2 * callers)
    assert gateway.metric("canary_router_requests_in_flight") == 0
