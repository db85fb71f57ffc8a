"""A gateway that comes later, with an empty cache and no state, gives back nothing that a canary lost."""

import shutil
from pathlib import Path

import pytest
import requests

from tests.conftest import Figure
from tests.fleet.cluster import Cluster, canary_at
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

KEYS = [f"user-{number}" for number in range(100)]


def breaker_is_open(gateway: GatewayProcess) -> bool:
    return (gateway.model()["versions"]["2"]["breaker"] or {}).get("state") == "open"


def gives_the_canary_nothing(cluster: Cluster, slack: float) -> None:
    """From the first request that it takes on: asked before it is ready, and after its canary is loaded."""
    fourth = cluster.start(3)
    wait_until(
        lambda: fourth.get("/readyz").status_code == 200, 60 * slack, fourth.story, pause_seconds=0.005
    )
    with requests.Session() as session:

        def answered_by(key: str) -> str:
            headers = {"X-Request-Key": key, "Content-Type": "application/json"}
            answer = session.post(
                f"{fourth.url}/invocations", data=body_of("good"), headers=headers, timeout=30
            )
            assert answer.status_code == 200, answer.text
            return answer.headers["X-Model-Version"]

        assert {answered_by(key) for key in KEYS} == {"1"}
        fourth.wait_bound(2, "canary")
        assert {answered_by(key) for key in KEYS} == {"1"}
    cluster.wait_served(3)


def gone(cluster: Cluster, place: Path) -> None:
    """The fourth, and all that it kept."""
    assert cluster.gateways.pop(3).stop() == 0
    shutil.rmtree(place)


def test_a_fourth_that_starts_with_nothing_gives_a_capped_or_broken_canary_nothing(
    cluster: Cluster, slack: float, figure: Figure
) -> None:
    """Row 123. It asks its peers before it serves."""
    cluster.start_all()
    cluster.name(3)
    cluster.verb("abort")
    cluster.everywhere(canary_at(0), 10 * slack)
    gives_the_canary_nothing(cluster, slack)
    gone(cluster, cluster.directory / "gw-3")

    cluster.verb("resume")
    cluster.everywhere(canary_at(50), 10 * slack)
    with Load(cluster.url, clients=8, rate=60 / slack, body=body_of("raise")) as load:
        took = cluster.everywhere(breaker_is_open, 90 * slack)
    assert load.failed == [], "production answers what a canary fails"
    gives_the_canary_nothing(cluster, slack)
    figure(f"a canary that always fails was broken off at all three {took:.1f} s after its first request")
