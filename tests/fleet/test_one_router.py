"""Three gateways behind a Service are one router, whichever answers, also while they are replaced or die."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import requests

from router.control.alias_watch import JITTER
from tests.conftest import Figure
from tests.fleet.cluster import POLL_SECONDS, Cluster, canary_at
from tests.support.load import BODY, Load
from tests.support.waiting import wait_until

KEYS = [f"user-{number}" for number in range(60)]
FIRST, SECOND = (0, 1, 2), (3, 4, 5)
"""Hosts before and after a rollout."""
UNDER_WAY = 9
"""Requests that are half sent when a gateway is killed: some of them to it."""
SOUND_CANARY = 3
"""It does no damage, whatever it is asked."""


def versions(cluster: Cluster, url: str, keys: Sequence[str] = KEYS) -> dict[str, str]:
    """Which version answers each key at `url`."""
    body = {"dataframe_split": {"columns": ["text"], "data": [["good"]]}}
    with requests.Session() as session:
        answers = {
            key: session.post(f"{url}/invocations", json=body, headers={"X-Request-Key": key}, timeout=30)
            for key in keys
        }
    assert {answer.status_code for answer in answers.values()} == {200}
    return {key: answer.headers["X-Model-Version"] for key, answer in answers.items()}


def test_three_gateways_behind_one_service_are_one_router(
    cluster: Cluster, slack: float, figure: Figure
) -> None:
    """Row 120: one key, one version; a move is live on all; all are replaced and one is killed under load."""
    cluster.start_all()
    by_service = versions(cluster, cluster.url)
    assert set(by_service.values()) == {"1", "2"}
    for gateway in cluster.gateways.values():
        assert versions(cluster, gateway.url) == by_service

    with Load(cluster.url, clients=8, rate=60 / slack) as load:
        moved = an_alias_moves(cluster, slack)
        cluster.verb("abort", to=20)
        held = cluster.everywhere(canary_at(20), 10 * slack)
        all_are_replaced(cluster)
    assert load.failed == [], load.summary()
    assert {one["status"] for one in cluster.envoy.requests("traffic")} == {200}

    with Load(cluster.url, clients=8, rate=60 / slack) as after:
        lost = one_is_killed(cluster, after, slack)
    figure(
        f"a move live on all after {moved:.1f} s, a cap after {held:.1f} s;"
        f" a rollout: {load.summary()};"
        f" kill -9 of one: {lost} failed of {len(after.seen) + UNDER_WAY}, all given to it"
    )


def an_alias_moves(cluster: Cluster, slack: float) -> float:
    """How long it took until all serve it: within a poll, the longest that there is, and a load."""
    cluster.registry.move("canary", SOUND_CANARY)
    began = time.monotonic()
    cluster.everywhere(lambda one: one.bound("canary") == SOUND_CANARY, 30 * slack)
    took = time.monotonic() - began
    loads = [
        sum(line["seconds"].values())
        for gateway in cluster.gateways.values()
        for line in gateway.loads()
        if line["version"] == SOUND_CANARY
    ]
    assert took < POLL_SECONDS * (1 + JITTER) + max(loads) + 2 * slack
    return took


def all_are_replaced(cluster: Cluster) -> None:
    """As in a rollout of the chart: a new one has another address and nothing on its disk, and once it gets
    requests an old one ends. What held before, holds."""
    with ThreadPoolExecutor() as threads:
        ends = []
        for old, new in zip(FIRST, SECOND, strict=True):
            cluster.name(new)
            started = cluster.start(new)
            cluster.wait_served(new)
            started.wait_bound(SOUND_CANARY, "canary")
            assert canary_at(20)(started), started.story()
            ends.append(threads.submit(cluster.gateways.pop(old).stop))
        assert [end.result() for end in ends] == [0, 0, 0]


def half_sent(cluster: Cluster) -> HTTPConnection:
    """A request through the Service whose second half nobody has yet."""
    connection = HTTPConnection(cluster.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:-10])
    return connection


def finished(request: HTTPConnection) -> int:
    """The status of its answer."""
    with suppress(OSError):  # it was answered before
        request.send(BODY[-10:])
    status = request.getresponse().status
    request.close()
    return status


def one_is_killed(cluster: Cluster, load: Load, slack: float) -> int:
    """How many requests failed: those that had been given to it. The others serve on."""
    number = SECOND[0]
    requests_under_way = [half_sent(cluster) for _ in range(UNDER_WAY)]
    wait_until(lambda: sum(cluster.envoy.under_way().values()) >= UNDER_WAY, 30 * slack)
    cluster.gateways[number].process.kill()
    cluster.wait_removed(number)
    seen = len(load.seen)
    wait_until(lambda: len(load.seen) > seen + 60, 30 * slack)
    statuses = Counter(finished(one) for one in requests_under_way)
    assert statuses.keys() == {200, 503}, statuses
    count = statuses[503] + sum(one.status != 200 for one in load.seen)

    def failed() -> list[str]:
        return [one["gateway"] for one in cluster.envoy.requests("traffic") if one["status"] != 200]

    wait_until(lambda: len(failed()) >= count, 30 * slack)
    assert failed() == [f"{cluster.host(number).address}:8080"] * count
    return count
