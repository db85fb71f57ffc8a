"""What nobody may notice while something is broken: watched from outside, several times a second."""

import re
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil
import requests

from tests.faults.background_thread import BackgroundThread
from tests.support.gateway import GatewayProcess

PERIOD_SECONDS = 0.2
POLL = re.compile(r"^canary_router_registry_poll_duration_seconds_sum\{.*\} (\S+)$", re.MULTILINE)


class Watch(BackgroundThread):
    """`with Watch(gateway) as watch:` — readiness, threads and polls of a gateway, until the block's end."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__()
        self.readiness: set[int] = set()
        """Every status that `/readyz` gave."""
        self.threads: list[int] = []
        """Of the gateway, at each look."""
        self.agent_threads: set[int] = set()
        self.agent_bytes = 0
        """The most memory an agent had."""
        self.longest_poll = 0.0
        """Seconds; of polls that ended between two looks, all of them together."""
        self._gateway = gateway
        self._polled = 0.0
        self._session = requests.Session()

    def __enter__(self) -> Self:
        self._polled = self._poll_seconds()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._session.close()

    def summary(self) -> str:
        """The watch in a line."""
        threads, agent = sorted(self.threads), max(self.agent_threads, default=0)
        return (
            f"longest poll {self.longest_poll:.1f} s, gateway {threads[0]} to {threads[-1]} threads,"
            f" agent {agent} and at most {self.agent_bytes >> 20} MiB"
        )

    def work(self) -> None:
        while not self.stop.wait(PERIOD_SECONDS):
            ready = self._session.get(f"{self._gateway.url}/readyz", timeout=10)
            self.readiness.add(ready.status_code)
            self.threads.append(psutil.Process(self._gateway.pid).num_threads())
            polled = self._poll_seconds()
            self.longest_poll, self._polled = max(self.longest_poll, polled - self._polled), polled
            for child in self._gateway.descendants():
                with suppress(psutil.NoSuchProcess):  # it was replaced meanwhile
                    if child.name() == "router-agent":
                        self.agent_threads.add(child.num_threads())
                        self.agent_bytes = max(self.agent_bytes, child.memory_info().rss)

    def _poll_seconds(self) -> float:
        text = self._session.get(f"{self._gateway.url}/metrics", timeout=10).text
        return sum(float(seconds) for seconds in POLL.findall(text))
