"""A registry server that is killed, hangs or answers nonsense: who asks the gateway notices nothing."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.faults.network import cables
from tests.faults.outage import Outage
from tests.support.faulty_servers import (
    Proxy,
    Spoil,
    a_byte_a_second,
    a_page,
    black_hole,
    broken,
    endless_json,
    too_many,
)
from tests.support.gateway import GatewayProcess
from tests.support.registry_backends import RealRegistry, Server, seed

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = float(os.environ.get("FAULTS_OUTAGE_SECONDS", "60"))
"""How long a server that is killed or stopped stays so; the promise is for 10 min, which is 600 here."""
NONSENSE_SECONDS = 25.0
"""How long what answers nonsense does: two polls of the longest kind."""
CABLE_SECONDS = 20.0

StartAt = Callable[..., GatewayProcess]


def test_a_registry_server_that_is_killed_costs_no_request_and_is_followed_when_it_is_back(
    server: Server, start_at: StartAt, slack: float, figure: Figure
) -> None:
    """Row 12. Its port is refused for a minute; `FAULTS_OUTAGE_SECONDS=600` for the promised ten."""
    outage = Outage(server, partial(start_at, uri=server.uri))
    with outage.under_load():
        server.kill()
        outage.last(OUTAGE_SECONDS)
        server.start(120 * slack)
    outage.hurt_nobody(slack, figure)


def test_a_registry_server_that_hangs_costs_no_request_and_is_followed_when_it_goes_on(
    server: Server, start_at: StartAt, slack: float, figure: Figure
) -> None:
    """Row 12. Every process of it is stopped: connections are taken, and nothing is said."""
    outage = Outage(server, partial(start_at, uri=server.uri))
    with outage.under_load():
        server.signal(signal.SIGSTOP)
        try:
            outage.last(OUTAGE_SECONDS)
        finally:
            server.signal(signal.SIGCONT)
    outage.hurt_nobody(slack, figure)


def test_a_socket_that_never_answers_costs_no_request(
    server: Server, proxy: Proxy, start_at: StartAt, slack: float, figure: Figure
) -> None:
    """Row 12."""
    outage = Outage(server, partial(start_at, uri=proxy.uri))
    with outage.under_load():
        proxy.close()
        with black_hole(proxy.port):
            outage.last(NONSENSE_SECONDS)
        proxy.open()
    outage.hurt_nobody(slack, figure)


@pytest.mark.parametrize("spoil", [a_byte_a_second, broken, too_many, a_page, endless_json])
def test_a_registry_that_answers_nonsense_costs_no_request(
    server: Server, proxy: Proxy, start_at: StartAt, slack: float, figure: Figure, spoil: Spoil
) -> None:
    """Row 12. A byte a second, 500, 429, a page of HTML, 100 MB of JSON."""
    outage = Outage(server, partial(start_at, uri=proxy.uri))
    with outage.under_load():
        proxy.spoil = spoil
        outage.last(NONSENSE_SECONDS)
        proxy.mend()
        proxy.close()  # as whoever mends it restarts it
        proxy.open()
    outage.hurt_nobody(slack, figure)


def test_a_cable_that_is_pulled_between_gateway_and_registry_costs_no_request(
    start_at: StartAt, tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Row 12. Packets vanish, in a network of its own: no port refuses, no connection ends."""
    with cables() as between:
        server = Server(tmp_path, between.registry_host)
        try:
            server.start(120 * slack)
            seed(server.uri, tmp_path)
            address = f"{between.gateway_host}:8080"
            inside = (*between.inside, sys.executable)
            start = partial(start_at, uri=server.uri, command=inside, CANARY_ROUTER_SERVER__LISTEN=address)
            outage = Outage(server, start)
            with outage.under_load():
                between.pull()
                outage.last(CABLE_SECONDS)
                between.plug()
            outage.hurt_nobody(slack, figure)
        finally:
            server.kill()


def test_whatever_is_done_to_a_rollout_the_gateway_writes_nothing_to_the_registry(
    server: Server, proxy: Proxy, start_at: StartAt, slack: float
) -> None:
    """Aliases move, a canary is capped, promoted and rolled back; who writes is the operator's command."""
    registry = RealRegistry(server.uri, server.directory, server.directory)
    model = registry.new_model(production=1, canary=2)
    gateway = start_at(f"  {model}: {{split: {{production: 50, canary: 50}}}}\n", uri=proxy.uri)
    gateway.wait_bound(1, "production", 60 * slack, model)
    gateway.wait_bound(2, "canary", 60 * slack, model)

    def operator(*arguments: str) -> None:
        asked = ("--url", gateway.admin, "--reason", "asked for by a test", "--by", "ann")
        done = gateway.command(*arguments, *asked)
        assert done.returncode == 0, done.stdout + done.stderr

    operator("abort", model)
    operator("resume", model)
    operator("promote", model, "--yes", "--registry", server.uri)
    assert gateway.bound(name=model) == 2
    operator("rollback", model, "--registry", server.uri)
    assert gateway.bound(name=model) == 1

    assert registry.client.get_model_version_by_alias(model, "previous").version == "1"
    assert len(proxy.paths) > 4
    assert proxy.writes == []
