"""Rows 33 and 20 of the promises: endless predicts and a killed worker leave production's others alone."""

import os
import signal
import threading
from collections.abc import Callable

import pytest
import requests

from tests.e2e.conftest import Registry
from tests.support import faulty_registry, slowness
from tests.support.faulty_registry import PRODUCTION_KEY, body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry


class Endless:
    """A client that asks for one long predict after the other until the block's end."""

    def __init__(self, url: str, seconds: int) -> None:
        self.statuses: list[int] = []
        self._url, self._body = url, body_of(f"sleep {seconds}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "Endless":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90 * slowness.slack())

    def _ask(self) -> None:
        headers = {"X-Request-Key": PRODUCTION_KEY, "Content-Type": "application/json"}
        while not self._stop.is_set():
            answer = requests.post(
                f"{self._url}/invocations", data=self._body, headers=headers, timeout=90 * slowness.slack()
            )
            self.statuses.append(answer.status_code)


@pytest.mark.timeout(180)
@pytest.mark.slow
@pytest.mark.parametrize(("threads", "workers"), [(1, {2, 3}), (4, {1, 2, 3})])
def test_one_client_with_endless_predicts_leaves_the_others_alone(
    start: Callable[..., GatewayProcess], slack: float, threads: int, workers: set[int]
) -> None:
    """`workers: 1`. The quick form: predicts of 6 s, of which a limit of 20 s ends none.

    Where a worker predicts side by side, the others need no relief.
    """
    times = "predict_timeout_seconds: 20, timeout_seconds: 20"
    gateway = start(f"  sentiment: {{split: {{production: 100}}, {times}, threads: {threads}}}\n")
    [first] = gateway.worker_pids(1)
    with Load(gateway.url, clients=16, rate=100) as load:
        wait_until(lambda: len(load.seen) > 200, 30 * slack)
        with Endless(gateway.url, seconds=6) as endless:
            wait_until(lambda: len(endless.statuses) >= 2, 60 * slack, gateway.story)
        relieved = gateway.worker_pids(1)
    assert set(endless.statuses) == {200}
    assert {one.status for one in load.seen} == {200}
    seconds = sorted(one.seconds for one in load.seen)
    assert seconds[int(len(seconds) * 0.99)] < 2 * slack
    assert first in relieved
    assert len(relieved) in workers


@pytest.mark.timeout(180)
def test_production_that_loads_slowly_is_back_at_once_when_its_worker_is_killed(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    registry.move("production", 4)
    gateway = start("  sentiment: {split: {production: 100}}\n")
    with Load(gateway.url, clients=16, rate=100) as load:
        for _ in range(3):
            wait_until(lambda: gateway.model()["versions"]["4"]["spare"], 30 * slack, gateway.story)
            spare, [pid] = gateway.model()["versions"]["4"]["spare"], gateway.worker_pids(4)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda s=spare: gateway.worker_pids(4) == [s], 1 * slack, gateway.story)
    assert {one.status for one in load.failed} <= {503}
    assert len(load.failed) <= 3, "a request that did not run in the worker failed, or waited for a load"
