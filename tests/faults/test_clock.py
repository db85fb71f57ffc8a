"""The machine's clock jumps; nothing is decided by it. Only these gateways see another time of day."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}, predict_timeout_seconds: 2}\n"
HOUR = 3600
DAY = 24 * HOUR
JUMPS = (HOUR, -HOUR, DAY, -DAY, 0)
RETRY_SECONDS = 10.0


class Clock:
    """The time of day of a gateway and all of its children, off by what `offset` says.

    Their monotonic clocks are left alone, as the kernel leaves them alone when somebody sets the time.
    """

    def __init__(self, directory: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("libfaketime is missing; install the Debian package `faketime`")
        self._offset = directory / "offset"
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def jump(self, seconds: int) -> None:
        """From now on it is off by `seconds`."""
        written = self._offset.with_suffix(".new")
        written.write_text(f"{seconds:+d}\n")
        written.replace(self._offset)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def time_of_day(gateway: GatewayProcess) -> float:
    """Seconds since 1970, as the gateway believes."""
    reported: float = gateway.state()["registry"]["last_success_timestamp"]
    return reported


@pytest.mark.slow
def test_a_clock_that_jumps_an_hour_and_a_day_there_and_back_changes_nothing(
    start: Callable[..., GatewayProcess], registry: Registry, clock: Clock, slack: float, figure: Figure
) -> None:
    """Row 21. Polls go on at their pace, aliases are followed, events stay, what runs too long still ends."""
    gateway = start(MODELS, **clock.environment)
    gateway.wait_bound(2, "canary")
    took, paces = [], []
    with Load(gateway.url, rate=100) as load:
        for turn, jump in enumerate(JUMPS):
            before = gateway.state()["events"]
            clock.jump(jump)
            wait_until(lambda j=jump: abs(time_of_day(gateway) - time.time() - j) < 60, 10 * slack)
            version = (5, 1)[turn % 2]
            registry.move("production", version)
            took.append(wait_until(lambda v=version: gateway.bound() == v, 30, gateway.story))
            paces.append(polls_a_second(gateway))
            assert gateway.state()["events"][: len(before)] == before
            assert gateway.get("/readyz").status_code == 200
    figure(
        f"{load.summary()}; an alias live after {max(took):.1f} s at most,"
        f" {min(paces):.1f} to {max(paces):.1f} polls a second"
    )
    assert load.failed == []
    assert max(took) <= POLL_SECONDS + 5 * slack
    assert min(paces) >= 0.5 / POLL_SECONDS / slack
    assert max(paces) <= 1.5 / POLL_SECONDS


def polls_a_second(gateway: GatewayProcess) -> float:
    begun, before = time.monotonic(), gateway.metric("canary_router_registry_polls_total")
    wait_until(lambda: gateway.metric("canary_router_registry_polls_total") >= before + 4, 30)
    return 4 / (time.monotonic() - begun)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forwards", "back"])
def test_what_waits_when_the_clock_jumps_waits_as_long_as_it_would_have(
    start: Callable[..., GatewayProcess],
    registry: Registry,
    clock: Clock,
    slack: float,
    figure: Figure,
    jump: int,
) -> None:
    """Row 21. A predict that runs too long, and the pause after a version that did not load."""
    registry.move("production", 6)
    gateway = start(
        "  sentiment: {split: {production: 100}, predict_timeout_seconds: 2}\n", **clock.environment
    )
    registry.move("canary", 3)
    wait_until(lambda: gateway.lines("version not loaded"), 20 * slack, gateway.story)
    refused_at = time.monotonic()
    clock.jump(jump)
    begun = time.monotonic()
    answer = gateway.ask("user-1", text="30")
    ended_after = time.monotonic() - begun
    wait_until(lambda: len(gateway.lines("version not loaded")) == 2, 40 * slack, gateway.story)
    retried_after = time.monotonic() - refused_at
    figure(f"predict ended after {ended_after:.1f} s, the load was tried again after {retried_after:.1f} s")
    assert answer.status_code == 504
    assert 1.5 <= ended_after <= 2 + 2 * slack
    assert RETRY_SECONDS - 1 <= retried_after <= RETRY_SECONDS + 5 * slack
