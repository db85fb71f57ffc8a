"""A registry server that is killed, hangs or answers nonsense: who asks the gateway notices nothing."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.adapters.faults import (
    Proxy,
    Spoil,
    a_byte_a_second,
    a_page,
    black_hole,
    broken,
    endless_json,
    too_many,
)
from tests.adapters.registries import Server
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.e2e.gateway import GatewayProcess, wait_until
from tests.e2e.load import Load
from tests.faults.watch import Watch

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = float(os.environ.get("FAULTS_OUTAGE_SECONDS", "60"))
"""How long a server that is killed or stopped stays so; the promise is for 10 min, which is 600 here."""
NONSENSE_SECONDS = 25.0
"""How long what answers nonsense does: two polls of the longest kind."""
DOWN = "registry poll failed; what it last named stays"
UP = "the registry answers again"
BACK_SECONDS = 5.0


class Outage:
    """A gateway with two versions of a model of its own, under load, whose registry is about to break."""

    def __init__(self, server: Server, start_at: Callable[..., GatewayProcess], uri: str) -> None:
        self.server = server
        self.model = server.registry.new_model(3, production=1, canary=2)
        models = f"  {self.model}: {{split: {{production: 50, canary: 50}}}}\n"
        self.gateway = start_at(models, uri=uri)
        self.gateway.wait_bound(2, "canary", name=self.model)
        self.load = Load(self.gateway.url, rate=100)
        self.watch = Watch(self.gateway)

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """What is broken inside is mended at the end; from then on the time to converge counts."""
        with self.load, self.watch:
            yield
            mended_at = time.monotonic()
            self.gateway.wait_bound(3, name=self.model)
            self.took_seconds = time.monotonic() - mended_at

    def last(self, seconds: float) -> None:
        """Let it be broken so long."""
        wait_until(lambda: self.gateway.lines(DOWN), 20, self.gateway.story)
        assert not self.gateway.state()["registry"]["reachable"]
        time.sleep(seconds)

    def hurt_nobody(self, slack: float, figure: Figure) -> None:
        """The promise."""
        figure(f"{self.load.told()}; {self.watch.told()}; converged after {self.took_seconds:.1f} s")
        assert self.load.failed == []
        assert {one.version for one in self.load.seen if one.route_alias == "canary"} == {2}
        assert self.watch.readiness == {200}
        assert self.watch.longest_poll <= 10.0 * slack
        assert max(self.watch.threads) - min(self.watch.threads) <= 1
        assert len(self.watch.agent_threads) == 1
        assert [len(self.gateway.lines(line)) for line in (DOWN, UP)] == [1, 1]
        assert len(self.gateway.lines("child restarted")) <= 1
        assert self.took_seconds <= POLL_SECONDS + BACK_SECONDS * slack


def test_a_registry_server_that_is_killed_costs_no_request_and_is_followed_when_it_is_back(
    server: Server, start_at: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 12. Its port is refused for a minute; `FAULTS_OUTAGE_SECONDS=600` for the promised ten."""
    outage = Outage(server, start_at, server.uri)
    with outage.under_load():
        server.kill()
        outage.last(OUTAGE_SECONDS)
        server.start(120 * slack)
        outage.server.registry.client.set_registered_model_alias(outage.model, "production", "3")
    outage.hurt_nobody(slack, figure)


def test_a_registry_server_that_hangs_costs_no_request_and_is_followed_when_it_goes_on(
    server: Server, start_at: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 12. Every process of it is stopped: connections are taken, and nothing is said."""
    outage = Outage(server, start_at, server.uri)
    with outage.under_load():
        server.signal(signal.SIGSTOP)
        try:
            outage.last(OUTAGE_SECONDS)
        finally:
            server.signal(signal.SIGCONT)
        outage.server.registry.client.set_registered_model_alias(outage.model, "production", "3")
    outage.hurt_nobody(slack, figure)


def test_a_socket_that_never_answers_costs_no_request(
    server: Server, proxy: Proxy, start_at: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 12."""
    outage = Outage(server, start_at, proxy.uri)
    with outage.under_load():
        proxy.close()
        with black_hole(proxy.port):
            outage.last(NONSENSE_SECONDS)
        proxy.open()
        outage.server.registry.client.set_registered_model_alias(outage.model, "production", "3")
    outage.hurt_nobody(slack, figure)


@pytest.mark.parametrize("spoil", [a_byte_a_second, broken, too_many, a_page, endless_json])
def test_a_registry_that_answers_nonsense_costs_no_request(
    server: Server,
    proxy: Proxy,
    start_at: Callable[..., GatewayProcess],
    slack: float,
    figure: Figure,
    spoil: Spoil,
) -> None:
    """Row 12. A byte a second, 500, 429, a page of HTML, 100 MB of JSON."""
    outage = Outage(server, start_at, proxy.uri)
    with outage.under_load():
        proxy.spoil = spoil
        outage.last(NONSENSE_SECONDS)
        proxy.mend()
        proxy.close()  # as whoever mends it restarts it
        proxy.open()
        outage.server.registry.client.set_registered_model_alias(outage.model, "production", "3")
    outage.hurt_nobody(slack, figure)
