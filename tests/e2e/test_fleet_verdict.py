"""Three gateways, one verdict: what each observes of a canary comes together at all."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS, Registry
from tests.support import faulty_registry
from tests.support.comparison import check
from tests.support.faulty_registry import body_of
from tests.support.fleet import Fleet, fleet
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry


def compared(gateway: GatewayProcess) -> dict[str, Any]:
    entry: dict[str, Any] = gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]
    return entry


def loads(stack: ExitStack, gateways: Sequence[GatewayProcess], slack: float) -> list[Load]:
    """A third of the traffic for each, of which the canary fails a fifth; until the end of the stack."""
    return [
        stack.enter_context(Load(gateway.url, clients=4, rate=rate / slack, keys=2000, body=body))
        for gateway in gateways
        for rate, body in ((48, body_of("good")), (12, body_of("raise")))
    ]


def all_judge_together(three: Fleet, slack: float) -> None:
    """Three members, and as of cells that they sealed a moment ago."""
    for gateway in three.gateways:
        wait_until(
            lambda one=gateway: one.metric("canary_router_fleet_members", state="counted") == 3,
            90 * slack,
            gateway.story,
        )


def at_one_horizon(three: Fleet, after: float, slack: float) -> list[dict[str, Any]]:
    """What all say as of one and the same cell, which ended `after` that moment."""
    found: list[dict[str, Any]] = []

    def equal() -> bool:
        found[:] = [compared(gateway) for gateway in three.gateways]
        horizons = {entry["horizon_timestamp"] for entry in found}
        return len(horizons) == 1 and min(horizons) > after

    wait_until(equal, 60 * slack, lambda: str([entry["horizon_timestamp"] for entry in found]))
    return found


@pytest.mark.slow
def test_three_gateways_come_to_one_verdict_by_the_traffic_of_all(
    registry: Registry, tmp_path: Path, slack: float, figure: Figure
) -> None:
    with fleet(registry.uri, tmp_path, POLL_SECONDS) as three:
        for gateway in three.gateways:
            gateway.wait_ready()
            gateway.wait_bound(2, "canary")
        all_judge_together(three, slack)
        with ExitStack() as stack:
            traffic = loads(stack, three.gateways, slack)
            took = [
                wait_until(lambda one=gateway: compared(one)["verdict"] == "fail", 120 * slack, gateway.story)
                for gateway in three.gateways
            ]

        # As of one cell each says the same, of the requests of all.
        first, *others = at_one_horizon(three, time.time(), slack)
        faults = check(first, "faults")
        for entry in others:
            assert check(entry, "faults") == faults
            assert entry["verdict"] == first["verdict"] == "fail"
        for gateway in three.gateways:
            served = gateway.metric("canary_router_requests_total", alias="canary")
            assert served < faults["canary"]["requests"] * 0.6, "it judged by its own requests alone"
        assert all(load.failed == [] for load in traffic), "production answers what a canary fails"

        # Whoever starts anew knows it before it serves, and goes on with it.
        three.gateways[1].stop()
        three.gateways[1] = three.start(1)
        three.gateways[1].wait_ready()
        wait_until(
            lambda: compared(three.gateways[1])["verdict"] == "fail", 60 * slack, three.gateways[1].story
        )
    figure(f"FAIL at all of three gateways {sum(took):.1f} s after their traffic began")
