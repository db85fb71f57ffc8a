"""A gateway that nobody reaches: callers do not notice, and what it missed it takes over."""

import json
import subprocess

import pytest

from tests.conftest import Figure
from tests.fleet.cluster import Cluster, canary_at
from tests.fleet.test_one_router import versions

pytestmark = pytest.mark.slow


def share_seen_inside(cluster: Cluster, number: int) -> float:
    """Of the canary, in percent, as a gateway says to who asks in its own namespace."""
    url = "http://127.0.0.1:8080/v1/state"
    asked = subprocess.run(
        [*cluster.host(number).inside, "curl", "--silent", "--fail", url], capture_output=True, check=True
    )
    share: float = json.loads(asked.stdout)["models"]["sentiment"]["split"]["canary"]
    return share


def test_a_gateway_that_nobody_reaches_is_given_nothing_and_takes_over_the_cap_that_it_missed(
    cluster: Cluster, slack: float, figure: Figure
) -> None:
    """Row 128. Its cable to callers and peers is pulled, and it is alive and ready all the time."""
    cluster.start_all()
    cluster.host(0).cut_traffic()
    cluster.wait_removed(0)
    cluster.verb("abort")
    cluster.everywhere(canary_at(0), 10 * slack, [1, 2])
    assert set(versions(cluster, cluster.url).values()) == {"1"}
    assert share_seen_inside(cluster, 0) == 50, "it heard of it through a cut"

    cluster.host(0).mend_traffic()
    took = cluster.everywhere(canary_at(0), 20 * slack)
    cluster.wait_served(0)
    assert set(versions(cluster, cluster.url).values()) == {"1"}
    figure(f"the cap in force at it {took:.1f} s after the cut ended")
