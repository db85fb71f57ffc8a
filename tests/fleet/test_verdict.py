"""One verdict and one breaker, by the traffic that a Service deals out."""

import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Figure
from tests.fleet.cluster import Cluster
from tests.support.comparison import check
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def compared(gateway: GatewayProcess) -> dict[str, Any]:
    entry: dict[str, Any] = gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]
    return entry


def at_one_horizon(cluster: Cluster, after: float, slack: float) -> list[dict[str, Any]]:
    """What all say as of one and the same cell, which ended `after` that moment."""
    found: list[dict[str, Any]] = []

    def equal() -> bool:
        found[:] = [compared(gateway) for gateway in cluster.gateways.values()]
        horizons = {entry["horizon_timestamp"] for entry in found}
        return len(horizons) == 1 and min(horizons) > after

    wait_until(equal, 60 * slack, lambda: str([entry["horizon_timestamp"] for entry in found]))
    return found


def test_gateways_behind_a_service_come_to_one_verdict_by_the_traffic_of_all(
    cluster: Cluster, slack: float, figure: Figure
) -> None:
    """Row 125. Of one cell all say the same; who restarts goes on with it."""
    cluster.start_all()
    cluster.everywhere(
        lambda one: one.metric("canary_router_fleet_members", state="counted") == 3, 90 * slack
    )
    with ExitStack() as stack:
        loads = [
            stack.enter_context(
                Load(cluster.url, clients=8, rate=rate / slack, keys=2000, body=body_of(text))
            )
            for rate, text in ((100, "good"), (25, "raise"))
        ]
        took = cluster.everywhere(lambda one: compared(one)["verdict"] == "fail", 120 * slack)
        assert all(load.failed == [] for load in loads), "production answers what a canary fails"
    first, *others = at_one_horizon(cluster, time.time(), slack)
    for entry in others:
        assert (entry["verdict"], check(entry, "faults")) == ("fail", check(first, "faults"))
    counted = check(first, "faults")["canary"]["requests"]
    for gateway in cluster.gateways.values():
        assert gateway.metric("canary_router_requests_total", alias="canary") < counted * 0.6

    assert cluster.gateways[1].stop() == 0
    cluster.start(1)
    cluster.wait_served(1)
    wait_until(lambda: compared(cluster.gateways[1])["verdict"] == "fail", 60 * slack)
    figure(f"FAIL at all of three {took:.1f} s after the traffic began")
