"""Requests for which there is no room: whoever looks at the gateway sees that they were refused."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.e2e.conftest import Registry
from tests.support import faulty_registry
from tests.support.comparison import command
from tests.support.faulty_registry import PRODUCTION_KEY, body_of
from tests.support.gateway import GatewayProcess

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {split: {production: 100}, queue_rows: 1, threads: 1, batching: off}\n"


def test_what_production_refuses_is_in_the_state_and_ends_status_with_1(
    start: Callable[..., GatewayProcess], registry: Registry
) -> None:
    """A dozen callers at once of a version that takes 0.3 s and may keep one row waiting."""
    gateway = start(MODELS)
    assert command(gateway, "status", columns=200)[0] == 0
    headers = {"X-Request-Key": PRODUCTION_KEY, "Content-Type": "application/json"}

    def ask(_: int) -> int:
        url = f"{gateway.url}/invocations"
        return requests.post(url, data=body_of("sleep 0.3"), headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(12) as callers:
        codes = Counter(callers.map(ask, range(12)))
    model = gateway.model()
    code, shown = command(gateway, "status", columns=200)

    assert set(codes) == {200, 503}, codes
    refused = {"requests": 12, "refused": codes[503], "passed_on": 0, "refusing": True}
    assert model["last_minute"]["aliases"]["production"] == refused
    [warning] = model["warnings"]
    assert warning.startswith("production refused ")
    assert f"({codes[503]} of 12)" in warning
    assert (code, f"sentiment: {warning}" in shown.splitlines()) == (1, True), shown
    counted = {"alias": "production", "outcome": "overloaded", "code": "503"}
    assert gateway.metric("canary_router_requests_total", **counted) == codes[503]
