"""A gateway whose registry is about to break, under load and watched; and the promise for that."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.faults.watch import Watch
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry_backends import Server
from tests.support.waiting import wait_until

DOWN = "registry poll failed; what it last named stays"
UP = "the registry answers again"
LONGEST_POLL_SECONDS = 10.0
BACK_SECONDS = 5.0


class Outage:
    """It serves versions 1 and 2 of a model of its own; when the registry is back, 3 is production."""

    def __init__(self, server: Server, start: Callable[[str], GatewayProcess]) -> None:
        self._server = server
        self._model = server.registry.new_model(3, production=1, canary=2)
        self.gateway = start(f"  {self._model}: {{split: {{production: 50, canary: 50}}}}\n")
        self.gateway.wait_bound(2, "canary", name=self._model)
        self._load = Load(self.gateway.url, rate=100)
        self._watch = Watch(self.gateway)
        self._converged_seconds = 0.0

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """What is broken inside is mended at its end, and from then on the time to converge counts."""
        with self._load, self._watch:
            yield
            mended_at = time.monotonic()
            self._server.registry.client.set_registered_model_alias(self._model, "production", "3")
            self.gateway.wait_bound(3, name=self._model)
            self._converged_seconds = time.monotonic() - mended_at

    def last(self, seconds: float) -> None:
        """Let it be broken so long from the moment the gateway has noticed."""
        wait_until(lambda: self.gateway.lines(DOWN), 20, self.gateway.story)
        assert not self.gateway.state()["registry"]["reachable"]
        time.sleep(seconds)

    def hurt_nobody(self, slack: float, figure: Figure) -> None:
        """The promise."""
        watch = self._watch
        figure(f"{self._load.summary()}; {watch.summary()}; converged after {self._converged_seconds:.1f} s")
        assert self._load.failed == []
        assert {one.version for one in self._load.seen if one.route_alias == "canary"} == {2}
        assert watch.readiness == {200}
        assert watch.longest_poll <= LONGEST_POLL_SECONDS * slack
        assert max(watch.threads) - min(watch.threads) <= 1
        assert len(watch.agent_threads) == 1
        assert [len(self.gateway.lines(line)) for line in (DOWN, UP)] == [1, 1]
        assert len(self.gateway.lines("child restarted")) <= 1
        # What loading takes is the machine's affair, and no other than without an outage.
        load_seconds = sum(self.gateway.loads()[-1]["seconds"].values())
        assert self._converged_seconds - load_seconds <= POLL_SECONDS + BACK_SECONDS * slack
