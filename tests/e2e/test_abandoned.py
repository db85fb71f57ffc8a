"""Callers that hang up, at a gateway in a process of its own: nothing is predicted for nobody."""

import socket
import struct
import time
from collections.abc import Callable

import pytest
import requests

from tests.support import faulty_registry
from tests.support.faulty_registry import PRODUCTION_KEY, body_of
from tests.support.gateway import GatewayProcess
from tests.support.raw_http import post
from tests.support.registry import Registry
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {split: {production: 100}, workers: 1, threads: 1, batching: off}\n"
ABANDONED = {"alias": "production", "outcome": "abandoned", "code": "499"}
CALLERS = 20
HANG_UP_SECONDS = 0.2


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    """As a proxy does whose own client went away."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def asking(gateway: GatewayProcess, text: str, times: int) -> socket.socket:
    """A connection that sent the same request so many times, and waits for the answers."""
    body = body_of(text)
    headers = f"Content-Type: application/json\r\nX-Request-Key: {PRODUCTION_KEY}\r\n"
    port = int(gateway.url.rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(post(f"{headers}Content-Length: {len(body)}\r\n".encode(), body) * times)
    return client


@pytest.mark.parametrize(
    "hang_up", [close, *(pytest.param(way, marks=pytest.mark.slow) for way in (reset, half_close))]
)
@pytest.mark.parametrize("pipelined", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_after_twenty_callers_hung_up_one_that_stays_is_answered_at_once(
    start: Callable[..., GatewayProcess],
    registry: Registry,
    slack: float,
    hang_up: Callable[[socket.socket], None],
    pipelined: int,
) -> None:
    """A predict takes a second: one runs already, the next one is for the caller that stays."""
    gateway = start(MODELS)
    clients = [asking(gateway, "sleep 1", pipelined) for _ in range(CALLERS)]
    in_flight = "canary_router_requests_in_flight"
    wait_until(lambda: gateway.metric(in_flight) == CALLERS, 5 * slack, gateway.story)
    hang_up_at = time.monotonic() + HANG_UP_SECONDS
    while time.monotonic() < hang_up_at:
        time.sleep(0.01)
    for client in clients:
        hang_up(client)
    asked_at = time.monotonic()
    answer = gateway.ask(PRODUCTION_KEY, "sleep 1")
    took = time.monotonic() - asked_at

    assert answer.status_code == 200
    assert took < 2 + 1 * slack
    assert gateway.metric("canary_router_predict_duration_seconds_count", alias="production") == 2
    assert gateway.metric("canary_router_requests_total", alias="production", outcome="ok") == 1
    assert gateway.metric("canary_router_requests_total", **ABANDONED) >= CALLERS
    assert gateway.metric(in_flight) == 0
    for client in clients:
        client.close()


def test_a_canary_whose_caller_hung_up_is_not_answered_by_production(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """It hangs for longer than its caller waits, and then it is ended."""
    gateway = start(
        "  sentiment: {split: {production: 50, canary: 50}, canary_timeout_seconds: 1, batching: off}\n"
    )
    gateway.wait_bound(2, "canary")
    headers = {"Content-Type": "application/json", "X-Request-Key": faulty_registry.CANARY_KEY}
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{gateway.url}/invocations", data=body_of("stuck"), headers=headers, timeout=HANG_UP_SECONDS
        )
    abandoned = {"alias": "canary", "outcome": "abandoned"}
    wait_until(
        lambda: gateway.metric("canary_router_requests_total", **abandoned) == 1, 5 * slack, gateway.story
    )
    beyond = time.monotonic() + 1.5  # past the canary's own time, at which production would be asked
    while time.monotonic() < beyond:
        time.sleep(0.01)

    assert gateway.metric("canary_router_fallbacks_total") == 0
    assert gateway.metric("canary_router_canary_faults_total") == 0
    assert gateway.metric("canary_router_predict_duration_seconds_count", alias="production") == 0
